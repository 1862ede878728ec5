#include "controller/runtime/lease.h"

#include "lib/log.h"
#include "lib/str.h"

#include <stdatomic.h>
#include <stdio.h>

#define LEASE_MS     15000
#define RENEW_MS     10000
#define RETRY_MS     2000
#define JITTER_PART  5 /* 1.2 times the retry, as client-go spreads it, at most */
#define TARGET_MAX   640
#define LEASE_MS_MAX (24 * 3600 * 1000LL)

struct fl_lease {
    const struct fl_env *env;
    struct fl_apiclient *client;
    char *ns, *name, *identity;
    int64_t lease_ms, renew_ms, retry_ms;
    json_t *seen;             /* the Lease's spec and version, as last seen */
    int64_t seen_changed_ms;  /* when it was first seen so, on our clock */
    atomic_llong holds_until; /* monotonic; 0: it is not held */
    atomic_llong due;
};

static int64_t or_default(int64_t value, int64_t fallback)
{
    return value > 0 ? value : fallback;
}

static int check(const struct fl_lease *lease, struct fl_error *err)
{
    if (!lease->ns || !lease->name || !lease->identity || !lease->identity[0])
        return fl_error_set(err, FL_E_INVALID, "lease: it needs a namespace, name and identity");
    if (lease->lease_ms > LEASE_MS_MAX || lease->lease_ms < 1000 ||
        lease->renew_ms >= lease->lease_ms ||
        lease->retry_ms + lease->retry_ms / JITTER_PART >= lease->renew_ms)
        return fl_error_set(err, FL_E_INVALID,
                            "lease: of its times, the lease (a second at least) must be longer "
                            "than the renewal, and that longer than 1.2 times the retry");
    return 0;
}

int fl_lease_create(const struct fl_lease_options *options, struct fl_lease **ret_lease,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_lease_destroyp) struct fl_lease *lease = fl_calloc(1, sizeof(*lease));
    int r;

    lease->env = options->env;
    lease->client = options->client;
    lease->ns = options->ns ? fl_strdup(options->ns) : NULL;
    lease->name = options->name ? fl_strdup(options->name) : NULL;
    lease->identity = options->identity ? fl_strdup(options->identity) : NULL;
    lease->lease_ms = or_default(options->lease_ms, LEASE_MS);
    lease->renew_ms = or_default(options->renew_ms, RENEW_MS);
    lease->retry_ms = or_default(options->retry_ms, RETRY_MS);
    r = check(lease, err);
    if (r < 0)
        return r;
    *ret_lease = FL_TAKE(lease);
    return 0;
}

void fl_lease_destroy(struct fl_lease *lease)
{
    if (!lease)
        return;
    json_decref(lease->seen);
    free(lease->ns);
    free(lease->name);
    free(lease->identity);
    free(lease);
}

/* Calls, whose deadline is shorter than the time in which a renewal must succeed. */

static int call(struct fl_lease *lease, const char *method, const char *suffix, const char *type,
                const json_t *body, json_t **ret_object, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = body ? fl_json_to_bytes(body) : NULL;
    char target[TARGET_MAX];

    (void)snprintf(target, sizeof(target), "/apis/coordination.k8s.io/v1/namespaces/%s/leases%s%s",
                   lease->ns, suffix ? "/" : "", fl_str_or(suffix, ""));
    return fl_apiclient_call(lease->client,
                             &(struct fl_api_call){.method = method,
                                                   .target = target,
                                                   .content_type = type,
                                                   .body = text ? text->data : NULL,
                                                   .body_len = text ? text->len : 0,
                                                   .timeout_ms = lease->renew_ms / 2},
                             ret_object, err);
}

static json_t *time_of(const struct fl_lease *lease)
{
    char text[FL_TIME_SIZE];

    fl_time_format_micro(fl_realtime_us(lease->env), text);
    return json_string(text);
}

static bool is_ours(const struct fl_lease *lease, const json_t *object)
{
    return fl_streq(fl_json_str(object, "spec.holderIdentity"), lease->identity);
}

static bool is_free(const json_t *object)
{
    return fl_str_or(fl_json_str(object, "spec.holderIdentity"), "")[0] == '\0';
}

/* The spec with which it is ours; `old` is NULL where there is none yet. */
static json_t *our_spec(const struct fl_lease *lease, const json_t *old)
{
    json_t *spec = json_object();
    int64_t transitions = fl_json_int(old, "spec.leaseTransitions", 0);

    (void)json_object_set_new(spec, "holderIdentity", json_string(lease->identity));
    (void)json_object_set_new(spec, "leaseDurationSeconds",
                              json_integer((lease->lease_ms + 999) / 1000));
    (void)json_object_set_new(spec, "renewTime", time_of(lease));
    if (!old || !is_ours(lease, old)) {
        (void)json_object_set_new(spec, "acquireTime", time_of(lease));
        (void)json_object_set_new(spec, "leaseTransitions",
                                  json_integer(old ? transitions + 1 : 0));
    }
    return spec;
}

/* What was seen last, and since when: the only judgement of another's life. */
static void observe(struct fl_lease *lease, json_t *object)
{
    bool same = lease->seen &&
                fl_streq(fl_json_str(lease->seen, "metadata.resourceVersion"),
                         fl_json_str(object, "metadata.resourceVersion")) &&
                json_equal(json_object_get(lease->seen, "spec"), json_object_get(object, "spec"));

    if (!same)
        lease->seen_changed_ms = fl_monotonic_ms(lease->env);
    json_decref(lease->seen);
    lease->seen = object;
}

static int create(struct fl_lease *lease, json_t **ret_object, struct fl_error *err)
{
    FL_JSON object = json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "apiVersion",
                               "coordination.k8s.io/v1", "kind", "Lease", "metadata", "name",
                               lease->name, "namespace", lease->ns, "spec", our_spec(lease, NULL));

    return call(lease, "POST", NULL, "application/json", object, ret_object, err);
}

static int patch_spec(struct fl_lease *lease, json_t *spec, json_t **ret_object,
                      struct fl_error *err)
{
    FL_JSON patch = json_pack("{s:{s:s?, s:s?}, s:o}", "metadata", "resourceVersion",
                              fl_json_str(lease->seen, "metadata.resourceVersion"), "uid",
                              fl_json_str(lease->seen, "metadata.uid"), "spec", spec);

    return call(lease, "PATCH", lease->name, "application/merge-patch+json", patch, ret_object,
                err);
}

/* Whether somebody else may hold it still. */
static bool is_taken(const struct fl_lease *lease)
{
    int64_t held_ms = fl_json_int(lease->seen, "spec.leaseDurationSeconds", 0) * 1000;

    if (is_free(lease->seen) || is_ours(lease, lease->seen))
        return false;
    if (held_ms > LEASE_MS_MAX)
        held_ms = LEASE_MS_MAX;
    return lease->seen_changed_ms + held_ms > fl_monotonic_ms(lease->env);
}

static int take(struct fl_lease *lease, struct fl_error *err)
{
    json_t *object = NULL;
    int r;

    r = patch_spec(lease, our_spec(lease, lease->seen), &object, err);
    if (r < 0)
        return r;
    observe(lease, object);
    return 1;
}

static int take_new(struct fl_lease *lease, struct fl_error *err)
{
    json_t *object = NULL;
    int r;

    r = create(lease, &object, err);
    if (r < 0)
        return r;
    observe(lease, object);
    return 1;
}

/* 1: it is ours; 0: somebody else's; < 0: nobody knows. */
static int look_and_take(struct fl_lease *lease, struct fl_error *err)
{
    json_t *object = NULL;
    int r;

    r = call(lease, "GET", lease->name, NULL, NULL, &object, err);
    if (r == FL_E_NOT_FOUND)
        return take_new(lease, err);
    if (r < 0)
        return r;
    observe(lease, object);
    return is_taken(lease) ? 0 : take(lease, err);
}

/* Whoever holds it renews without a look: the version says whether it is still so. */
static int acquire_or_renew(struct fl_lease *lease, struct fl_error *err)
{
    int r;

    if (!fl_lease_holds(lease))
        return look_and_take(lease, err);
    r = take(lease, err);
    return r == FL_E_CONFLICT || r == FL_E_NOT_FOUND ? look_and_take(lease, err) : r;
}

/* Candidates spread, so that they do not all come at the same time. */
static int64_t next_try_ms(const struct fl_lease *lease, bool ours)
{
    uint64_t spread = (uint64_t)(lease->retry_ms / JITTER_PART) + 1;

    return lease->retry_ms + (ours ? 0 : (int64_t)fl_random_below(lease->env, spread));
}

void fl_lease_try(struct fl_lease *lease)
{
    int64_t start_ms = fl_monotonic_ms(lease->env);
    struct fl_error err = {0};
    int r;

    if (start_ms < atomic_load(&lease->due))
        return;
    r = acquire_or_renew(lease, &err);
    if (r > 0) /* counted from before the call: others count from after it */
        atomic_store(&lease->holds_until, start_ms + lease->renew_ms);
    else if (r == 0)
        atomic_store(&lease->holds_until, 0);
    else
        fl_log_warn(lease->env->log, "cannot get or renew the lease", FL_STR("lease", lease->name),
                    FL_STR("error", err.msg));
    atomic_store(&lease->due, fl_monotonic_ms(lease->env) + next_try_ms(lease, r > 0));
}

bool fl_lease_holds(struct fl_lease *lease)
{
    return fl_monotonic_ms(lease->env) < atomic_load(&lease->holds_until);
}

/* Half of what is between our end and the moment at which others may begin is for clocks and for
 * what comes after an answer. */
int64_t fl_lease_left_ms(struct fl_lease *lease)
{
    int64_t now_ms = fl_monotonic_ms(lease->env), until_ms = atomic_load(&lease->holds_until);

    return now_ms < until_ms ? until_ms - now_ms + (lease->lease_ms - lease->renew_ms) / 2 : 0;
}

/* The end of leadership is due, too: whoever leads has to be told. */
int64_t fl_lease_next_due_ms(struct fl_lease *lease)
{
    int64_t due = atomic_load(&lease->due), until = atomic_load(&lease->holds_until);

    return fl_lease_holds(lease) && until < due ? until : due;
}

void fl_lease_release(struct fl_lease *lease)
{
    struct fl_error err = {0};
    json_t *object = NULL;
    bool held = fl_lease_holds(lease);

    atomic_store(&lease->holds_until, 0);
    if (!held)
        return;
    if (patch_spec(lease,
                   json_pack("{s:s, s:i, s:o, s:o}", "holderIdentity", "", "leaseDurationSeconds",
                             1, "renewTime", time_of(lease), "acquireTime", time_of(lease)),
                   &object, &err) < 0) {
        fl_log_warn(lease->env->log, "cannot give up the lease", FL_STR("lease", lease->name),
                    FL_STR("error", err.msg));
        return;
    }
    observe(lease, object);
}
