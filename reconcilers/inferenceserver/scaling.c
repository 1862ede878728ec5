#include "reconcilers/inferenceserver/scaling.h"

#include "api/field.h"
#include "lib/str.h"

#include <inttypes.h>
#include <math.h>

#define TOLERANCE       0.1
#define PANIC_THRESHOLD 2.0
#define WINDOW_MS       60000
#define SHORTEST_MS     1000 /* what a router measures */
#define LONGEST_MS      (INT64_C(1000) * 3600 * 24 * 365)
#define DELAY_MS        300000
#define LOOKS_A_WINDOW  20 /* two for a rush */
#define LOOK_MIN_MS     100
#define LOOK_MAX_MS     2000

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static int64_t ms_of(const char *duration, int64_t fallback)
{
    int64_t ms = fallback;

    if (duration)
        (void)fl_duration_parse(duration, &ms);
    return ms;
}

struct fl_router_load fl_scaling_terms(const struct fl_autoscale *autoscale)
{
    return (struct fl_router_load){
        .metric =
            autoscale->metric == FL_AUTOSCALE_METRIC_REQUEST_RATE ? "RequestRate" : "Concurrency",
        .window_ms = clamp(ms_of(autoscale->window, WINDOW_MS), SHORTEST_MS, LONGEST_MS),
        .delay_ms = clamp(ms_of(autoscale->scale_down_delay, DELAY_MS), 0, LONGEST_MS)};
}

int64_t fl_scaling_look_ms(const struct fl_autoscale *autoscale)
{
    return clamp(fl_scaling_terms(autoscale).window_ms / LOOKS_A_WINDOW, LOOK_MIN_MS, LOOK_MAX_MS);
}

static bool is_measured(const struct fl_autoscale *autoscale, const struct fl_router_load *load)
{
    const struct fl_router_load terms = fl_scaling_terms(autoscale);

    return isfinite(load->average) && isfinite(load->panic) &&
           fl_streq(load->metric, terms.metric) && load->window_ms == terms.window_ms &&
           load->delay_ms == terms.delay_ms;
}

/* Servers for a load; a hair above a whole number is that number. */
static int64_t servers_for(const struct fl_autoscale *autoscale, double load)
{
    const double servers = ceil(load / (double)autoscale->target - 1e-9);

    if (!(servers > 0))
        return 0;
    return servers < (double)autoscale->max_replicas ? (int64_t)servers : autoscale->max_replicas;
}

/* Once it was followed half the way the rest is less than twice what they are meant for then; that
 * it goes on shows in more servers than the average asks for, and in how far that lags behind. */
static bool is_rush(const struct fl_autoscale *autoscale, int64_t current,
                    const struct fl_router_load *load)
{
    const double meant_for = (double)current * (double)autoscale->target;

    if (load->panic >= PANIC_THRESHOLD * meant_for)
        return true;
    return current > servers_for(autoscale, load->average) &&
           load->panic >= PANIC_THRESHOLD * load->average &&
           load->panic > (1 + TOLERANCE) * meant_for;
}

static int64_t follow(const struct fl_autoscale *autoscale, int64_t current,
                      const struct fl_router_load *load)
{
    const double meant_for = (double)current * (double)autoscale->target;
    int64_t wanted = fabs(load->average - meant_for) <= TOLERANCE * meant_for
                         ? current
                         : servers_for(autoscale, load->average);
    const int64_t rush = servers_for(autoscale, load->panic);

    return rush > wanted && is_rush(autoscale, current, load) ? rush : wanted;
}

/* How far down it may go. */
static int64_t floor_of(const struct fl_autoscale *autoscale, int64_t current,
                        const struct fl_router_load *load)
{
    const int64_t steady = servers_for(autoscale, load->peak),
                  rush = servers_for(autoscale, load->panic_peak);
    const int64_t floor = steady > rush ? steady : rush;

    if (load->covered_ms < load->delay_ms)
        return current;
    return floor < current ? floor : current;
}

int64_t fl_scaling_decide(const struct fl_autoscale *autoscale, int64_t current,
                          const struct fl_router_load *load, struct fl_arena *arena,
                          const char **ret_why)
{
    const int64_t least = autoscale->min_replicas > 0 ? autoscale->min_replicas : 1;
    const int64_t now = clamp(current > 0 ? current : least, least, autoscale->max_replicas);
    int64_t wanted;

    if (!is_measured(autoscale, load))
        return now;
    wanted = follow(autoscale, now, load);
    if (wanted < now) {
        const int64_t floor = floor_of(autoscale, now, load);

        wanted = wanted > floor ? wanted : floor;
    }
    wanted = clamp(wanted, least, autoscale->max_replicas);
    if (ret_why && wanted != now)
        *ret_why = fl_arena_printf(
            arena,
            "%" PRId64 " servers instead of %" PRId64 ": %s is %.1f, lately %.1f; each is meant "
            "for %" PRId64,
            wanted, now, load->metric, load->average, load->panic, autoscale->target);
    return wanted;
}
