/* Planted bugs of reconcilers that run here as they are: what one with this mistake would have
 * asked the API server is made of what the right one asks. */
#include "e2e/sim/sim.h"
#include "lib/str.h"

#include <string.h>

/* Of calls with this method whose target has these parts. `alter` may change the body, which is
 * NULL where there is none, and the call. */
struct mistake {
    const char *bug, *method, *part, *end;
    void (*alter)(struct sim *sim, struct fl_api_call *call, json_t *body);
};

static void drop(json_t *body, const char *path, const char *member)
{
    (void)json_object_del(fl_json_path(body, path), member);
}

static void forget_preconditions(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    (void)sim;
    (void)call;
    drop(body, "metadata", "uid");
    drop(body, "metadata", "resourceVersion");
}

static void forget_owner(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    (void)sim;
    (void)call;
    drop(body, "metadata", "ownerReferences");
}

static void forget_generation(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    (void)sim;
    (void)call;
    drop(body, "status", "observedGeneration");
}

static void forget_stable(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    (void)sim;
    (void)call;
    drop(body, "metadata.annotations", "flops.dev/stable");
}

static void go_on(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    (void)sim;
    (void)call;
    if (fl_json_bool(body, "spec.suspend", false))
        (void)json_object_set_new(json_object_get(body, "spec"), "suspend", json_false());
}

static void skip_number(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    const int64_t index = fl_json_int(body, "spec.index", 0);

    (void)sim;
    (void)call;
    if (index > 1)
        (void)json_object_set_new(json_object_get(body, "spec"), "index", json_integer(index + 1));
}

static void be_ready_early(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    json_t *instance;
    size_t i;

    (void)sim;
    (void)call;
    json_array_foreach(fl_json_path(body, "status.instances"), i, instance)
        (void)json_object_set_new(instance, "ready", json_true());
}

static void forget_attempts(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    (void)sim;
    (void)call;
    if (fl_json_int(body, "status.attempts", 0) > 1)
        drop(body, "status", "attempts");
}

static void doubt_success(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    json_t *condition;
    size_t i;

    (void)sim;
    (void)call;
    json_array_foreach(fl_json_path(body, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), "Succeeded"))
            fl_json_set_str(condition, "status", "Unknown");
}

/* It goes as well as if it had been done. */
static void only_look(struct sim *sim, struct fl_api_call *call, json_t *body)
{
    (void)sim;
    (void)body;
    call->method = "GET";
    call->body = NULL;
    call->body_len = 0;
}

static const struct mistake mistakes[] = {
    {"blind-status", "PATCH", "", "/status", forget_preconditions},
    {"project-alias-lost", "PATCH", "/modelversions/", "", only_look},
    {"project-generation-lost", "PATCH", "/flprojects/", "/status", forget_generation},
    {"project-secret-nobodys", "POST", "/secrets", "", forget_owner},
    {"project-suspend-lost", "PATCH", "/workloads/", "", go_on},
    {"project-round-skipped", "POST", "/flrounds", "", skip_number},
    {"server-stable-lost", "PATCH", "/workloads/", "", forget_stable},
    {"server-ready-early", "PATCH", "/workloads/", "/status", be_ready_early},
    {"server-capability-left", "DELETE", "/secrets/", "", only_look},
    {"build-attempts-lost", "PATCH", "/imagebuilds/", "/status", forget_attempts},
    {"build-made-again", "PATCH", "/imagebuilds/", "/status", doubt_success},
};

static bool fits(const struct mistake *mistake, const struct sim *sim,
                 const struct fl_api_call *call)
{
    FL_CLEANUP(fl_freep)
    char *path = fl_strndup(call->target, strcspn(call->target, "?"));

    return sim_planted(sim, mistake->bug) && fl_streq(call->method, mistake->method) &&
           strstr(path, mistake->part) && fl_str_has_suffix(path, mistake->end);
}

static struct fl_bytes *alter(struct sim *sim, const struct mistake *mistake,
                              struct fl_api_call *call)
{
    struct fl_bytes *text;
    FL_JSON body = NULL;

    if (call->body_len > 0 &&
        fl_json_parse(call->body, call->body_len, NULL, NULL, NULL, &body, NULL) < 0)
        return NULL;
    mistake->alter(sim, call, body);
    if (!body || !call->body)
        return NULL;
    text = fl_json_to_bytes(body);
    call->body = text->data;
    call->body_len = text->len;
    return text;
}

struct fl_bytes *sim_plant_in_call(struct sim *sim, struct fl_api_call *call)
{
    for (size_t i = 0; sim->options.planted && i < FL_COUNT_OF(mistakes); i++)
        if (fits(&mistakes[i], sim, call))
            return alter(sim, &mistakes[i], call);
    return NULL;
}
