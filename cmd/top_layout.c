#include "cmd/top_layout.h"

#include "cmd/chart.h"
#include "cmd/paint.h"
#include "lib/str.h"
#include "lib/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAR_MAX   40
#define SPARK_MAX 60
#define DOTS_MAX  32
#define LABEL     10 /* columns of a tier's name */
#define ROLE_MAX  40
#define TEXT_SIZE 64
#define METRIC    "accuracy"

/* All that a pass over the state needs. */
struct layout {
    const struct fl_top *top;
    const struct fl_top_view *view;
    struct fl_arena *arena;
    struct fl_paint paint;
    const json_t **of[FL_TOP_KINDS];
    size_t count[FL_TOP_KINDS];
};

static struct layout begin(const struct fl_top *top, const struct fl_top_view *view,
                           struct fl_buf *out)
{
    struct layout layout = {.top = top, .view = view, .arena = fl_arena_create()};

    layout.paint = (struct fl_paint){
        .out = out, .width = view->width, .utf8 = view->utf8, .colors = view->colors};
    for (int kind = 0; kind < FL_TOP_KINDS; kind++)
        layout.of[kind] =
            fl_top_sorted(top, (enum fl_top_kind)kind, layout.arena, &layout.count[kind]);
    return layout;
}

static void finish(struct layout *layout)
{
    fl_arena_destroy(layout->arena);
}

static const char *text_of(const json_t *object, const char *path)
{
    return fl_str_or(fl_json_str(object, path), "");
}

static const char *reason_of(const json_t *object)
{
    if (fl_json_str(object, "metadata.deletionTimestamp"))
        return "Deleting";
    return fl_str_or(fl_top_condition(object, "Ready", "reason"), "New");
}

static bool is(const json_t *object, const char *condition)
{
    return fl_streq(fl_top_condition(object, condition, "status"), "True");
}

static enum fl_paint_style style_of(const json_t *object)
{
    if (is(object, "Stalled"))
        return FL_PAINT_BAD;
    return is(object, "Ready") ? FL_PAINT_GOOD : FL_PAINT_BUSY;
}

static const char *name_of(const struct layout *layout, const json_t *object)
{
    const char *name = text_of(object, "metadata.name");

    return layout->view->with_namespace
               ? fl_arena_printf(layout->arena, "%s/%s", text_of(object, "metadata.namespace"),
                                 name)
               : name;
}

/* "3 s", "12 min", "5 h": how long something takes. */
static const char *span_of(double seconds, char text[TEXT_SIZE])
{
    const double s = seconds < 0 ? 0 : seconds;

    if (s < 100)
        (void)snprintf(text, TEXT_SIZE, "%.0f s", s);
    else if (s < 100 * 60)
        (void)snprintf(text, TEXT_SIZE, "%.0f min", s / 60);
    else if (s < 100 * 3600)
        (void)snprintf(text, TEXT_SIZE, "%.0f h", s / 3600);
    else
        (void)snprintf(text, TEXT_SIZE, "%.0f days", s / 86400);
    return text;
}

/* Signs for so many of which some are ready, where they fit. */
static void dots(struct layout *layout, int64_t ready, int64_t desired)
{
    struct fl_paint *paint = &layout->paint;

    if (desired <= 0 || desired > DOTS_MAX || fl_paint_left(paint) < (size_t)desired + 1)
        return;
    ready = ready > desired ? desired : ready;
    fl_paint_text(paint, FL_PAINT_PLAIN, " ");
    fl_paint_repeat(paint, FL_PAINT_GOOD, "●", "*", (size_t)ready);
    fl_paint_repeat(paint, FL_PAINT_BUSY, "○", "o", (size_t)(desired - ready));
}

/* Workloads */

static bool has_trouble(const json_t *workload)
{
    const char *reason = reason_of(workload);

    return !is(workload, "Ready") && strcmp(reason, "Suspended") != 0 &&
           strcmp(reason, "Suspending") != 0 && strcmp(reason, "Deleting") != 0 &&
           strcmp(reason, "Completed") != 0;
}

/* The instance that tells most: the first one that is not ready, else the first. */
static const json_t *instance_of(const json_t *workload)
{
    json_t *instances = json_object_get(workload, "instances"), *instance;
    size_t i;

    json_array_foreach(instances, i, instance)
        if (!fl_json_bool(instance, "ready", false))
            return instance;
    return json_array_get(instances, 0);
}

/* The last line of what a program said before it ended. */
static const char *last_words(struct layout *layout, const json_t *instance)
{
    const char *text = text_of(instance, "lastExit.logTail"), *end = text + strlen(text), *start;

    while (end > text && end[-1] == '\n')
        end--;
    for (start = end; start > text && start[-1] != '\n';)
        start--;
    return fl_arena_strndup(layout->arena, start, (size_t)(end - start));
}

static void why(struct layout *layout, const json_t *workload)
{
    const json_t *instance = instance_of(workload);
    const char *message = fl_json_str(instance, "message");
    const int64_t code = fl_json_int(instance, "lastExit.code", -1);

    if (code > 0)
        fl_paint_text(&layout->paint, FL_PAINT_DIM, "  exit %" PRId64 ": %s", code,
                      last_words(layout, instance));
    else if (message)
        fl_paint_text(&layout->paint, FL_PAINT_DIM, "  %s", message);
    else if (!is(workload, "Ready"))
        fl_paint_text(&layout->paint, FL_PAINT_DIM, "  %s",
                      fl_str_or(fl_top_condition(workload, "Ready", "message"), ""));
}

static void show_workload(struct layout *layout, const json_t *workload, size_t columns)
{
    struct fl_paint *paint = &layout->paint;
    const bool trouble = has_trouble(workload);
    const enum fl_paint_style style = trouble ? FL_PAINT_BAD : FL_PAINT_PLAIN;
    const int64_t restarts = fl_json_int(workload, "status.replicas.restarts", 0);
    const char *node = fl_json_str(instance_of(workload), "node");

    fl_paint_text(paint, style, trouble ? "  ! " : "    ");
    fl_paint_cell(paint, FL_PAINT_PLAIN, columns, fl_top_role(workload));
    fl_paint_text(paint, FL_PAINT_PLAIN, " %s", text_of(workload, "status.replicas.summary"));
    fl_paint_text(paint, style, " %s", reason_of(workload));
    if (node)
        fl_paint_text(paint, FL_PAINT_DIM, "  %s", node);
    if (restarts > 0)
        fl_paint_text(paint, FL_PAINT_BUSY, "  %" PRId64 " %s", restarts,
                      restarts == 1 ? "restart" : "restarts");
    if (trouble)
        why(layout, workload);
    fl_paint_end_line(paint);
}

static bool is_shown(const struct layout *layout, const json_t *workload)
{
    return layout->view->workloads || has_trouble(workload);
}

/* Those of an owner; `uid` NULL: of nobody who is shown. */
static bool belongs(const struct layout *layout, const json_t *workload, const char *uid)
{
    static const enum fl_top_kind owners[] = {FL_TOP_PROJECTS, FL_TOP_SERVERS};
    const char *owner = fl_top_owner(workload);

    if (uid)
        return strcmp(owner, uid) == 0;
    for (size_t k = 0; k < FL_COUNT_OF(owners); k++)
        for (size_t i = 0; i < layout->count[owners[k]]; i++)
            if (strcmp(text_of(layout->of[owners[k]][i], "metadata.uid"), owner) == 0)
                return false;
    return true;
}

static void show_workloads(struct layout *layout, const char *uid, bool always)
{
    const json_t **workloads = layout->of[FL_TOP_WORKLOADS];
    const size_t width = layout->view->width;
    size_t most = width > 0 && width / 2 < ROLE_MAX ? width / 2 : ROLE_MAX, columns = 0;

    for (int pass = 0; pass < 2; pass++) /* the first finds out how wide they are */
        for (size_t i = 0; i < layout->count[FL_TOP_WORKLOADS]; i++) {
            size_t wide;

            if (!belongs(layout, workloads[i], uid) || !(always || is_shown(layout, workloads[i])))
                continue;
            wide = fl_text_columns(fl_top_role(workloads[i]));
            if (pass == 0)
                columns = wide > columns ? wide : columns;
            else
                show_workload(layout, workloads[i], columns < most ? columns : most);
        }
}

/* Projects */

static const char *metric_of(const json_t *project)
{
    return fl_str_or(fl_json_str(project, "spec.training.bestModel.metric"), METRIC);
}

static const char *value_of(const json_t *object, const char *path, const char *metric)
{
    return json_string_value(json_object_get(fl_json_path(object, path), metric));
}

/* Rounds of a project, which lie together only by namespace; in their order. */
static const json_t **rounds_of(const struct layout *layout, const json_t *project,
                                size_t *ret_count)
{
    const json_t **all = layout->of[FL_TOP_ROUNDS];
    const json_t **mine =
        fl_new_array(layout->arena, const json_t *, layout->count[FL_TOP_ROUNDS] + 1);
    size_t count = 0;

    for (size_t i = 0; i < layout->count[FL_TOP_ROUNDS]; i++)
        if (strcmp(text_of(all[i], "spec.project.name"), text_of(project, "metadata.name")) == 0 &&
            strcmp(text_of(all[i], "metadata.namespace"), text_of(project, "metadata.namespace")) ==
                0)
            mine[count++] = all[i];
    *ret_count = count;
    return mine;
}

static int64_t total_of(const json_t *project)
{
    return fl_json_int(project, "status.rounds.total",
                       fl_json_int(project, "spec.training.rounds", 0));
}

static void show_title(struct layout *layout, const json_t *project)
{
    struct fl_paint *paint = &layout->paint;
    char progress[TEXT_SIZE];
    const char *reason = reason_of(project);
    size_t name_room;

    (void)snprintf(progress, sizeof(progress), "  round %" PRId64 "/%" PRId64,
                   fl_json_int(project, "status.rounds.completed", 0), total_of(project));
    name_room = fl_paint_left(paint);
    if (name_room != SIZE_MAX) { /* the name gives way, to a few characters */
        const size_t others = strlen(progress) + strlen(reason) + 2;

        name_room = name_room > others + 8 ? name_room - others : 8;
    }
    const char *name = name_of(layout, project);
    const size_t columns = fl_text_columns(name);

    fl_paint_cell(paint, FL_PAINT_BOLD, columns < name_room ? columns : name_room, name);
    fl_paint_text(paint, FL_PAINT_PLAIN, "%s", progress);
    fl_paint_right(paint, style_of(project), reason);
    fl_paint_end_line(paint);
}

static void show_progress(struct layout *layout, const json_t *project, const json_t **rounds,
                          size_t count)
{
    struct fl_paint *paint = &layout->paint;
    const int64_t total = total_of(project);
    const int64_t done = fl_json_int(project, "status.rounds.completed", 0);
    const double part = total > 0 ? (double)done / (double)total : 0;
    const double rate = is(project, "Complete") ? NAN : fl_top_rate(rounds, count);
    size_t width = paint->width > 0 && paint->width / 2 < BAR_MAX ? paint->width / 2 : BAR_MAX;
    const size_t filled = (size_t)lround((part > 1 ? 1 : part) * (double)width);
    char text[TEXT_SIZE];

    fl_paint_text(paint, FL_PAINT_PLAIN, "  ");
    fl_paint_repeat(paint, FL_PAINT_GOOD, "█", "#", filled);
    fl_paint_repeat(paint, FL_PAINT_DIM, "░", ".", width - filled);
    fl_paint_text(paint, FL_PAINT_PLAIN, " %.0f %%", 100 * part);
    if (!isnan(rate)) {
        fl_paint_text(paint, FL_PAINT_DIM, "  %.3g rounds/min", 60 * rate);
        if (done < total)
            fl_paint_text(paint, FL_PAINT_DIM, ", %s left",
                          span_of((double)(total - done) / rate, text));
    }
    fl_paint_end_line(paint);
}

/* The round that is under way, if one is. */
static void show_round(struct layout *layout, const json_t *round)
{
    struct fl_paint *paint = &layout->paint;
    const char *summary = fl_json_str(round, "status.participants.summary");
    const char *start = fl_json_str(round, "status.startTime");
    const int64_t attempt = fl_json_int(round, "status.attempt", 0);
    int64_t start_us;
    char text[TEXT_SIZE];

    fl_paint_text(paint, FL_PAINT_PLAIN, "  round %" PRId64 ": ", fl_top_number(round));
    fl_paint_text(paint, style_of(round), "%s", reason_of(round));
    if (summary)
        fl_paint_text(paint, FL_PAINT_PLAIN, ", %s updates", summary);
    if (start && fl_time_parse(start, &start_us))
        fl_paint_text(paint, FL_PAINT_DIM, ", for %s",
                      span_of((double)(layout->view->now_us - start_us) / 1e6, text));
    if (attempt > 1)
        fl_paint_text(paint, FL_PAINT_BUSY, ", attempt %" PRId64, attempt);
    if (is(round, "Stalled"))
        fl_paint_text(paint, FL_PAINT_BAD, ": %s",
                      fl_str_or(fl_top_condition(round, "Ready", "message"), ""));
    fl_paint_end_line(paint);
}

static void show_spark(struct layout *layout, const char *metric, const json_t **rounds,
                       size_t count)
{
    struct fl_paint *paint = &layout->paint;
    double *values = fl_new_array(layout->arena, double, count + 1);
    size_t left = fl_paint_left(paint), known = 0;

    for (size_t i = 0; i < count; i++) {
        const char *value = value_of(rounds[i], "status.metrics.evaluation", metric);

        if (value)
            values[known++] = strtod(value, NULL);
    }
    if (left < 4 || known < 2)
        return;
    left = left - 2 < SPARK_MAX ? left - 2 : SPARK_MAX;
    fl_paint_text(paint, FL_PAINT_PLAIN, "  ");
    paint->used += fl_chart_spark(paint->out, values, known, left, paint->utf8);
}

static void show_metric(struct layout *layout, const json_t *project, const json_t **rounds,
                        size_t count)
{
    struct fl_paint *paint = &layout->paint;
    const char *metric = metric_of(project);
    const char *last = value_of(project, "status.metrics.last.values", metric);
    const char *best = value_of(project, "status.metrics.best.values", metric);

    if (!last)
        return;
    fl_paint_text(paint, FL_PAINT_PLAIN, "  %s ", metric);
    fl_paint_text(paint, FL_PAINT_BOLD, "%s", last);
    if (best)
        fl_paint_text(paint, FL_PAINT_PLAIN, ", best %s (round %" PRId64 ")", best,
                      fl_json_int(project, "status.metrics.best.round", 0));
    show_spark(layout, metric, rounds, count);
    fl_paint_end_line(paint);
}

static void show_tier(struct layout *layout, const char *name, int64_t ready, int64_t desired)
{
    char numbers[TEXT_SIZE];

    (void)snprintf(numbers, sizeof(numbers), " %" PRId64 "/%" PRId64, ready, desired);
    fl_paint_text(&layout->paint, FL_PAINT_PLAIN, "  ");
    fl_paint_cell(&layout->paint, FL_PAINT_PLAIN, LABEL, name);
    fl_paint_text(&layout->paint, ready < desired ? FL_PAINT_BUSY : FL_PAINT_PLAIN, "%s", numbers);
    dots(layout, ready, desired);
    fl_paint_end_line(&layout->paint);
}

/* Once training is over there are none, which need not be said. */
static void show_tiers(struct layout *layout, const json_t *project)
{
    const int64_t desired = fl_json_int(project, "status.learners.desired", 0);
    json_t *tier;
    size_t i;

    json_array_foreach(fl_json_path(project, "status.tiers"), i, tier)
        if (fl_json_int(tier, "desired", 0) > 0)
            show_tier(layout, text_of(tier, "name"), fl_json_int(tier, "ready", 0),
                      fl_json_int(tier, "desired", 0));
    if (desired > 0)
        show_tier(layout, "learners", fl_json_int(project, "status.learners.ready", 0), desired);
}

static void show_project(struct layout *layout, const json_t *project)
{
    size_t count;
    const json_t **rounds = rounds_of(layout, project, &count);
    const json_t *last = count > 0 ? rounds[count - 1] : NULL;

    show_title(layout, project);
    show_progress(layout, project, rounds, count);
    if (is(project, "Stalled")) {
        fl_paint_text(&layout->paint, FL_PAINT_BAD, "  ! %s",
                      fl_str_or(fl_top_condition(project, "Ready", "message"), ""));
        fl_paint_end_line(&layout->paint);
    }
    if (last && !is(last, "Ready"))
        show_round(layout, last);
    show_metric(layout, project, rounds, count);
    show_tiers(layout, project);
    show_workloads(layout, text_of(project, "metadata.uid"), false);
    fl_paint_end_line(&layout->paint);
}

/* Inference servers */

static void show_traffic(struct layout *layout, const json_t *server)
{
    json_t *part;
    size_t i;

    json_array_foreach(fl_json_path(server, "status.traffic"), i, part)
        if (fl_streq(fl_json_str(part, "role"), "Canary"))
            fl_paint_text(&layout->paint, FL_PAINT_BUSY,
                          "  canary: round %" PRId64 " has %" PRId64 " %%",
                          fl_json_int(part, "round", 0), fl_json_int(part, "percent", 0));
}

static void show_server(struct layout *layout, const json_t *server)
{
    struct fl_paint *paint = &layout->paint;
    const char *url = fl_json_str(server, "status.url");

    fl_paint_text(paint, FL_PAINT_BOLD, "%s", name_of(layout, server));
    fl_paint_text(paint, FL_PAINT_PLAIN, "  serves");
    if (fl_json_int(server, "status.model.round", -1) >= 0)
        fl_paint_text(paint, FL_PAINT_PLAIN, " round %" PRId64,
                      fl_json_int(server, "status.model.round", 0));
    fl_paint_right(paint, style_of(server), reason_of(server));
    fl_paint_end_line(paint);
    fl_paint_text(paint, FL_PAINT_PLAIN, "  servers    %s",
                  text_of(server, "status.replicas.summary"));
    dots(layout, fl_json_int(server, "status.replicas.ready", 0),
         fl_json_int(server, "status.replicas.desired", 0));
    if (url)
        fl_paint_text(paint, FL_PAINT_PLAIN, "  %s", url);
    show_traffic(layout, server);
    fl_paint_end_line(paint);
    show_workloads(layout, text_of(server, "metadata.uid"), false);
    fl_paint_end_line(paint);
}

/* The whole */

static size_t count_ready(const struct layout *layout, const char *role, size_t *ret_all)
{
    size_t ready = 0;

    *ret_all = 0;
    for (size_t i = 0; i < layout->count[FL_TOP_WORKLOADS]; i++) {
        const json_t *workload = layout->of[FL_TOP_WORKLOADS][i];

        if (strcmp(text_of(workload, "spec.role"), role) != 0)
            continue;
        ready += (size_t)fl_json_int(workload, "status.replicas.ready", 0);
        *ret_all += (size_t)fl_json_int(workload, "status.replicas.desired", 0);
    }
    return ready;
}

static void show_counts(struct layout *layout)
{
    static const char *const roles[][2] = {{"Aggregator", "aggregators"},
                                           {"Learner", "learners"},
                                           {"InferenceServer", "servers"},
                                           {"Service", "services"}};
    struct fl_paint *paint = &layout->paint;
    const size_t projects = layout->count[FL_TOP_PROJECTS];
    const char *more = fl_top_is_full(layout->top, FL_TOP_PROJECTS) ? "more than " : "";

    fl_paint_text(paint, FL_PAINT_DIM, "%s%zu %s", more, projects,
                  projects == 1 ? "project" : "projects");
    for (size_t i = 0; i < FL_COUNT_OF(roles); i++) {
        size_t all;
        const size_t ready = count_ready(layout, roles[i][0], &all);

        if (all > 0)
            fl_paint_text(paint, FL_PAINT_DIM, ", %zu/%zu %s", ready, all, roles[i][1]);
    }
    fl_paint_end_line(paint);
}

/* What the connection is like, of the kind that has the most to say. */
static void show_connection(struct layout *layout)
{
    enum fl_watcher_state worst = FL_WATCHER_LIVE;

    for (int kind = 0; kind < FL_TOP_KINDS; kind++) {
        const char *why_text;
        const enum fl_watcher_state state =
            fl_top_state(layout->top, (enum fl_top_kind)kind, &why_text);

        if (state == FL_WATCHER_LOST || (state == FL_WATCHER_NEW && worst == FL_WATCHER_LIVE))
            worst = state;
    }
    if (worst == FL_WATCHER_LOST)
        fl_paint_right(&layout->paint, FL_PAINT_BAD, "reconnecting");
    else
        fl_paint_right(&layout->paint, FL_PAINT_GOOD,
                       worst == FL_WATCHER_NEW ? "connecting" : "connected");
}

static void show_failures(struct layout *layout)
{
    static const char *const names[] = {"projects", "rounds", "workloads", "inference servers"};
    const char *last = "";

    for (int kind = 0; kind < FL_TOP_KINDS; kind++) {
        const char *why_text;
        const enum fl_watcher_state state =
            fl_top_state(layout->top, (enum fl_top_kind)kind, &why_text);

        if (state == FL_WATCHER_REFUSED)
            fl_paint_text(&layout->paint, FL_PAINT_BAD, "! %s are not shown: %s", names[kind],
                          why_text);
        else if (state == FL_WATCHER_LOST && strcmp(last, why_text) != 0)
            fl_paint_text(&layout->paint, FL_PAINT_BAD, "! what is below is old: %s",
                          last = why_text);
        else
            continue;
        fl_paint_end_line(&layout->paint);
    }
}

void fl_top_header(const struct fl_top *top, const struct fl_top_view *view, struct fl_buf *out)
{
    FL_CLEANUP(finish) struct layout layout = begin(top, view, out);

    fl_paint_text(&layout.paint, FL_PAINT_BOLD, "flops top");
    if (fl_paint_left(&layout.paint) > strlen(view->where) + strlen("  reconnecting") + 3)
        fl_paint_text(&layout.paint, FL_PAINT_DIM, "  %s", view->where);
    show_connection(&layout);
    fl_paint_end_line(&layout.paint);
    show_failures(&layout);
    show_counts(&layout);
    fl_paint_end_line(&layout.paint);
}

void fl_top_body(const struct fl_top *top, const struct fl_top_view *view, struct fl_buf *out)
{
    FL_CLEANUP(finish) struct layout layout = begin(top, view, out);

    for (size_t i = 0; i < layout.count[FL_TOP_PROJECTS]; i++)
        show_project(&layout, layout.of[FL_TOP_PROJECTS][i]);
    for (size_t i = 0; i < layout.count[FL_TOP_SERVERS]; i++)
        show_server(&layout, layout.of[FL_TOP_SERVERS][i]);
    show_workloads(&layout, NULL, true);
    if (out->len == 0)
        fl_buf_puts(out, "Nothing is declared here yet.\n");
}

/* One by one */

static void tell(struct fl_buf *out, const char *before, const char *value, const char *after)
{
    if (value && *value)
        fl_buf_printf(out, "%s%s%s", before, value, after);
}

static void tell_project(const json_t *project, struct fl_buf *out)
{
    const char *metric = metric_of(project);
    const char *last = value_of(project, "status.metrics.last.values", metric);

    tell(out, ", round ", fl_json_str(project, "status.rounds.summary"), "");
    if (last)
        fl_buf_printf(out, ", %s %s", metric, last);
    tell(out, ", learners ", fl_json_str(project, "status.learners.summary"), "");
}

static void tell_round(const json_t *round, struct fl_buf *out)
{
    const char *value = value_of(round, "status.metrics.evaluation", METRIC);

    tell(out, ", ", fl_json_str(round, "status.participants.summary"), " updates");
    tell(out, ", " METRIC " ", value, "");
}

static void tell_server(const json_t *server, struct fl_buf *out)
{
    tell(out, ", servers ", fl_json_str(server, "status.replicas.summary"), "");
    if (fl_json_int(server, "status.model.round", -1) >= 0)
        fl_buf_printf(out, ", round %" PRId64, fl_json_int(server, "status.model.round", 0));
    tell(out, ", ", fl_json_str(server, "status.url"), "");
}

void fl_top_line(enum fl_top_kind kind, const json_t *object, bool with_namespace,
                 struct fl_buf *out)
{
    static const char *const words[] = {"project", "round", "workload", "server"};
    FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};

    fl_buf_printf(&line, "%s ", words[kind]);
    if (with_namespace)
        fl_buf_printf(&line, "%s/", text_of(object, "metadata.namespace"));
    if (kind == FL_TOP_ROUNDS)
        fl_buf_printf(&line, "%" PRId64 " of %s", fl_top_number(object),
                      text_of(object, "spec.project.name"));
    else
        fl_buf_puts(&line, text_of(object, "metadata.name"));
    fl_buf_printf(&line, ": %s", reason_of(object));
    if (kind == FL_TOP_PROJECTS)
        tell_project(object, &line);
    else if (kind == FL_TOP_ROUNDS)
        tell_round(object, &line);
    else if (kind == FL_TOP_SERVERS)
        tell_server(object, &line);
    else
        tell(&line, ", ", fl_json_str(object, "status.replicas.summary"), " ready");
    if (is(object, "Stalled"))
        tell(&line, ": ", fl_top_condition(object, "Ready", "message"), "");
    (void)fl_text_put(out, fl_buf_text(&line), SIZE_MAX, true);
}
