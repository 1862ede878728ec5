#include "reconcilers/inferenceserver/router_driver.h"

#include "lib/str.h"

static const char *text(struct fl_arena *arena, const json_t *item, const char *member)
{
    return fl_arena_strdup(arena, fl_str_or(fl_json_str(item, member), ""));
}

static struct fl_router_group read_group(struct fl_arena *arena, const json_t *item)
{
    return (struct fl_router_group){.name = text(arena, item, "name"),
                                    .epoch = text(arena, item, "epoch"),
                                    .percent = fl_json_int(item, "percent", 0),
                                    .mirror = fl_json_bool(item, "mirror", false),
                                    .trial = fl_json_bool(item, "trial", false),
                                    .requests = fl_json_int(item, "requests", 0),
                                    .errors = fl_json_int(item, "errors", 0),
                                    .p50_us = fl_json_int(item, "p50Us", 0),
                                    .p99_us = fl_json_int(item, "p99Us", 0)};
}

static struct fl_router_backend read_backend(struct fl_arena *arena, const json_t *item)
{
    return (struct fl_router_backend){.id = text(arena, item, "id"),
                                      .group = text(arena, item, "group"),
                                      .url = text(arena, item, "url"),
                                      .in_flight = fl_json_int(item, "inFlight", 0),
                                      .reachable = fl_json_bool(item, "reachable", false),
                                      .removed = fl_json_bool(item, "removed", false)};
}

static double number(const json_t *item, const char *member)
{
    return json_number_value(json_object_get(item, member));
}

static struct fl_router_load read_load(struct fl_arena *arena, const json_t *item)
{
    const char *metric = fl_json_str(item, "metric");

    return (struct fl_router_load){.metric = metric ? fl_arena_strdup(arena, metric) : NULL,
                                   .window_ms = fl_json_int(item, "windowMs", 0),
                                   .delay_ms = fl_json_int(item, "delayMs", 0),
                                   .covered_ms = fl_json_int(item, "coveredMs", 0),
                                   .average = number(item, "average"),
                                   .panic = number(item, "panic"),
                                   .peak = number(item, "peak"),
                                   .panic_peak = number(item, "panicPeak")};
}

int fl_router_view_read(struct fl_arena *arena, const json_t *status,
                        struct fl_router_view *ret_view, struct fl_error *err)
{
    const json_t *groups = json_object_get(status, "groups"),
                 *backends = json_object_get(status, "backends"), *item;
    struct fl_router_view view = {.known = true, .version = fl_json_int(status, "version", -1)};
    size_t i;

    if (view.version < 0 || !json_is_array(groups) || !json_is_array(backends))
        return fl_error_set(err, FL_E_INVALID, "that is no status of a router");
    view.groups = fl_new_array(arena, struct fl_router_group, json_array_size(groups));
    view.backends = fl_new_array(arena, struct fl_router_backend, json_array_size(backends));
    json_array_foreach(groups, i, item)
        view.groups[view.group_count++] = read_group(arena, item);
    json_array_foreach(backends, i, item)
        view.backends[view.backend_count++] = read_backend(arena, item);
    view.load = read_load(arena, json_object_get(status, "load"));
    *ret_view = view;
    return 0;
}
