#include "api/cel_internal.h"
#include "api/meta.h"
#include "api/schema_internal.h"
#include "lib/str.h"

/* format.dns1123Label().validate(text) and its sisters: none where the text is valid, otherwise a
 * list of what is wrong. */

struct cel_format {
    const char *name;
    bool (*is)(const char *text, const char **ret_why);
    bool prefix;         /* a name's beginning, to which more is added: may end in a dash */
    const char *format;  /* of a schema, where `is` is NULL */
    const char *problem; /* what is wrong then */
};

static bool is_dns_1035_label(const char *text, const char **ret_why)
{
    if (!fl_name_is_label(text, ret_why) && strlen(text) > 63)
        return false;
    *ret_why = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start "
               "with an alphabetic character, and end with an alphanumeric character (e.g. "
               "'my-name',  or 'abc-123', regex used for validation is "
               "'[a-z]([-a-z0-9]*[a-z0-9])?')";
    return *text >= 'a' && *text <= 'z' && fl_name_is_label(text, &(const char *){NULL});
}

static const struct cel_format formats[] = {
    {"dns1123Label", fl_name_is_label, false, NULL, NULL},
    {"dns1123Subdomain", fl_name_is_subdomain, false, NULL, NULL},
    {"dns1035Label", is_dns_1035_label, false, NULL, NULL},
    {"qualifiedName", fl_name_is_qualified, false, NULL, NULL},
    {"dns1123LabelPrefix", fl_name_is_label, true, NULL, NULL},
    {"dns1123SubdomainPrefix", fl_name_is_subdomain, true, NULL, NULL},
    {"dns1035LabelPrefix", is_dns_1035_label, true, NULL, NULL},
    {"labelValue", fl_name_is_label_value, false, NULL, NULL},
    {"uri", NULL, false, "uri", "is not an absolute URI"},
    {"uuid", NULL, false, "uuid", "does not match the UUID format"},
    {"byte", NULL, false, "byte", "invalid base64"},
    {"date", NULL, false, "date", "invalid date"},
    {"datetime", NULL, false, "date-time", "invalid datetime"},
};

static struct cel_value make(const struct cel_format *format)
{
    return (struct cel_value){.kind = CEL_FORMAT, .format = format};
}

static struct cel_value find(struct cel_eval *eval, const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(formats); i++) {
        if (!strcmp(formats[i].name, name)) {
            struct cel_value value = make(&formats[i]);

            return fl_cel_optional(eval, &value);
        }
    }
    return fl_cel_optional(eval, NULL);
}

static struct cel_value named(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    return find(eval, fl_cel_strdup(eval, &args[0]));
}

static const char *problem_of(struct cel_eval *eval, const struct cel_format *format,
                              const struct cel_value *value)
{
    char *text = fl_cel_strdup(eval, value);
    const char *why = format->problem;
    size_t len = value->text.len;

    if (!format->is)
        return fl_schema_format_matches(fl_schema_format_find(format->format), text, len) ? NULL
                                                                                          : why;
    if (format->prefix && len > 1 && text[len - 1] == '-') {
        text[len - 2] = 'a';
        text[len - 1] = '\0';
    }
    return format->is(text, &why) ? NULL : why;
}

static struct cel_value validate(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_items problems = {0};
    struct cel_value value;
    const char *problem;

    (void)count;
    if (args[0].kind != CEL_FORMAT || args[1].kind != CEL_STRING)
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, args[1].text.len / 5))
        return fl_cel_too_costly();
    problem = problem_of(eval, args[0].format, &args[1]);
    if (!problem)
        return fl_cel_optional(eval, NULL);
    value = fl_cel_cstring(problem);
    fl_cel_push(eval, &problems, &value);
    value = cel_list(problems.items, problems.count);
    return fl_cel_optional(eval, &value);
}

#define MAKER(index)                                                                               \
    static struct cel_value make_##index(struct cel_eval *eval, const struct cel_value *args,      \
                                         size_t count)                                             \
    {                                                                                              \
        (void)eval;                                                                                \
        (void)args;                                                                                \
        (void)count;                                                                               \
        return make(&formats[index]);                                                              \
    }
MAKER(0)
MAKER(1)
MAKER(2)
MAKER(3)
MAKER(4)
MAKER(5)
MAKER(6)
MAKER(7)
MAKER(8)
MAKER(9)
MAKER(10)
MAKER(11)
MAKER(12)

/* In the order of `formats`. */
const struct cel_function fl_cel_named_format_functions[] = {
    {"format.dns1123Label", false, ">f", make_0},
    {"format.dns1123Subdomain", false, ">f", make_1},
    {"format.dns1035Label", false, ">f", make_2},
    {"format.qualifiedName", false, ">f", make_3},
    {"format.dns1123LabelPrefix", false, ">f", make_4},
    {"format.dns1123SubdomainPrefix", false, ">f", make_5},
    {"format.dns1035LabelPrefix", false, ">f", make_6},
    {"format.labelValue", false, ">f", make_7},
    {"format.uri", false, ">f", make_8},
    {"format.uuid", false, ">f", make_9},
    {"format.byte", false, ">f", make_10},
    {"format.date", false, ">f", make_11},
    {"format.datetime", false, ">f", make_12},
    {"format.named", false, "s>F", named},
    {"validate", true, "fs>R", validate},
    {0},
};
