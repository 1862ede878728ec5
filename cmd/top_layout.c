#include "cmd/top_layout_internal.h"
#include "lib/map.h"
#include "lib/text.h"

#include <inttypes.h>
#include <string.h>

#define DOTS_MAX 32

static void note_owners(struct layout *layout, enum fl_top_kind kind)
{
    for (size_t i = 0; i < layout->count[kind]; i++)
        fl_map_put(layout->owners, text_of(layout->of[kind][i], "metadata.uid"), layout);
}

static struct layout begin(const struct fl_top *top, const struct fl_top_view *view,
                           struct fl_buf *out)
{
    struct layout layout = {.top = top, .view = view, .arena = fl_arena_create()};

    layout.paint = (struct fl_paint){
        .out = out, .width = view->width, .utf8 = view->utf8, .colors = view->colors};
    for (int kind = 0; kind < FL_TOP_KINDS; kind++)
        layout.of[kind] =
            fl_top_sorted(top, (enum fl_top_kind)kind, layout.arena, &layout.count[kind]);
    layout.owners = fl_map_create(NULL);
    note_owners(&layout, FL_TOP_PROJECTS);
    note_owners(&layout, FL_TOP_SERVERS);
    return layout;
}

static void finish(struct layout *layout)
{
    fl_map_destroy(layout->owners);
    fl_arena_destroy(layout->arena);
}

/* What the parts share */

const char *reason_of(const json_t *object)
{
    if (fl_json_str(object, "metadata.deletionTimestamp"))
        return "Deleting";
    return fl_str_or(fl_condition(object, "Ready", "reason"), "New");
}

enum fl_paint_style style_of(const json_t *object)
{
    if (fl_condition_is_true(object, "Stalled"))
        return FL_PAINT_BAD;
    return fl_condition_is_true(object, "Ready") ? FL_PAINT_GOOD : FL_PAINT_BUSY;
}

const char *name_of(const struct layout *layout, const json_t *object)
{
    const char *name = text_of(object, "metadata.name");

    return layout->view->with_namespace
               ? fl_arena_printf(layout->arena, "%s/%s", text_of(object, "metadata.namespace"),
                                 name)
               : name;
}

void show_dots(struct layout *layout, int64_t ready, int64_t desired)
{
    struct fl_paint *paint = &layout->paint;

    if (desired <= 0 || desired > DOTS_MAX || fl_paint_left(paint) < (size_t)desired + 1)
        return;
    ready = ready > desired ? desired : ready;
    fl_paint_text(paint, FL_PAINT_PLAIN, " ");
    fl_paint_repeat(paint, FL_PAINT_GOOD, "●", "*", (size_t)ready);
    fl_paint_repeat(paint, FL_PAINT_BUSY, "○", "o", (size_t)(desired - ready));
}

const char *metric_of(const json_t *project)
{
    return fl_str_or(fl_json_str(project, "spec.training.bestModel.metric"), FL_TOP_METRIC);
}

const char *value_of(const json_t *object, const char *path, const char *metric)
{
    return json_string_value(json_object_get(fl_json_path(object, path), metric));
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
    const size_t before = out->len;

    for (size_t i = 0; i < layout.count[FL_TOP_PROJECTS]; i++)
        show_project(&layout, layout.of[FL_TOP_PROJECTS][i]);
    for (size_t i = 0; i < layout.count[FL_TOP_SERVERS]; i++)
        show_server(&layout, layout.of[FL_TOP_SERVERS][i]);
    show_other_workloads(&layout);
    if (out->len == before)
        fl_buf_puts(out, "Nothing is declared here yet.\n");
    if (fl_str_has_suffix(fl_buf_text(out), "\n\n")) /* a gap is between two */
        out->data[--out->len] = '\0';
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
    const char *value = value_of(round, "status.metrics.evaluation", FL_TOP_METRIC);

    tell(out, ", ", fl_json_str(round, "status.participants.summary"), " updates");
    tell(out, ", " FL_TOP_METRIC " ", value, "");
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
    if (fl_condition_is_true(object, "Stalled"))
        tell(&line, ": ", fl_condition(object, "Ready", "message"), "");
    (void)fl_text_put(out, fl_buf_text(&line), SIZE_MAX, true);
}
