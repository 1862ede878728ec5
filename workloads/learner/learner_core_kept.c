/* The update that is kept. */
#include "workloads/learner/learner_core_internal.h"

#include "lib/str.h"

static void copy_offer(struct fl_arena *arena, const struct fl_offer *from, struct fl_offer *to)
{
    *to = *from;
#define COPY(member) to->member = from->member ? fl_arena_strdup(arena, from->member) : NULL
    COPY(learner);
    COPY(project);
    COPY(work);
    COPY(base);
    COPY(digest);
#undef COPY
    to->metrics.items = fl_new_array(arena, struct fl_metric, from->metrics.count + 1);
    for (size_t i = 0; i < from->metrics.count; i++)
        to->metrics.items[i] = (struct fl_metric){
            fl_arena_strdup(arena, from->metrics.items[i].name), from->metrics.items[i].value};
    to->contributors.items = fl_new_array(arena, const char *, from->contributors.count + 1);
    for (size_t i = 0; i < from->contributors.count; i++)
        to->contributors.items[i] = fl_arena_strdup(arena, from->contributors.items[i]);
}

void learner_set_kept(struct fl_learner_core *core, const struct fl_kept *kept)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_kept copy = *kept;

    copy_offer(arena, &kept->offer, &copy.offer);
    copy.origin = kept->origin ? fl_arena_strdup(arena, kept->origin) : NULL;
    copy.offered = kept->offered ? fl_arena_strdup(arena, kept->offered) : NULL;
    fl_arena_destroy(core->kept_arena);
    core->kept_arena = arena;
    core->kept = copy;
    core->has_kept = true;
}

struct fl_bytes *fl_kept_encode(const struct fl_kept *kept)
{
    struct fl_offer offer = kept->offer;
    FL_JSON value = json_object();

    offer.learner = offer.project = "any"; /* the next task says which, and which round */
    offer.round = offer.attempt = 1;
    json_object_set_new(value, "offer", fl_message_to_json(&fl_form_offer, &offer));
    json_object_set_new(value, "seed", json_integer(kept->seed));
    fl_json_set_str(value, "origin", kept->origin);
    fl_json_set_str(value, "offered", kept->offered);
    return fl_json_to_bytes(value);
}

int fl_kept_decode(struct fl_arena *arena, const void *data, size_t len, struct fl_kept *ret_kept,
                   struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_PROTOCOL_BODY_MAX, .max_depth = 32};
    FL_JSON value = NULL;
    struct fl_kept kept = {0};
    const char *origin, *offered;
    int r = fl_json_parse(data, len, &limits, NULL, NULL, &value, err);

    if (r == 0)
        r = fl_message_from_json(arena, &fl_form_offer, json_object_get(value, "offer"),
                                 &kept.offer, err);
    if (r < 0)
        return fl_error_wrap(err, "kept update");
    kept.seed = fl_json_int(value, "seed", 0);
    origin = fl_json_str(value, "origin");
    offered = fl_json_str(value, "offered");
    kept.origin = origin ? fl_arena_strdup(arena, origin) : NULL;
    kept.offered = offered ? fl_arena_strdup(arena, offered) : NULL;
    *ret_kept = kept;
    return 0;
}

void learner_forget_kept(struct fl_learner_core *core)
{
    if (core->has_kept && !fl_streq(core->kept.offer.digest, core->model))
        learner_release(core, core->kept.offer.digest);
    core->has_kept = false;
}
