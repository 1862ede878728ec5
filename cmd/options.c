#include "cmd/options.h"

#include "cmd/command.h"
#include "lib/str.h"
#include "workloads/data/number.h"

#include <stdio.h>

#define YEAR_MS (INT64_C(366) * 24 * 3600 * 1000)

/* One walk over the arguments. */
struct walk {
    const struct fl_options *options;
    struct fl_arena *arena;
    int argc, at;
    char **argv;
};

/* "90m" at the beginning of `*text`, which moves behind it; < 0 where there is none. */
static int64_t take_part(const char **text)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(*text, "0123456789"), unit_len;
    int64_t number = 0;

    if (digits == 0 || digits > 12)
        return -1;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + ((*text)[i] - '0');
    *text += digits;
    unit_len = strcspn(*text, "0123456789");
    for (size_t i = 0; i < FL_COUNT_OF(units); i++)
        if (strlen(units[i].unit) == unit_len && memcmp(units[i].unit, *text, unit_len) == 0) {
            *text += unit_len;
            return number <= YEAR_MS / units[i].ms ? number * units[i].ms : -1;
        }
    return -1;
}

bool fl_option_duration(const char *text, int64_t *ret_ms)
{
    int64_t total = 0;

    if (fl_str_to_int64(text, 0, YEAR_MS / 1000, &total)) {
        *ret_ms = total * 1000;
        return true;
    }
    total = 0;
    do {
        int64_t part = take_part(&text);

        if (part < 0 || total + part > YEAR_MS)
            return false;
        total += part;
    } while (*text);
    *ret_ms = total;
    return true;
}

static bool parse_bool(const char *text, bool *ret_value)
{
    *ret_value = fl_streq(text, "true") || fl_streq(text, "1");
    return *ret_value || fl_streq(text, "false") || fl_streq(text, "0");
}

static bool parse_real(const char *text, double *ret_value)
{
    const char *end = text + strlen(text);
    double value;

    if (fl_number_read(text, end, &value) != end || !(value >= 0))
        return false;
    *ret_value = value;
    return true;
}

static int bad_value(const struct walk *walk, const struct fl_option *option, const char *text,
                     const char *wanted)
{
    return fl_command_usage(walk->options->command, "--%s %s: must be %s", option->name, text,
                            wanted);
}

static void add_word(const struct walk *walk, struct fl_words *words, const char *text)
{
    if (!words->items)
        words->items = fl_new_array(walk->arena, const char *, (size_t)walk->argc);
    words->items[words->count++] = text;
}

/* `text` NULL: a flag without a value. */
static int set_value(const struct walk *walk, const struct fl_option *option, const char *given)
{
    const char *text = fl_str_or(given, "");

    switch (option->type) {
    case FL_OPTION_FLAG:
        if (parse_bool(given ? given : "true", option->value))
            return -1;
        return bad_value(walk, option, text, "true or false");
    case FL_OPTION_CHOICE:
    case FL_OPTION_TEXT:
        *(const char **)option->value = text;
        return -1;
    case FL_OPTION_LIST:
        add_word(walk, option->value, text);
        return -1;
    case FL_OPTION_INT:
        if (fl_str_to_int64(text, 0, INT64_MAX, option->value))
            return -1;
        return bad_value(walk, option, text, "a whole number");
    case FL_OPTION_REAL:
        if (parse_real(text, option->value))
            return -1;
        return bad_value(walk, option, text, "a number such as 0.1");
    case FL_OPTION_DURATION:
    default:
        if (fl_option_duration(text, option->value))
            return -1;
        return bad_value(walk, option, text, "a duration such as 30s, 5m or 1h30m");
    }
}

static bool needs_value(const struct fl_option *option)
{
    return option->type != FL_OPTION_FLAG && option->type != FL_OPTION_CHOICE;
}

static const char *next_argument(struct walk *walk)
{
    return walk->at + 1 < walk->argc ? walk->argv[++walk->at] : NULL;
}

static int take_long(struct walk *walk, const char *text)
{
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : strlen(text);

    for (size_t i = 0; i < walk->options->count; i++) {
        const struct fl_option *option = &walk->options->items[i];
        const char *value = equals ? equals + 1 : NULL;

        if (strlen(option->name) != len || memcmp(option->name, text, len) != 0)
            continue;
        if (!value && needs_value(option)) {
            value = next_argument(walk);
            if (!value)
                return fl_command_usage(walk->options->command, "--%s needs a value", option->name);
        }
        return set_value(walk, option, value);
    }
    return fl_command_usage(walk->options->command, "unknown option --%.*s", (int)len, text);
}

/* One argument may hold several flags, and the value of the last: "-An", "default". */
static int take_letters(struct walk *walk, const char *letters)
{
    for (; *letters; letters++) {
        const struct fl_option *option = NULL;
        const char *value = NULL;
        int status;

        for (size_t i = 0; !option && i < walk->options->count; i++)
            if (walk->options->items[i].letter == *letters)
                option = &walk->options->items[i];
        if (!option)
            return fl_command_usage(walk->options->command, "unknown option -%c", *letters);
        if (needs_value(option)) {
            value = letters[1] ? letters + 1 + (letters[1] == '=') : next_argument(walk);
            if (!value)
                return fl_command_usage(walk->options->command, "-%c needs a value", *letters);
        }
        status = set_value(walk, option, value);
        if (status >= 0 || value)
            return status;
    }
    return -1;
}

int fl_options_parse(const struct fl_options *options, struct fl_arena *arena, int argc,
                     char **argv, struct fl_words *ret_words)
{
    struct walk walk = {.options = options, .arena = arena, .argc = argc, .argv = argv};
    bool ended = false;

    for (walk.at = 1; walk.at < argc; walk.at++) {
        const char *text = argv[walk.at];
        int status = -1;

        if (ended || text[0] != '-' || !text[1]) {
            add_word(&walk, ret_words, text);
        } else if (strcmp(text, "--") == 0) {
            ended = true;
        } else if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) {
            (void)fputs(options->help, stdout);
            return 0;
        } else {
            status = text[1] == '-' ? take_long(&walk, text + 2) : take_letters(&walk, text + 1);
        }
        if (status >= 0)
            return status;
    }
    return -1;
}
