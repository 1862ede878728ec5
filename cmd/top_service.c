/* Workloads and inference servers in the live view. */
#include "cmd/top_layout_internal.h"
#include "lib/map.h"
#include "lib/text.h"

#include <inttypes.h>
#include <string.h>

#define ROLE_MAX 40 /* columns */

/* Workloads */

static bool has_trouble(const json_t *workload)
{
    const char *reason = reason_of(workload);

    return !fl_condition_is_true(workload, "Ready") && strcmp(reason, "Suspended") != 0 &&
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
    else if (!fl_condition_is_true(workload, "Ready"))
        fl_paint_text(&layout->paint, FL_PAINT_DIM, "  %s",
                      fl_str_or(fl_condition(workload, "Ready", "message"), ""));
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

/* With their roles in a column of its own. */
static void show_workloads(struct layout *layout, const json_t **workloads, size_t count)
{
    const size_t width = layout->view->width;
    const size_t most = width > 0 && width / 2 < ROLE_MAX ? width / 2 : ROLE_MAX;
    size_t columns = 0;

    for (size_t i = 0; i < count; i++) {
        const size_t wide = fl_text_columns(fl_top_role(workloads[i]));

        columns = wide > columns ? wide : columns;
    }
    for (size_t i = 0; i < count; i++)
        show_workload(layout, workloads[i], columns < most ? columns : most);
}

void show_workloads_of(struct layout *layout, const json_t *owner)
{
    size_t count, shown = 0;
    const json_t **all =
        fl_top_group(layout->of[FL_TOP_WORKLOADS], layout->count[FL_TOP_WORKLOADS],
                     text_of(owner, "metadata.namespace"), text_of(owner, "metadata.uid"), &count);
    const json_t **chosen = fl_new_array(layout->arena, const json_t *, count + 1);

    for (size_t i = 0; i < count; i++)
        if (is_shown(layout, all[i]))
            chosen[shown++] = all[i];
    show_workloads(layout, chosen, shown);
}

void show_other_workloads(struct layout *layout)
{
    const size_t count = layout->count[FL_TOP_WORKLOADS];
    const json_t **chosen = fl_new_array(layout->arena, const json_t *, count + 1);
    size_t shown = 0;

    for (size_t i = 0; i < count; i++)
        if (!fl_map_get(layout->owners, fl_top_owner(layout->of[FL_TOP_WORKLOADS][i])))
            chosen[shown++] = layout->of[FL_TOP_WORKLOADS][i];
    show_workloads(layout, chosen, shown);
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

void show_server(struct layout *layout, const json_t *server)
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
    show_dots(layout, fl_json_int(server, "status.replicas.ready", 0),
              fl_json_int(server, "status.replicas.desired", 0));
    if (url)
        fl_paint_text(paint, FL_PAINT_PLAIN, "  %s", url);
    show_traffic(layout, server);
    fl_paint_end_line(paint);
    show_workloads_of(layout, server);
    fl_paint_end_line(paint);
}
