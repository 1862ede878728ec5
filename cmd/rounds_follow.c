#include "cmd/rounds_follow.h"

#include "cmd/condition.h"
#include "cmd/discovery.h"
#include "cmd/follow.h"
#include "cmd/output.h"
#include "cmd/paint.h"
#include "cmd/rounds_show.h"
#include "cmd/screen.h"
#include "cmd/top_state.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/terminal.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define SOURCES 2 /* the project and its rounds */

static const struct fl_api_resource resources[SOURCES] = {
    [FL_TOP_PROJECTS] = {.group = "flops.dev",
                         .version = "v1alpha1",
                         .plural = "flprojects",
                         .namespaced = true},
    [FL_TOP_ROUNDS] = {.group = "flops.dev",
                       .version = "v1alpha1",
                       .plural = "flrounds",
                       .namespaced = true},
};

struct following;

struct source {
    struct following *following;
    enum fl_top_kind kind;
    struct fl_watcher *watcher;
    bool listed;
};

struct following {
    const struct fl_rounds_follow *how;
    struct fl_loop *loop;
    struct fl_http_async *async;
    struct fl_timer *deadline;
    struct fl_screen *screen; /* NULL: plain lines */
    struct fl_top *top;
    struct source sources[SOURCES];
    struct fl_map *said; /* rounds that were printed, by uid */
    char *reason;        /* of the project, as it was printed */
    bool utf8, colors, lost;
    int status;
    struct fl_error *err;
};

static void finish(struct following *following)
{
    fl_screen_destroy(following->screen);
    for (size_t i = 0; i < SOURCES; i++)
        fl_watcher_destroy(following->sources[i].watcher);
    fl_http_async_destroy(following->async);
    fl_timer_destroy(following->deadline);
    fl_loop_destroy(following->loop);
    fl_top_destroy(following->top);
    fl_map_destroy(following->said);
    free(following->reason);
}

static void end(void *user, int status)
{
    struct following *following = user;

    following->status = status;
    fl_loop_stop(following->loop);
}

/* The first failure counts. */
static void fail(struct following *following, int code, const char *text)
{
    if (!following->err->code)
        (void)fl_error_set(following->err, code, "%s", text);
    end(following, FL_ROUNDS_FAILED);
}

/* The project, or NULL; in the arena's list. */
static const json_t *project_of(const struct following *following, struct fl_arena *arena)
{
    size_t count;
    const json_t **projects = fl_top_sorted(following->top, FL_TOP_PROJECTS, arena, &count);

    return count > 0 ? projects[0] : NULL;
}

static struct fl_rounds rounds_of(const struct following *following, struct fl_arena *arena)
{
    struct fl_rounds rounds = {.arena = arena, .metric = following->how->metric};

    rounds.items = fl_top_sorted(following->top, FL_TOP_ROUNDS, arena, &rounds.count);
    return rounds;
}

static int64_t total_of(const json_t *project)
{
    return fl_json_int(project, "status.rounds.total",
                       fl_json_int(project, "spec.training.rounds", 0));
}

/* Plain lines */

static void print(struct following *following, struct fl_buf *line)
{
    fl_buf_putc(line, '\n');
    (void)fwrite(fl_buf_text(line), 1, line->len, stdout);
    if (fflush(stdout) != 0)
        fail(following, FL_E_UNAVAILABLE, "standard output is gone");
}

static void print_rounds(struct following *following, struct fl_arena *arena, const json_t *project)
{
    const struct fl_rounds rounds = rounds_of(following, arena);

    for (size_t i = 0; i < rounds.count; i++) {
        FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};
        const char *uid = fl_str_or(fl_json_str(rounds.items[i], "metadata.uid"), "");

        if (!fl_round_is_over(rounds.items[i]))
            continue;
        fl_rounds_line(&rounds, rounds.items[i], total_of(project), &line);
        if (fl_streq(fl_map_get(following->said, uid), fl_buf_text(&line)))
            continue;
        fl_map_put(following->said, uid, fl_strdup(fl_buf_text(&line)));
        print(following, &line);
    }
}

/* The turns that every round takes are no news. */
static bool is_usual(const char *reason)
{
    static const char *const usual[] = {"Selecting", "Training", "Aggregating", "Evaluating",
                                        "StoringModel"};

    for (size_t i = 0; i < FL_COUNT_OF(usual); i++)
        if (strcmp(reason, usual[i]) == 0)
            return true;
    return false;
}

static void print_project(struct following *following, const json_t *project)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};
    const char *reason = fl_condition(project, "Ready", "reason");

    if (!reason || is_usual(reason) || fl_streq(following->reason, reason))
        return;
    free(following->reason);
    following->reason = fl_strdup(reason);
    fl_buf_printf(&line, "%s: %s: %s", following->how->project, reason,
                  fl_str_or(fl_condition(project, "Ready", "message"), ""));
    print(following, &line);
}

/* The end of it */

static bool all_listed(const struct following *following)
{
    for (size_t i = 0; i < SOURCES; i++)
        if (!following->sources[i].listed)
            return false;
    return true;
}

/* The project may say that it is complete before the last round has come over the other watch. */
static bool all_rounds_came(const struct following *following, struct fl_arena *arena,
                            const json_t *project)
{
    const struct fl_rounds rounds = rounds_of(following, arena);
    const int64_t completed = fl_json_int(project, "status.rounds.completed", 0);
    const json_t *last = rounds.count > 0 ? rounds.items[rounds.count - 1] : NULL;

    return completed == 0 || !last || fl_round_number(last) > completed ||
           (fl_round_number(last) == completed && fl_round_is_over(last));
}

/* What it says of itself last may be about its server. */
static void print_end(struct following *following, const json_t *project)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};

    if (following->screen || fl_streq(following->reason, "Complete"))
        return;
    fl_buf_printf(&line, "%s: Complete: %s", following->how->project,
                  fl_str_or(fl_condition(project, "Complete", "message"), ""));
    print(following, &line);
}

static void judge(struct following *following, struct fl_arena *arena, const json_t *project)
{
    if (!project) {
        (void)fl_error_set(following->err, FL_E_NOT_FOUND, "project %s is not there",
                           following->how->project);
        end(following, FL_ROUNDS_FAILED);
    } else if (fl_condition_is_current(project, "Complete")) {
        if (!all_rounds_came(following, arena, project))
            return;
        print_end(following, project);
        end(following, FL_ROUNDS_COMPLETE);
    } else if (fl_condition_is_current(project, "Stalled")) {
        (void)fl_error_set(following->err, FL_E_CONFLICT, "project %s is stalled: %s: %s",
                           following->how->project,
                           fl_str_or(fl_condition(project, "Ready", "reason"), "?"),
                           fl_str_or(fl_condition(project, "Ready", "message"), ""));
        end(following, FL_ROUNDS_FAILED);
    }
}

static void look(struct following *following)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const json_t *project = project_of(following, arena);

    if (!all_listed(following))
        return;
    if (following->screen)
        fl_screen_changed(following->screen);
    else if (project)
        print_rounds(following, arena, project);
    if (project && !following->screen)
        print_project(following, project);
    judge(following, arena, project);
}

static void on_deadline(void *user)
{
    struct following *following = user;

    (void)fl_error_set(following->err, FL_E_TIMEOUT, "project %s is not complete in time%s",
                       following->how->project, following->lost ? "; the server is away" : "");
    end(following, FL_ROUNDS_LATE);
}

/* What watchers tell */

static void on_begin(void *user)
{
    struct source *source = user;

    fl_top_begin(source->following->top, source->kind);
}

static void on_object(void *user, const json_t *object)
{
    struct source *source = user;

    (void)fl_top_put(source->following->top, source->kind, object);
    look(source->following);
}

static void on_end(void *user)
{
    struct source *source = user;

    fl_top_end(source->following->top, source->kind, NULL, NULL);
    source->listed = true;
    look(source->following);
}

static void on_gone(void *user, const json_t *object)
{
    struct source *source = user;

    fl_top_remove(source->following->top, source->kind, object);
    look(source->following);
}

static void on_state(void *user, enum fl_watcher_state state, const struct fl_error *why)
{
    struct source *source = user;
    struct following *following = source->following;
    const bool lost = state == FL_WATCHER_LOST;

    if (state == FL_WATCHER_REFUSED || (lost && !source->listed)) {
        fail(following, why->code, why->msg);
        return;
    }
    if (lost && !following->lost && !following->screen)
        (void)fprintf(stderr, "flops rounds: %s; trying again\n", why->msg);
    following->lost = lost;
    if (following->screen)
        fl_screen_changed(following->screen);
}

static const struct fl_watcher_events events = {on_begin, on_object, on_end, on_gone, on_state};

/* A live view */

static void paint_title(const struct following *following, const json_t *project,
                        struct fl_paint *line)
{
    fl_paint_text(line, FL_PAINT_BOLD, "%s", following->how->project);
    fl_paint_text(line, FL_PAINT_PLAIN, "  round %" PRId64 "/%" PRId64,
                  fl_json_int(project, "status.rounds.completed", 0), total_of(project));
    if (following->lost)
        fl_paint_right(line, FL_PAINT_BAD, "reconnecting");
    else
        fl_paint_right(line, FL_PAINT_BUSY,
                       fl_str_or(fl_condition(project, "Ready", "reason"), ""));
    fl_paint_end_line(line);
}

/* The curve stays, and below it are the rounds, the newest first. */
static void paint(void *user, size_t columns, struct fl_buf *header, struct fl_buf *body)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_buf_finish) struct fl_buf chart = {0};
    FL_CLEANUP(fl_buf_finish) struct fl_buf table = {0};
    struct following *following = user;
    struct fl_paint line = {
        .out = header, .width = columns, .utf8 = following->utf8, .colors = following->colors};
    const struct fl_rounds rounds = rounds_of(following, arena);

    paint_title(following, project_of(following, arena), &line);
    if (following->how->chart)
        fl_rounds_chart(&rounds, columns, following->utf8, &chart);
    fl_paint_lines(&line, fl_buf_text(&chart));
    fl_paint_end_line(&line);
    line.out = body;
    fl_rounds_table(&rounds, true, &table);
    fl_paint_lines(&line, fl_buf_text(&table));
}

static int open_screen(struct following *following, struct fl_error *err)
{
    const struct fl_screen_options options = {
        .loop = following->loop,
        .env = &following->how->client->env,
        .paint = paint,
        .end = end,
        .user = following,
        .hint = "q quit",
        .utf8 = following->utf8,
        .colors = following->colors,
    };

    if (!fl_terminal_can_draw(STDOUT_FILENO))
        return 0;
    return fl_screen_create(&options, &following->screen, err);
}

/* Beginning */

static void start_watchers(struct following *following)
{
    struct fl_client *client = following->how->client;
    const char *const selectors[SOURCES] = {
        [FL_TOP_PROJECTS] = fl_follow_name(client, following->how->project, NULL),
        [FL_TOP_ROUNDS] =
            fl_arena_printf(client->arena, "spec.project.name=%s", following->how->project),
    };

    for (int kind = 0; kind < SOURCES; kind++) {
        struct source *source = &following->sources[kind];
        const struct fl_watcher_options options = {
            .loop = following->loop,
            .async = following->async,
            .client = client,
            .resource = &resources[kind],
            .ns = client->ns,
            .field_selector = selectors[kind],
            .events = &events,
            .user = source,
        };

        *source = (struct source){.following = following, .kind = (enum fl_top_kind)kind};
        source->watcher = fl_watcher_create(&options);
    }
}

static int start(struct following *following, struct fl_error *err)
{
    struct fl_http_async_options options = {0};
    int r = fl_loop_create(&following->loop, err);

    if (r < 0)
        return r;
    options.loop = following->loop;
    following->deadline = fl_timer_create(following->loop, on_deadline, following);
    if (following->how->timeout_ms > 0)
        fl_timer_arm(following->deadline, following->how->timeout_ms);
    r = fl_http_async_create(&options, &following->async, err);
    if (r == 0)
        r = open_screen(following, err);
    if (r == 0)
        start_watchers(following);
    return r;
}

int fl_rounds_follow(const struct fl_rounds_follow *follow, bool *ret_drawn, struct fl_error *err)
{
    FL_CLEANUP(finish)
    struct following following = {.how = follow,
                                  .top = fl_top_create(),
                                  .said = fl_map_create(free),
                                  .utf8 = fl_terminal_is_utf8(),
                                  .colors = fl_output_has_colors(STDOUT_FILENO),
                                  .err = err};

    if (start(&following, err) < 0)
        return FL_ROUNDS_FAILED;
    fl_loop_run(following.loop);
    *ret_drawn = following.screen != NULL;
    return following.status;
}
