#include "cmd/oakestra.h"

#include "lib/json.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/workload/oakestra/oakestra.h"

struct fl_oakestras {
    const struct fl_env *env;
    const char *data_dir, *identity;
    struct fl_lock *lock;
    struct fl_signal *idle;
    struct fl_apiclient *client;
    int readers;
    bool stopped;
};

struct fl_oakestras *fl_oakestras_create(const struct fl_env *env, const char *data_dir,
                                         const char *identity)
{
    struct fl_oakestras *oakestras = fl_calloc(1, sizeof(*oakestras));

    oakestras->env = env;
    oakestras->data_dir = data_dir;
    oakestras->identity = identity;
    oakestras->lock = fl_lock_create();
    oakestras->idle = fl_signal_create();
    return oakestras;
}

void fl_oakestras_destroy(struct fl_oakestras *oakestras)
{
    if (!oakestras)
        return;
    fl_signal_destroy(oakestras->idle);
    fl_lock_destroy(oakestras->lock);
    free(oakestras);
}

void fl_oakestras_attach(struct fl_oakestras *oakestras, struct fl_apiclient *client)
{
    FL_LOCKED(oakestras->lock);
    oakestras->client = client;
}

void fl_oakestras_stop(struct fl_oakestras *oakestras)
{
    FL_LOCKED(oakestras->lock);
    oakestras->stopped = true;
    while (oakestras->readers > 0)
        (void)fl_signal_wait(oakestras->idle, oakestras->lock, -1);
}

static struct fl_apiclient *begin_to_read(struct fl_oakestras *oakestras)
{
    FL_LOCKED(oakestras->lock);

    if (oakestras->stopped || !oakestras->client)
        return NULL;
    oakestras->readers++;
    return oakestras->client;
}

static void end_reading(struct fl_oakestras *oakestras)
{
    FL_LOCKED(oakestras->lock);
    oakestras->readers--;
    fl_signal_all(oakestras->idle);
}

/* A missing key is NULL. */
static const char *value_of(const json_t *secret, const char *key, struct fl_arena *arena)
{
    const char *text = json_string_value(json_object_get(json_object_get(secret, "data"), key));
    char *value = NULL;
    size_t len = 0;

    if (!text || !fl_base64_decode(arena, text, strlen(text), &value, &len) || strlen(value) != len)
        return NULL;
    return value;
}

static int read_secret(struct fl_oakestras *oakestras, const char *ns, const char *name,
                       json_t **ret_secret, struct fl_error *err)
{
    struct fl_apiclient *client = begin_to_read(oakestras);
    int r;

    if (!client)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the control plane is stopping");
    r = fl_apiclient_get(client, &fl_gvr_secrets, ns, name, ret_secret, err);
    end_reading(oakestras);
    return r < 0 ? fl_error_wrap(err, "Secret %s/%s", ns, name) : 0;
}

static int read_credentials(void *user, const struct fl_orchestrator_spec *spec,
                            struct fl_arena *arena, struct fl_oakestra_credentials *ret_credentials,
                            struct fl_error *err)
{
    const struct fl_orchestrator_credentials_secret *ref = &spec->credentials_secret;
    FL_JSON secret = NULL;
    int r = read_secret(user, ref->namespace, ref->name, &secret, err);

    if (r < 0)
        return r;
    *ret_credentials = (struct fl_oakestra_credentials){
        .username = value_of(secret, "username", arena),
        .password = value_of(secret, "password", arena),
        .organization = value_of(secret, "organization", arena),
    };
    if (!ret_credentials->username || !ret_credentials->password)
        return fl_error_set(err, FL_E_UNAVAILABLE, "Secret %s/%s needs username and password",
                            ref->namespace, ref->name);
    return 0;
}

int fl_oakestras_make(void *user, const char *name, fl_run_changed_fn *changed, void *changed_user,
                      struct fl_orchestrator_driver **ret_driver, struct fl_error *err)
{
    struct fl_oakestras *oakestras = user;
    const struct fl_oakestra_options options = {
        .env = oakestras->env,
        .data_dir = oakestras->data_dir,
        .name = name,
        .identity = oakestras->identity,
        .credentials = read_credentials,
        .credentials_user = oakestras,
        .changed = changed,
        .changed_user = changed_user,
    };

    return fl_oakestra_create(&options, ret_driver, err);
}
