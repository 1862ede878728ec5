/* Running the program, and what it says. */
#include "reconcilers/imagebuild/buildah/buildah_internal.h"

#include "lib/str.h"

#include <string.h>

#define OUTPUT_MAX ((size_t)256 * 1024 * 1024)
#define LINE_MAX_  4000
#define LAST_LINES 5
#define LAST_BYTES 190
#define STEP_BYTES 90

struct hearing {
    struct fl_buildah *buildah;
    bool is_told;
    struct fl_buf line;
    char last[LAST_LINES][LAST_BYTES + 1]; /* a ring */
    size_t lines;
};

/* Colours and bars are for terminals. */
static size_t without_controls(char *text, size_t len)
{
    size_t kept = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '\r')
            kept = 0;
        else if (c == 27 && i + 1 < len && text[i + 1] == '[')
            for (i += 2; i < len && !(text[i] >= '@' && text[i] <= '~'); i++)
                ;
        else if (c >= ' ' || c == '\t')
            text[kept++] = text[i];
    }
    return kept;
}

/* What helps nobody to find what failed: which steps there were, and images' identities. */
static bool is_remark(const char *line)
{
    static const char *const begins[] = {"STEP ",
                                         "-->",
                                         "[Warning]",
                                         "Getting image",
                                         "Copying ",
                                         "Writing manifest",
                                         "Storing signatures",
                                         "subprocess exited with status",
                                         "note: This ",
                                         "hint: See above"};

    if (!line[strspn(line, " \t")] || strstr(line, "level=warning"))
        return true;
    if (*line == '[' && strstr(line, "] STEP "))
        return true;
    for (size_t i = 0; i < FL_COUNT_OF(begins); i++)
        if (fl_str_has_prefix(line, begins[i]))
            return true;
    return false;
}

/* The step that failed was logged when it began: its first words will do. */
static void shorten(char *line)
{
    static const char begin[] = "Error: building at STEP ";
    char *end = NULL;

    if (!fl_str_has_prefix(line, begin))
        return;
    for (char *at = line; (at = strstr(at, "\": ")); at++)
        end = at;
    if (end && end - line > STEP_BYTES) {
        size_t cut = fl_utf8_cut(line, strlen(line), STEP_BYTES);

        (void)memmove(line + cut, end, strlen(end) + 1);
    }
}

static void take_line(struct hearing *hearing)
{
    struct fl_buf *line = &hearing->line;
    const struct fl_buildah_options *options = &hearing->buildah->options;
    size_t len = line->len;
    char *last;

    while (len > 0 && line->data[len - 1] == '\r')
        len--;
    len = without_controls(line->data, len);
    len = fl_utf8_cut(line->data, len, LINE_MAX_);
    line->data[len] = '\0';
    if (hearing->is_told && options->line)
        options->line(options->user, line->data);
    if (!is_remark(line->data)) {
        shorten(line->data);
        len = strlen(line->data);
        last = hearing->last[hearing->lines++ % LAST_LINES];
        len = fl_utf8_cut(line->data, len, LAST_BYTES);
        (void)memcpy(last, line->data, len);
        last[len] = '\0';
    }
    fl_buf_clear(line);
}

static void hear(void *user, const char *data, size_t len)
{
    struct hearing *hearing = user;

    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n') {
            fl_buf_putc(&hearing->line, '\0');
            hearing->line.len--;
            take_line(hearing);
        } else if (data[i] && hearing->line.len < LINE_MAX_) {
            fl_buf_putc(&hearing->line, data[i]);
        }
    }
}

static const char *words_of(const struct hearing *hearing, struct fl_arena *arena)
{
    size_t count = hearing->lines < LAST_LINES ? hearing->lines : LAST_LINES;
    const char *said = "";

    for (size_t i = hearing->lines - count; i < hearing->lines; i++)
        said = fl_arena_printf(arena, "%s%s%s", said, *said ? "; " : "",
                               hearing->last[i % LAST_LINES]);
    return said;
}

static bool keep_going(void *user)
{
    const struct hearing *hearing = user;
    const struct fl_buildah_options *options = &hearing->buildah->options;

    return !options->keep_going || options->keep_going(options->user);
}

static int judge(const struct hearing *hearing, const struct fl_run_result *result, int r,
                 struct fl_arena *arena, struct fl_error *err)
{
    if (r == FL_E_CONFLICT)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the build was broken off");
    if (r == FL_E_TIMEOUT)
        return fl_error_set(err, FL_E_TIMEOUT, "the build took longer than it may%s%.880s",
                            hearing->lines > 0 ? "; at last: " : "", words_of(hearing, arena));
    if (r < 0)
        return r;
    if (result->signum)
        return fl_error_set(err, FL_E_INVALID, "buildah was ended by signal %d: %.880s",
                            result->signum, words_of(hearing, arena));
    if (result->status != 0)
        return fl_error_set(err, FL_E_INVALID, "%.1000s", words_of(hearing, arena));
    return 0;
}

int buildah_run(struct fl_buildah *buildah, const struct buildah_words *words, bool is_told,
                size_t *ret_lines, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct hearing hearing = {.buildah = buildah, .is_told = is_told};
    const struct fl_run_options options = {
        .program = words->argv[0],
        .argv = words->argv,
        .env = buildah->env,
        .output_max = OUTPUT_MAX,
        .heard = hear,
        .together = true,
        .keep_going = keep_going,
        .user = &hearing,
        .timeout_ms = buildah->options.deadline_ms - fl_monotonic_ms(buildah->options.env),
    };
    struct fl_run_result result;
    int r;

    if (words->count >= BUILDAH_ARGUMENTS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "too many arguments for buildah");
    if (options.timeout_ms <= 0)
        return fl_error_set(err, FL_E_TIMEOUT, "no time is left for buildah");
    fl_buf_init(&hearing.line, 0);
    r = fl_run(&options, &result, err);
    if (hearing.line.len > 0)
        hear(&hearing, "\n", 1);
    r = judge(&hearing, &result, r, arena, err);
    if (r == 0 && ret_lines)
        *ret_lines = hearing.lines;
    fl_buf_finish(&hearing.line);
    fl_run_result_finish(&result);
    return r;
}
