#include "reconcilers/inferenceserver/plan.h"

#include "api/field.h"
#include "lib/str.h"
#include "reconcilers/inferenceserver/scaling.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 1000 /* how often a canary's counts are looked at */

/* What is decided about one set on the way. */
struct part {
    const struct fl_serving_set *set; /* NULL: the target's, which is not there yet */
    const char *revision;
    int64_t keep; /* servers that shall stay, or come; ready ones of them are in the table */
    int64_t percent;
    bool stable, mirror;
    const char *epoch;
};

struct deciding {
    struct fl_arena *arena;
    const struct fl_serving_world *world;
    struct fl_serving_plan *plan;
    struct part parts[FL_SERVING_SETS_MAX + 1];
    size_t count;
    struct part *stable, *candidate; /* either may be NULL; never the same */
    const char *rejected, *rejected_why;
};

/* Looking */

static int64_t ready_in(const struct part *part)
{
    int64_t ready = 0;

    for (size_t i = 0; part->set && i < part->set->instance_count; i++)
        ready += part->set->instances[i].ready && part->set->instances[i].index < part->keep;
    return ready;
}

static int64_t ms_of(const char *duration, int64_t fallback)
{
    int64_t ms = fallback;

    if (duration)
        (void)fl_duration_parse(duration, &ms);
    return ms;
}

static double number_of(const char *decimal, double fallback)
{
    return decimal ? strtod(decimal, NULL) : fallback;
}

static int64_t passed_ms(const struct deciding *d, int64_t since_us)
{
    const int64_t passed = (d->world->now_us - since_us) / 1000;

    return passed > 0 ? passed : 0;
}

static const struct fl_router_group *group_of(const struct deciding *d, const char *revision)
{
    const struct fl_router_view *router = &d->world->router;

    for (size_t i = 0; i < router->group_count; i++)
        if (fl_streq(router->groups[i].name, revision))
            return &router->groups[i];
    return NULL;
}

static bool is_target(const struct deciding *d, const struct fl_serving_set *set)
{
    return fl_streq(set->revision, d->world->target.revision);
}

/* Of several that claim it (a change of roles was cut short) the wanted one, then the newest. */
static bool is_rather_stable(const struct deciding *d, const struct fl_serving_set *a,
                             const struct fl_serving_set *b)
{
    if (is_target(d, a) != is_target(d, b))
        return is_target(d, a);
    return a->created_us > b->created_us;
}

static struct part *add_part(struct deciding *d, const struct fl_serving_set *set,
                             const char *revision)
{
    struct part *part = &d->parts[d->count++];

    *part = (struct part){.set = set, .revision = revision, .epoch = ""};
    return part;
}

static void find_parts(struct deciding *d)
{
    const struct fl_serving_world *world = d->world;
    struct part *target = NULL;

    for (size_t i = 0; i < world->set_count && i < FL_SERVING_SETS_MAX; i++) {
        struct part *part = add_part(d, &world->sets[i], world->sets[i].revision);

        if (part->set->stable && (!d->stable || is_rather_stable(d, part->set, d->stable->set)))
            d->stable = part;
        if (is_target(d, part->set))
            target = part;
    }
    if (!target)
        target = add_part(d, NULL, world->target.revision);
    if (!d->stable) /* nothing to be careful about */
        d->stable = target;
    d->candidate = target == d->stable ? NULL : target;
    if (d->stable->set) {
        d->rejected = d->stable->set->rejected;
        d->rejected_why = d->stable->set->rejected_why;
    }
}

/* Taking back */

static void take_back(struct deciding *d, const char *why)
{
    d->rejected = d->candidate->revision;
    d->rejected_why = why;
    d->candidate->keep = 0;
    d->candidate->percent = 0;
    d->candidate->mirror = false;
    d->stable->keep = d->world->replicas;
    d->stable->percent = 100;
    d->plan->state = FL_SERVING_ROLLED_BACK;
    d->plan->message = fl_arena_printf(d->arena, "taken back: %s", why);
    d->plan->step = 0;
}

static void promote(struct deciding *d)
{
    d->stable->percent = d->stable->keep = 0;
    d->stable = d->candidate;
    d->candidate = NULL;
    d->stable->keep = d->world->replicas;
    d->stable->percent = 100;
    d->stable->mirror = false;
    d->stable->epoch = "";
    d->rejected = d->rejected_why = NULL;
    d->plan->state = FL_SERVING_SETTLED;
    d->plan->step = 0;
}

/* `since_us`: when it last moved. true: it was taken back. */
static bool is_overdue(struct deciding *d, int64_t since_us)
{
    const int64_t deadline_ms = ms_of(d->world->rollout->progress_deadline, 600000);
    const int64_t left_ms = deadline_ms - passed_ms(d, since_us);
    const struct fl_serving_set *set = d->candidate->set;

    if (left_ms > 0) {
        d->plan->look_again_ms = left_ms;
        return false;
    }
    d->plan->overdue = true;
    take_back(d, fl_arena_printf(d->arena, "its servers were not ready within %s%s%s",
                                 fl_str_or(d->world->rollout->progress_deadline, "10m"),
                                 set && set->trouble ? ": " : "",
                                 set && set->trouble ? set->trouble : ""));
    return true;
}

static int64_t candidate_since(const struct deciding *d)
{
    return d->candidate->set ? d->candidate->set->created_us : d->world->now_us;
}

/* Rolling: one more of the new ones when the last is ready, and one less of the old ones. */
static void roll(struct deciding *d)
{
    const int64_t replicas = d->world->replicas;
    const int64_t missing =
        d->world->rollout->has_max_unavailable ? d->world->rollout->max_unavailable : 0;
    int64_t ready;

    d->candidate->keep = replicas;
    ready = ready_in(d->candidate);
    if (ready >= replicas) {
        promote(d);
        return;
    }
    d->plan->state = FL_SERVING_ROLLING;
    d->plan->message =
        fl_arena_printf(d->arena, "%" PRId64 " of %" PRId64 " servers are new", ready, replicas);
    if (is_overdue(d, candidate_since(d)))
        return;
    d->candidate->keep = ready + 1 + missing < replicas ? ready + 1 + missing : replicas;
    d->stable->keep = replicas - ready - missing > 0 ? replicas - ready - missing : 0;
    if (ready == 0 && d->stable->keep == 0)
        d->stable->keep = 1; /* somebody serves */
    d->candidate->percent = ready * 100 / replicas;
    d->stable->percent = 100 - d->candidate->percent;
}

static void recreate(struct deciding *d)
{
    d->plan->state = FL_SERVING_ROLLING;
    if (d->stable->set && (d->stable->set->asked > 0 || d->stable->set->instance_count > 0)) {
        d->plan->message = "the old servers are stopping";
        return;
    }
    promote(d);
}

/* Canary */

static int compare_ints(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int64_t percent_of_step(const struct deciding *d, size_t step)
{
    const struct fl_int_list *steps = &d->world->rollout->steps;
    int64_t *sorted = fl_new_array(d->arena, int64_t, steps->count + 1);

    if (steps->count == 0)
        return 10;
    memcpy(sorted, steps->items, steps->count * sizeof(*sorted));
    qsort(sorted, steps->count, sizeof(*sorted), compare_ints);
    return sorted[step - 1];
}

static size_t step_count(const struct deciding *d)
{
    return d->world->rollout->steps.count > 0 ? d->world->rollout->steps.count : 1;
}

/* "STEP@MICROSECONDS" */
static bool read_epoch(const char *epoch, int64_t *ret_step, int64_t *ret_since_us)
{
    const char *at = strchr(epoch, '@');
    char number[24];

    if (!at || (size_t)(at - epoch) >= sizeof(number))
        return false;
    (void)memcpy(number, epoch, (size_t)(at - epoch));
    number[at - epoch] = '\0';
    return fl_str_to_int64(number, 1, 1000, ret_step) &&
           fl_str_to_int64(at + 1, 0, INT64_MAX, ret_since_us);
}

static void be_at_step(struct deciding *d, int64_t step, int64_t since_us)
{
    const bool last = step > (int64_t)step_count(d); /* all are done: more servers, then all */
    const int64_t percent = percent_of_step(d, last ? step_count(d) : (size_t)step);
    const int64_t replicas = d->world->replicas;

    d->plan->state = FL_SERVING_ROLLING;
    d->plan->step = step;
    d->plan->step_us = since_us;
    d->candidate->epoch = d->stable->epoch =
        fl_arena_printf(d->arena, "%" PRId64 "@%" PRId64, step, since_us);
    d->candidate->percent = percent;
    d->candidate->mirror = percent == 0;
    d->candidate->keep = last ? replicas : (percent * replicas + 99) / 100;
    if (d->candidate->keep < 1)
        d->candidate->keep = 1;
    d->stable->percent = 100 - percent;
    d->plan->message =
        last ? "it did well, and gets all servers"
             : fl_arena_printf(d->arena, "step %" PRId64 " of %zu: %" PRId64 " %% of the requests",
                               step, step_count(d), percent);
}

static const char *fault_of(const struct deciding *d, const struct fl_router_group *group)
{
    const struct fl_rollout *rollout = d->world->rollout;
    const double limit = number_of(rollout->max_error_rate, 0.01);
    const int64_t asked_ms = ms_of(rollout->max_latency, 0);
    const int64_t latency_ms = asked_ms > 0 ? asked_ms : 1; /* finer is not measured */

    if (group->requests < rollout->min_requests || group->requests == 0)
        return NULL;
    if ((double)group->errors > limit * (double)group->requests)
        return fl_arena_printf(d->arena,
                               "%" PRId64 " of %" PRId64 " requests failed, more than a share of "
                               "%s",
                               group->errors, group->requests,
                               fl_str_or(rollout->max_error_rate, "0.01"));
    if (rollout->max_latency && group->p99_us > latency_ms * 1000)
        return fl_arena_printf(d->arena, "its 99th percentile is %.3f ms, above %s",
                               (double)group->p99_us / 1000, rollout->max_latency);
    return NULL;
}

static const char *worse_metric(const struct deciding *d)
{
    const struct fl_rollout *rollout = d->world->rollout;
    const double new = d->world->target.metric, old = d->stable->set ? d->stable->set->metric : NAN,
                 tolerance = number_of(rollout->metric.tolerance, 0);
    const bool minimize = rollout->metric.direction == FL_ROLLOUT_METRIC_DIRECTION_MINIMIZE;

    if (!rollout->has_metric || isnan(new) || isnan(old) ||
        (minimize ? new <= old + tolerance : new >= old - tolerance))
        return NULL;
    return fl_arena_printf(d->arena, "its %s is %g, that of the serving model %g",
                           fl_str_or(rollout->metric.name, "accuracy"), new, old);
}

/* At a step whose counts are known. */
static void judge(struct deciding *d, const struct fl_router_group *group, int64_t step,
                  int64_t since_us)
{
    const int64_t left_ms = ms_of(d->world->rollout->interval, 60000) - passed_ms(d, since_us);
    const char *fault = fault_of(d, group);

    if (fault) {
        take_back(d, fault);
        return;
    }
    if (left_ms > 0 || group->requests < d->world->rollout->min_requests) {
        be_at_step(d, step, since_us);
        d->plan->look_again_ms = left_ms > 0 && left_ms < LOOK_MS ? left_ms : LOOK_MS;
        d->plan->counts_needed = true;
        return;
    }
    be_at_step(d, step + 1, d->world->now_us);
    d->plan->look_again_ms = LOOK_MS;
    d->plan->counts_needed = true;
}

static void try_out(struct deciding *d)
{
    const struct fl_router_group *group = group_of(d, d->candidate->revision);
    const char *worse = worse_metric(d);
    int64_t step = 0, since_us = 0;

    if (worse) {
        take_back(d, worse);
        return;
    }
    d->plan->state = FL_SERVING_ROLLING;
    d->candidate->keep = 1;
    if (ready_in(d->candidate) == 0) {
        d->plan->message = "the first of the new servers is starting";
        (void)is_overdue(d, candidate_since(d));
        return;
    }
    if (!group || !read_epoch(group->epoch, &step, &since_us)) {
        be_at_step(d, 1, d->world->now_us);
        d->plan->look_again_ms = LOOK_MS;
    } else if (step <= (int64_t)step_count(d)) {
        judge(d, group, step, since_us);
    } else {
        be_at_step(d, step, since_us);
        if (ready_in(d->candidate) >= d->world->replicas)
            promote(d);
        else
            (void)is_overdue(d, since_us);
    }
}

static void change_over(struct deciding *d)
{
    if (fl_streq(d->rejected, d->candidate->revision)) {
        take_back(d, fl_str_or(d->rejected_why, "it did not do well"));
        return;
    }
    if (d->world->replicas == 0) { /* nobody serves, so nobody is to be judged or waited for */
        promote(d);
        return;
    }
    d->stable->keep = d->world->replicas;
    d->stable->percent = 100;
    switch (d->world->rollout->strategy) {
    case FL_ROLLOUT_STRATEGY_CANARY:
        try_out(d);
        break;
    case FL_ROLLOUT_STRATEGY_RECREATE:
        d->stable->keep = d->stable->percent = 0;
        recreate(d);
        break;
    default:
        roll(d);
    }
}

static void settle(struct deciding *d)
{
    d->plan->state = FL_SERVING_SETTLED;
    d->stable->keep = d->world->replicas;
    d->stable->percent = 100;
    d->stable->stable = true;
}

/* The router's table */

static json_t *list_groups(const struct deciding *d)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->count; i++) {
        const struct part *part = &d->parts[i];

        if (ready_in(part) > 0 && (part->percent > 0 || part->mirror))
            (void)json_array_append_new(
                list, json_pack("{s:s, s:I, s:b, s:b, s:s}", "name", part->revision, "percent",
                                (json_int_t)part->percent, "mirror", part->mirror, "trial",
                                part == d->candidate && d->plan->step > 0, "epoch", part->epoch));
    }
    return list;
}

static json_t *list_backends(const struct deciding *d)
{
    json_t *list = json_array();

    for (size_t p = 0; p < d->count; p++) {
        const struct part *part = &d->parts[p];

        for (size_t i = 0; part->set && i < part->set->instance_count; i++) {
            const struct fl_serving_instance *instance = &part->set->instances[i];

            if (instance->ready && instance->index < part->keep &&
                (part->percent > 0 || part->mirror))
                (void)json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "id", instance->id,
                                                            "group", part->revision, "url",
                                                            instance->url));
        }
    }
    return list;
}

static bool has_group(const struct deciding *d, const json_t *wanted)
{
    const struct fl_router_group *group = group_of(d, fl_json_str(wanted, "name"));

    return group && group->percent == fl_json_int(wanted, "percent", -1) &&
           group->mirror == fl_json_bool(wanted, "mirror", false) &&
           group->trial == fl_json_bool(wanted, "trial", false) &&
           fl_streq(group->epoch, fl_json_str(wanted, "epoch"));
}

static bool has_backend(const struct deciding *d, const json_t *wanted)
{
    const struct fl_router_view *router = &d->world->router;

    for (size_t i = 0; i < router->backend_count; i++) {
        const struct fl_router_backend *backend = &router->backends[i];

        if (!backend->removed && fl_streq(backend->id, fl_json_str(wanted, "id")))
            return fl_streq(backend->url, fl_json_str(wanted, "url")) &&
                   fl_streq(backend->group, fl_json_str(wanted, "group"));
    }
    return false;
}

static size_t backends_in_force(const struct fl_router_view *router)
{
    size_t count = 0;

    for (size_t i = 0; i < router->backend_count; i++)
        count += !router->backends[i].removed;
    return count;
}

static json_t *load_terms(const struct deciding *d)
{
    struct fl_router_load terms;

    if (!d->world->autoscale)
        return NULL;
    terms = fl_scaling_terms(d->world->autoscale);
    return json_pack("{s:s, s:I, s:I}", "metric", terms.metric, "windowMs",
                     (json_int_t)terms.window_ms, "delayMs", (json_int_t)terms.delay_ms);
}

static bool is_load_in_force(const struct deciding *d)
{
    const struct fl_router_load *load = &d->world->router.load;
    const struct fl_router_load terms =
        d->world->autoscale ? fl_scaling_terms(d->world->autoscale) : (struct fl_router_load){0};

    return fl_streq(load->metric, terms.metric) && load->window_ms == terms.window_ms &&
           load->delay_ms == terms.delay_ms;
}

static bool is_in_force(const struct deciding *d, const json_t *groups, const json_t *backends)
{
    const struct fl_router_view *router = &d->world->router;
    const json_t *item;
    size_t i;

    if (!is_load_in_force(d))
        return false;
    if (router->version == 0 || json_array_size(groups) != router->group_count ||
        json_array_size(backends) != backends_in_force(router))
        return false;
    json_array_foreach(groups, i, item)
        if (!has_group(d, item))
            return false;
    json_array_foreach(backends, i, item)
        if (!has_backend(d, item))
            return false;
    return true;
}

static void make_table(struct deciding *d)
{
    json_t *groups = fl_json_in_arena(d->arena, list_groups(d)),
           *backends = fl_json_in_arena(d->arena, list_backends(d));

    if (!d->world->router.known || is_in_force(d, groups, backends))
        return;
    d->plan->table =
        fl_json_in_arena(d->arena, json_pack("{s:I, s:O, s:O, s:o*}", "version",
                                             (json_int_t)d->world->router.version + 1, "groups",
                                             groups, "backends", backends, "load", load_terms(d)));
}

/* Workloads */

/* Whether a server may be asked to end: the router has heard that it is out, and it has answered
 * its last request. Without a router nobody sends any. */
static bool may_lower(const struct deciding *d, const struct part *part)
{
    const struct fl_router_view *router = &d->world->router;

    if (!d->world->has_router)
        return true;
    if (!router->known || d->plan->table)
        return false;
    for (size_t i = 0; i < router->backend_count; i++)
        if (router->backends[i].removed && fl_streq(router->backends[i].group, part->revision))
            return false;
    return true;
}

static void wish(struct deciding *d, const struct part *part)
{
    struct fl_serving_wish *wish = &d->plan->wishes[d->plan->wish_count++];
    const bool is_stable = part == d->stable;

    *wish = (struct fl_serving_wish){.revision = part->revision,
                                     .instances = part->keep,
                                     .stable = is_stable,
                                     .rejected = is_stable ? d->rejected : NULL,
                                     .rejected_why = is_stable ? d->rejected_why : NULL};
    if (part->set && part->keep < part->set->asked && !may_lower(d, part))
        wish->instances = part->set->asked;
    wish->remove = !is_stable && part != d->candidate && wish->instances == 0;
    /* What was taken back is kept out, and gone. */
    if (part == d->candidate && d->plan->state == FL_SERVING_ROLLED_BACK && wish->instances == 0)
        wish->remove = true;
}

static void make_wishes(struct deciding *d)
{
    for (size_t i = 0; i < d->count; i++) {
        const struct part *part = &d->parts[i];

        if (part->set || part->keep > 0)
            wish(d, part);
    }
}

static void tell(struct deciding *d)
{
    struct fl_serving_plan *plan = d->plan;
    int64_t most = -1;

    for (size_t i = 0; i < d->count; i++) {
        const struct part *part = &d->parts[i];
        const int64_t ready = ready_in(part);

        plan->ready += ready;
        if (fl_streq(part->revision, d->world->target.revision))
            plan->updated += ready;
        if (ready > 0 && part->percent > most) {
            most = part->percent;
            plan->serving = part->revision;
        }
    }
    if (plan->message)
        return;
    plan->message = fl_arena_printf(d->arena, "%" PRId64 " of %" PRId64 " servers are ready",
                                    plan->ready, d->world->replicas);
}

/* With nobody ready and no other to go back to, waiting has an end too. */
static void watch_start(struct deciding *d)
{
    const struct fl_serving_set *set = d->stable->set;
    const int64_t deadline_ms = ms_of(d->world->rollout->progress_deadline, 600000);

    if (d->plan->state != FL_SERVING_SETTLED || !set || ready_in(d->stable) > 0 ||
        d->world->replicas == 0)
        return;
    d->plan->overdue = passed_ms(d, set->created_us) >= deadline_ms;
    if (!d->plan->overdue)
        d->plan->look_again_ms = deadline_ms - passed_ms(d, set->created_us);
}

/* Load decides all the time. */
static void watch_load(struct deciding *d)
{
    const int64_t look_ms = d->world->autoscale ? fl_scaling_look_ms(d->world->autoscale) : -1;

    if (look_ms < 0)
        return;
    d->plan->counts_needed = true;
    if (d->plan->look_again_ms < 0 || d->plan->look_again_ms > look_ms)
        d->plan->look_again_ms = look_ms;
}

int64_t fl_serving_replicas(struct fl_arena *arena, const struct fl_serving_world *world,
                            int64_t asked, const char **ret_why)
{
    struct fl_serving_plan unused;
    struct deciding d = {.arena = arena, .world = world, .plan = &unused};
    const struct fl_serving_set *stable;

    if (!world->autoscale)
        return asked;
    find_parts(&d);
    stable = d.stable->set;
    return fl_scaling_decide(world->autoscale,
                             !stable                ? 0
                             : stable->replicas > 0 ? stable->replicas
                                                    : stable->asked,
                             &world->router.load, arena, ret_why);
}

void fl_serving_decide(struct fl_arena *arena, const struct fl_serving_world *world,
                       struct fl_serving_plan *ret_plan)
{
    struct deciding d = {.arena = arena, .world = world, .plan = ret_plan};

    *ret_plan = (struct fl_serving_plan){.look_again_ms = -1};
    find_parts(&d);
    if (d.candidate)
        change_over(&d);
    else
        settle(&d);
    watch_start(&d);
    watch_load(&d);
    make_table(&d);
    make_wishes(&d);
    tell(&d);
}
