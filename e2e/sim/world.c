/* The world: store, API server and clock, chance, the record of what happened, and what scenarios
 * do with objects. */
#include "e2e/sim/sim.h"

#include "api/gen/crds_embedded.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define LOOP_STEPS_MAX 10000

/* Chance: splitmix64. */

uint64_t sim_random(struct sim *sim)
{
    uint64_t z = (sim->random += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return sim_random(sim) % bound; /* a bias of 2^-50 finds no fewer bugs */
}

bool sim_chance(struct sim *sim, unsigned percent)
{
    return sim_below(sim, 100) < percent;
}

void sim_advance(struct sim *sim, int64_t ms)
{
    fl_fake_env_advance(&sim->clock, ms);
}

bool sim_planted(const struct sim *sim, const char *bug)
{
    return sim->options.planted && fl_streq(sim->options.planted, bug);
}

/* The record. */

static void mix(uint64_t *hash, const char *text)
{
    for (; *text; text++)
        *hash = (*hash ^ (unsigned char)*text) * 0x100000001b3u;
}

void sim_trace(struct sim *sim, const char *fmt, ...)
{
    char **slot = &sim->lines[sim->line_count % SIM_TRACE_LINES], text[400];
    va_list ap;
    int at;

    at = snprintf(text, sizeof(text), "%4" PRIu64 " %9" PRId64 " ", sim->turn,
                  sim_now_ms(sim) - sim->began_ms);
    va_start(ap, fmt);
    (void)vsnprintf(text + at, sizeof(text) - (size_t)at, fmt, ap);
    va_end(ap);
    mix(&sim->trace_hash, text);
    free(*slot);
    *slot = fl_strdup(text);
    sim->line_count++;
    if (sim->options.trace)
        (void)fprintf(stderr, "%s\n", text);
}

void sim_fail(struct sim *sim, const char *oracle, const char *fmt, ...)
{
    char text[1000];
    va_list ap;

    if (sim->result.failed)
        return;
    sim->result.failed = true;
    (void)snprintf(sim->result.oracle, sizeof(sim->result.oracle), "%s", oracle);
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fl_buf_puts(&sim->failure, text);
    sim_trace(sim, "FAILED %s: %s", oracle, text);
}

static const char *replay_options(const struct sim *sim, char *out, size_t size)
{
    const struct sim_options *options = &sim->options;

    if (options->fault_at)
        (void)snprintf(out, size, " AT=%" PRIu64 " FAULT=%s", options->fault_at,
                       sim_fault_name(options->fault));
    else
        (void)snprintf(out, size, "%s", options->faultless ? " FAULTLESS=1" : "");
    return out;
}

/* The last turns, a turn being all lines with its number. */
static uint64_t first_line_shown(const struct sim *sim)
{
    uint64_t at = sim->line_count, turns = 0, last = UINT64_MAX;

    while (at > 0 && sim->line_count - at < SIM_TRACE_LINES) {
        uint64_t turn = strtoull(sim->lines[(at - 1) % SIM_TRACE_LINES], NULL, 10);

        if (turn != last && turns++ == SIM_TRACE_SHOWN)
            break;
        last = turn;
        at--;
    }
    return at;
}

void sim_report(const struct sim *sim, struct fl_buf *out)
{
    char replay[80];

    for (uint64_t i = first_line_shown(sim); i < sim->line_count; i++)
        fl_buf_printf(out, "  %s\n", sim->lines[i % SIM_TRACE_LINES]);
    fl_buf_printf(
        out, "FAILED scenario %s, seed %" PRIu64 ", turn %" PRIu64 ", call %" PRIu64 ": %s: %s\n",
        sim->scenario->name, sim->options.seed, sim->turn, sim->calls, sim->result.oracle,
        fl_buf_text(&sim->failure));
    fl_buf_printf(out, "replay: make sim SCENARIO=%s SEED=%" PRIu64 "%s%s%s\n", sim->scenario->name,
                  sim->options.seed, replay_options(sim, replay, sizeof(replay)),
                  sim->options.planted ? " PLANTED=" : "", fl_str_or(sim->options.planted, ""));
}

/* Making it. */

static size_t collect_definitions(const struct sim_scenario *scenario, const char **out)
{
    size_t count = 0;

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        out[count++] = fl_embedded_crds[i].json;
    for (size_t i = 0; scenario->definitions && scenario->definitions[i]; i++)
        out[count++] = scenario->definitions[i];
    return count;
}

static void step_loop(struct sim *sim)
{
    for (int i = 0; i < LOOP_STEPS_MAX && fl_loop_step(sim->loop) > 0; i++)
        ;
}

static int start_server(struct sim *sim, struct fl_error *err)
{
    int r;

    sim->server_options = (struct fl_apiserver_options){
        .env = &sim->env,
        .loop = sim->loop,
        .store = sim->store,
        .version = "simulated",
        .definitions = sim->definitions,
        .definition_count = collect_definitions(sim->scenario, sim->definitions),
    };
    r = fl_apiserver_create(&sim->server_options, &sim->server, err);
    if (r < 0)
        return r;
    sim->client = fl_apiclient_create_local(&sim->env, sim->loop, sim->store, sim->server);
    step_loop(sim);
    return 0;
}

void sim_world_restart_server(struct sim *sim)
{
    struct fl_error err = {0};

    sim_trace(sim, "the API server begins anew");
    fl_apiclient_destroy(sim->client);
    fl_apiserver_hang_up(sim->server);
    fl_apiserver_detach(sim->server);
    step_loop(sim);
    fl_apiserver_destroy(sim->server);
    if (start_server(sim, &err) < 0)
        sim_fail(sim, "start", "API server: %s", err.msg);
}

int sim_world_create(struct sim *sim, const struct sim_scenario *scenario, struct fl_error *err)
{
    struct fl_store_options options = {.env = &sim->env, .driver = "memory"};
    int r;

    *sim = (struct sim){.scenario = scenario};
    fl_fake_env_init(&sim->clock, 1, NULL);
    sim->env = sim->clock.env;
    r = fl_loop_create_simulated(&sim->clock, &sim->loop, err);
    if (r == 0)
        r = fl_store_open(&options, &sim->store, err);
    if (r < 0)
        return r;
    sim_rules_begin(sim);
    r = start_server(sim, err);
    if (r < 0)
        return fl_error_wrap(err, "API server");
    sim->began_ms = sim_now_ms(sim);
    sim->first_revision = fl_store_revision(sim->store);
    return 0;
}

void sim_world_destroy(struct sim *sim)
{
    fl_apiclient_destroy(sim->client);
    if (sim->server)
        fl_apiserver_hang_up(sim->server);
    fl_store_close(sim->store);
    step_loop(sim);
    fl_apiserver_destroy(sim->server);
    fl_loop_destroy(sim->loop);
    fl_map_destroy(sim->known);
    json_decref(sim->lease);
    for (size_t i = 0; i < SIM_TRACE_LINES; i++)
        free(sim->lines[i]);
    fl_buf_finish(&sim->failure);
}

/* Objects. */

static void must(struct sim *sim, int r, const struct fl_error *err, const char *what)
{
    if (r < 0 && r != FL_E_NOT_FOUND)
        sim_fail(sim, "user", "%s: %s", what, err->msg);
}

json_t *sim_get(struct sim *sim, const struct fl_gvr *gvr, const char *ns, const char *name)
{
    struct fl_error err = {0};
    json_t *object = NULL;
    int r = fl_apiclient_get(sim->client, gvr, ns, name, &object, &err);

    must(sim, r, &err, "get");
    return r < 0 ? NULL : object;
}

json_t *sim_list(struct sim *sim, const struct fl_gvr *gvr)
{
    struct fl_error err = {0};
    json_t *items = NULL;
    int r = fl_apiclient_list(sim->client, gvr, NULL, NULL, &items, &err);

    must(sim, r, &err, "list");
    return r < 0 ? json_array() : items;
}

void sim_create(struct sim *sim, const struct fl_gvr *gvr, json_t *object)
{
    FL_JSON owned = object;
    struct fl_error err = {0};

    must(sim,
         fl_apiclient_create_object(sim->client, gvr, fl_json_str(owned, "metadata.namespace"),
                                    owned, NULL, &err),
         &err, "create");
}

void sim_patch(struct sim *sim, const struct fl_gvr *gvr, const char *ns, const char *name,
               json_t *patch)
{
    FL_JSON owned = patch;
    struct fl_error err = {0};

    must(sim, fl_apiclient_patch(sim->client, gvr, ns, name, NULL, owned, NULL, &err), &err,
         "patch");
}

void sim_delete(struct sim *sim, const struct fl_gvr *gvr, const char *ns, const char *name)
{
    struct fl_error err = {0};

    must(sim, fl_apiclient_delete(sim->client, gvr, ns, name, NULL, &err), &err, "delete");
}

bool sim_wrong(struct fl_buf *why, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fl_buf_puts(why, text);
    return false;
}

const json_t *sim_condition(const json_t *object, const char *type)
{
    const json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition) {
        if (fl_streq(fl_json_str(condition, "type"), type))
            return condition;
    }
    return NULL;
}

bool sim_is_condition(const json_t *object, const char *type, const char *status)
{
    const json_t *condition = sim_condition(object, type);

    return condition && fl_streq(fl_json_str(condition, "status"), status);
}
