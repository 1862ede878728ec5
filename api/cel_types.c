#include "api/cel_internal.h"
#include "lib/str.h"

/* Types before an expression runs: from the schema of the variables, and from signatures.
 *
 * Letters of a signature's arguments: b bool, i int, u uint, d double, s string, y bytes,
 * t timestamp, D duration, T type, l list, m map, o optional, q quantity, U url, p ip, c cidr,
 * S list of strings, B list of what has an order, N list of what has a sum, * anything.
 * Of its result, besides: 0 as the first argument, e its element, x what is in the optional,
 * O an optional of it, Q a map of strings to lists of strings. */

const struct cel_type fl_cel_dyn = {.kind = CEL_DYN};

const struct cel_type *fl_cel_type_basic(enum cel_kind kind)
{
    static const struct cel_type dyn_list = {.kind = CEL_LIST, .inner = &fl_cel_dyn};
    static const struct cel_type dyn_map = {
        .kind = CEL_MAP, .inner = &fl_cel_dyn, .key = &fl_cel_dyn};
    static const struct cel_type dyn_optional = {.kind = CEL_OPTIONAL, .inner = &fl_cel_dyn};
    static const struct cel_type basics[] = {
        [CEL_NULL] = {.kind = CEL_NULL},
        [CEL_BOOL] = {.kind = CEL_BOOL},
        [CEL_INT] = {.kind = CEL_INT},
        [CEL_UINT] = {.kind = CEL_UINT},
        [CEL_DOUBLE] = {.kind = CEL_DOUBLE},
        [CEL_STRING] = {.kind = CEL_STRING},
        [CEL_BYTES] = {.kind = CEL_BYTES},
        [CEL_TIMESTAMP] = {.kind = CEL_TIMESTAMP},
        [CEL_DURATION] = {.kind = CEL_DURATION},
        [CEL_TYPE] = {.kind = CEL_TYPE},
        [CEL_QUANTITY] = {.kind = CEL_QUANTITY},
        [CEL_URL] = {.kind = CEL_URL},
        [CEL_IP] = {.kind = CEL_IP},
        [CEL_CIDR] = {.kind = CEL_CIDR},
        [CEL_FORMAT] = {.kind = CEL_FORMAT},
    };

    switch (kind) {
    case CEL_LIST:
        return &dyn_list;
    case CEL_MAP:
        return &dyn_map;
    case CEL_OPTIONAL:
        return &dyn_optional;
    case CEL_ERROR:
    case CEL_DYN:
    case CEL_STRUCT:
        return &fl_cel_dyn;
    default:
        return &basics[kind];
    }
}

const struct cel_type *fl_cel_type_make(struct fl_arena *arena, enum cel_kind kind,
                                        const struct cel_type *inner, const struct cel_type *key)
{
    struct cel_type *type = fl_new(arena, struct cel_type);

    *type = (struct cel_type){.kind = kind, .inner = inner, .key = key};
    return type;
}

static enum cel_kind kind_of_format(const char *format)
{
    if (fl_streq(format, "duration"))
        return CEL_DURATION;
    if (fl_streq(format, "date-time") || fl_streq(format, "date"))
        return CEL_TIMESTAMP;
    return fl_streq(format, "byte") ? CEL_BYTES : CEL_STRING;
}

const struct cel_type *fl_cel_type_of_node(struct fl_arena *arena,
                                           const struct fl_schema_node *node)
{
    struct cel_type *type;

    switch (fl_schema_node_type(node)) {
    case FL_SCHEMA_OBJECT:
        type = fl_new(arena, struct cel_type);
        type->node = node;
        type->kind = CEL_STRUCT;
        if (!fl_schema_node_is_struct(node)) {
            const struct fl_schema_node *value = fl_schema_node_member(node, "");

            type->kind = value ? CEL_MAP : CEL_DYN;
            type->key = fl_cel_type_basic(CEL_STRING);
            type->inner = value ? fl_cel_type_of_node(arena, value) : &fl_cel_dyn;
        }
        return type;
    case FL_SCHEMA_ARRAY:
        return fl_cel_type_make(arena, CEL_LIST,
                                fl_cel_type_of_node(arena, fl_schema_node_items(node)), NULL);
    case FL_SCHEMA_STRING:
        return fl_cel_type_basic(kind_of_format(fl_schema_node_format(node)));
    case FL_SCHEMA_INTEGER:
        return fl_cel_type_basic(CEL_INT);
    case FL_SCHEMA_NUMBER:
        return fl_cel_type_basic(CEL_DOUBLE);
    case FL_SCHEMA_BOOLEAN:
        return fl_cel_type_basic(CEL_BOOL);
    default:
        return &fl_cel_dyn;
    }
}

static bool takes_null(enum cel_kind kind)
{
    return kind == CEL_STRUCT || kind == CEL_TIMESTAMP || kind == CEL_DURATION ||
           kind >= CEL_OPTIONAL;
}

/* Whether a value may be of both types. */
bool fl_cel_type_fits(const struct cel_type *a, const struct cel_type *b)
{
    if (a->kind == CEL_DYN || b->kind == CEL_DYN)
        return true;
    if (a->kind == CEL_NULL || b->kind == CEL_NULL)
        return a->kind == b->kind || takes_null(a->kind == CEL_NULL ? b->kind : a->kind);
    if (a->kind != b->kind)
        return false;
    if (a->kind == CEL_STRUCT)
        return a->node == b->node;
    if (a->kind == CEL_MAP && !fl_cel_type_fits(a->key, b->key))
        return false;
    return !a->inner || fl_cel_type_fits(a->inner, b->inner);
}

const struct cel_type *fl_cel_type_join(const struct cel_type *a, const struct cel_type *b)
{
    if (a->kind == CEL_NULL)
        return b;
    if (a->kind == CEL_DYN || b->kind == CEL_DYN)
        return &fl_cel_dyn;
    /* of two lists, the one that knows less of its elements */
    if (a->inner && b->inner && b->inner->kind == CEL_DYN)
        return b;
    return a;
}

const char *fl_cel_type_text(struct fl_arena *arena, const struct cel_type *type)
{
    struct cel_value value = {.kind = type->kind};

    switch (type->kind) {
    case CEL_DYN:
        return "dyn";
    case CEL_STRUCT:
        return "object";
    case CEL_NULL:
        return "null";
    case CEL_TIMESTAMP:
        return "timestamp";
    case CEL_DURATION:
        return "duration";
    case CEL_LIST:
    case CEL_OPTIONAL:
        return fl_arena_printf(arena, "%s(%s)", fl_cel_type_name(&value),
                               fl_cel_type_text(arena, type->inner));
    case CEL_MAP:
        return fl_arena_printf(arena, "map(%s, %s)", fl_cel_type_text(arena, type->key),
                               fl_cel_type_text(arena, type->inner));
    default:
        return fl_cel_type_name(&value);
    }
}

static enum cel_kind kind_of_letter(char letter)
{
    static const struct {
        char letter;
        enum cel_kind kind;
    } letters[] = {
        {'b', CEL_BOOL},     {'i', CEL_INT},   {'u', CEL_UINT},      {'d', CEL_DOUBLE},
        {'s', CEL_STRING},   {'y', CEL_BYTES}, {'t', CEL_TIMESTAMP}, {'D', CEL_DURATION},
        {'T', CEL_TYPE},     {'l', CEL_LIST},  {'m', CEL_MAP},       {'o', CEL_OPTIONAL},
        {'q', CEL_QUANTITY}, {'U', CEL_URL},   {'p', CEL_IP},        {'c', CEL_CIDR},
        {'f', CEL_FORMAT},   {'S', CEL_LIST},  {'B', CEL_LIST},      {'N', CEL_LIST},
    };

    for (size_t i = 0; i < FL_COUNT_OF(letters); i++) {
        if (letters[i].letter == letter)
            return letters[i].kind;
    }
    return CEL_DYN;
}

static bool has_order(enum cel_kind kind)
{
    return (kind >= CEL_BOOL && kind <= CEL_BYTES) || kind == CEL_TIMESTAMP || kind == CEL_DURATION;
}

static bool has_sum(enum cel_kind kind)
{
    return (kind >= CEL_INT && kind <= CEL_DOUBLE) || kind == CEL_DURATION;
}

static bool takes(char letter, const struct cel_type *type)
{
    enum cel_kind inner = type->inner ? type->inner->kind : CEL_DYN;

    if (type->kind == CEL_DYN || letter == '*')
        return true;
    if (type->kind == CEL_NULL)
        return takes_null(kind_of_letter(letter));
    if (type->kind != kind_of_letter(letter))
        return false;
    if (inner == CEL_DYN)
        return true;
    return letter == 'S'   ? inner == CEL_STRING
           : letter == 'B' ? has_order(inner)
                           : letter != 'N' || has_sum(inner);
}

static const struct cel_type *result_of(struct fl_arena *arena, char letter,
                                        const struct cel_type *first)
{
    const struct cel_type *string = fl_cel_type_basic(CEL_STRING);

    switch (letter) {
    case '0':
        return first;
    case 'e':
    case 'x':
        return first->inner ? first->inner : &fl_cel_dyn;
    case 'O':
        return fl_cel_type_make(arena, CEL_OPTIONAL, first, NULL);
    case 'S':
        return fl_cel_type_make(arena, CEL_LIST, string, NULL);
    case 'Q':
        return fl_cel_type_make(arena, CEL_MAP, fl_cel_type_make(arena, CEL_LIST, string, NULL),
                                string);
    case 'F':
        return fl_cel_type_make(arena, CEL_OPTIONAL, fl_cel_type_basic(CEL_FORMAT), NULL);
    case 'R':
        return fl_cel_type_make(arena, CEL_OPTIONAL, result_of(arena, 'S', &fl_cel_dyn), NULL);
    default:
        return fl_cel_type_basic(kind_of_letter(letter));
    }
}

const struct cel_type *fl_cel_type_call(struct fl_arena *arena, const char *signature,
                                        const struct cel_type *const *args, size_t count)
{
    const struct cel_type *result = NULL;

    while (*signature) {
        size_t arity = strcspn(signature, ">"), i = 0;

        while (arity == count && i < count && takes(signature[i], args[i]))
            i++;
        if (arity == count && i == count) {
            const struct cel_type *one =
                result_of(arena, signature[arity + 1], count ? args[0] : &fl_cel_dyn);

            result = !result || result->kind == one->kind ? one : &fl_cel_dyn;
        }
        signature += arity + 2;
        signature += *signature == '|';
    }
    return result;
}
