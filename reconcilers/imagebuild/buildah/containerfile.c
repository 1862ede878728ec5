#include "reconcilers/imagebuild/buildah/containerfile.h"

#include "lib/buf.h"
#include "lib/str.h"

#include <string.h>
#include <strings.h>

struct reading {
    const char *at, *end;
    size_t line, first; /* numbers: of what was read last, and where the command begins */
    struct fl_buf command;
    struct fl_arena *arena;
    struct fl_containerfile found;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* "# escape=`" at the top would make other lines continue than those that we think do. */
static bool is_escape_directive(const char *text, size_t len)
{
    static const char word[] = "escape";

    for (text++, len--; len > 0 && is_space(*text); text++, len--)
        ;
    if (len <= sizeof(word) || strncasecmp(text, word, sizeof(word) - 1) != 0)
        return false;
    text += sizeof(word) - 1, len -= sizeof(word) - 1;
    while (len > 0 && is_space(*text))
        text++, len--;
    return len > 0 && *text == '=' && !memchr(text, '\\', len);
}

static size_t leading_space(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && is_space(text[n]))
        n++;
    return n;
}

/* One line, added to the command. Returns whether the command goes on. */
static int take_line(struct reading *reading, struct fl_error *err)
{
    const char *newline = memchr(reading->at, '\n', (size_t)(reading->end - reading->at));
    const char *text = reading->at;
    size_t len = (size_t)((newline ? newline : reading->end) - text), skipped;
    bool goes_on;

    reading->at = newline ? newline + 1 : reading->end;
    reading->line++;
    while (len > 0 && is_space(text[len - 1]))
        len--;
    skipped = leading_space(text, len);
    if (reading->command.len == 0)
        text += skipped, len -= skipped, skipped = 0;
    if (len > skipped && text[skipped] == '#' && is_escape_directive(text + skipped, len - skipped))
        return fl_error_set(err, FL_E_INVALID, "line %zu: lines are continued by \\ here",
                            reading->line);
    if (len == skipped || text[skipped] == '#')
        return reading->command.len > 0; /* left out, within a command, too */
    if (reading->command.len == 0)
        reading->first = reading->line;
    goes_on = text[len - 1] == '\\';
    fl_buf_append(&reading->command, text, goes_on ? len - 1 : len);
    return goes_on;
}

/* A line that ends in a backslash goes on with all that the next one has, its spaces too. > 0:
 * there is a command. */
static int next_command(struct reading *reading, struct fl_error *err)
{
    fl_buf_clear(&reading->command);
    while (reading->at < reading->end) {
        int r = take_line(reading, err);

        if (r < 0)
            return r;
        if (r == 0 && reading->command.len > 0)
            break;
    }
    return reading->command.len > 0;
}

static const char *next_word(const char **rest, struct fl_arena *arena)
{
    const char *begin = *rest, *end;

    while (is_space(*begin))
        begin++;
    for (end = begin; *end && !is_space(*end); end++)
        ;
    *rest = end;
    return *begin ? fl_arena_strndup(arena, begin, (size_t)(end - begin)) : NULL;
}

/* "oci:/srv/x": an image of this machine's, and not of a registry. */
static bool is_of_machine(const char *image)
{
    static const char *const transports[] = {"oci:",
                                             "oci-archive:",
                                             "docker-archive:",
                                             "docker-daemon:",
                                             "containers-storage:",
                                             "dir:",
                                             "ostree:",
                                             "sif:",
                                             "tarball:",
                                             "docker-image:",
                                             "atomic:"};

    image += *image == '"' || *image == '\'';
    for (size_t i = 0; i < FL_COUNT_OF(transports); i++)
        if (strncasecmp(image, transports[i], strlen(transports[i])) == 0)
            return true;
    return *image == '/' || *image == '.';
}

static int refuse_image(const struct reading *reading, const char *image, struct fl_error *err)
{
    return fl_error_set(err, FL_E_INVALID,
                        "line %zu: %.80s is an image of the builder's machine: only those of "
                        "registries and earlier stages can be had",
                        reading->first, image);
}

static bool is_outside(const char *value)
{
    return strchr(value, '/') || strstr(value, "..") || strchr(value, '$');
}

/* "type=cache,target=/root/.cache,id=pip" */
static int check_mount(const struct reading *reading, const char *options, struct fl_error *err)
{
    const char *type = "bind", *rest = options, *option;
    bool leads_out = false;

    while (rest && (option = fl_str_next(reading->arena, &rest, ','))) {
        const char *equals = strchr(option, '=');
        size_t len = equals ? (size_t)(equals - option) : strlen(option);

        if (equals && len == 4 && strncasecmp(option, "type", 4) == 0)
            type = equals + 1;
        else if (equals &&
                 (strncasecmp(option, "id", len) == 0 || strncasecmp(option, "from", len) == 0 ||
                  strncasecmp(option, "source", len) == 0 || strncasecmp(option, "src", len) == 0))
            leads_out |= is_outside(equals + 1);
    }
    if (strcasecmp(type, "secret") == 0 || strcasecmp(type, "tmpfs") == 0 ||
        (strcasecmp(type, "cache") == 0 && !leads_out))
        return 0;
    return fl_error_set(err, FL_E_INVALID,
                        "line %zu: --mount=%.80s: only caches (with a plain id), secrets and tmpfs "
                        "are mounted here: COPY what is needed",
                        reading->first, options);
}

static int check_word(const struct reading *reading, const char *word, struct fl_error *err)
{
    static const char mount[] = "--mount", from[] = "--from=";

    word += *word == '"' || *word == '\'';
    if (fl_str_has_prefix(word, mount) && word[sizeof(mount) - 1] == '=')
        return check_mount(reading, word + sizeof(mount), err);
    if (fl_str_has_prefix(word, from) && is_of_machine(word + sizeof(from) - 1))
        return refuse_image(reading, word + sizeof(from) - 1, err);
    return 0;
}

static int take_from(struct reading *reading, const char *rest, struct fl_error *err)
{
    const char *word;

    reading->found.stages++;
    do
        word = next_word(&rest, reading->arena);
    while (word && fl_str_has_prefix(word, "--"));
    return word && is_of_machine(word) ? refuse_image(reading, word, err) : 0;
}

static int take_command(struct reading *reading, struct fl_error *err)
{
    const char *rest = fl_buf_text(&reading->command), *word = next_word(&rest, reading->arena);
    int r = 0;

    if (word && strcasecmp(word, "ONBUILD") == 0)
        word = next_word(&rest, reading->arena);
    if (!word)
        return 0;
    if (strcasecmp(word, "FROM") == 0)
        return take_from(reading, rest, err);
    if (strcasecmp(word, "RUN") == 0)
        reading->found.runs = true;
    else if (strcasecmp(word, "COPY") != 0 && strcasecmp(word, "ADD") != 0)
        return 0;
    while (r == 0 && (word = next_word(&rest, reading->arena)))
        r = check_word(reading, word, err);
    return r;
}

int fl_containerfile_read(const char *text, size_t len, struct fl_containerfile *ret_containerfile,
                          struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct reading reading = {.at = text, .end = text + len, .arena = arena};
    int r = 1;

    if (len > FL_CONTAINERFILE_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "a Containerfile of %zu bytes is too long", len);
    if (memchr(text, '\0', len))
        return fl_error_set(err, FL_E_INVALID, "it is no text");
    fl_buf_init(&reading.command, 0);
    while (r > 0 && (r = next_command(&reading, err)) > 0) {
        r = take_command(&reading, err);
        r = r == 0 ? 1 : r;
    }
    fl_buf_finish(&reading.command);
    if (r < 0)
        return r;
    if (reading.found.stages == 0)
        return fl_error_set(err, FL_E_INVALID, "there is no line FROM");
    *ret_containerfile = reading.found;
    return 0;
}
