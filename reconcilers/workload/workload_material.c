/* Environment and files of a run: what the spec says, with the values of Secrets. These are read
 * live, go into the driver's hands only, and are in no message. */
#include "lib/str.h"
#include "reconcilers/workload/workload_internal.h"

#define DEFAULT_MODE    0400
#define PULL_SECRET_KEY ".dockerconfigjson"

struct value {
    char *data;
    size_t len;
};

/* The Secret wakes the Workload when it comes. */
static int missing(struct fl_workload_view *view, const char *name, const char *key)
{
    if (key)
        return fl_not_yet(view->rc, "Available", "SecretNotFound", "Secret %s has no key %s", name,
                          key);
    return fl_not_yet(view->rc, "Available", "SecretNotFound", "there is no Secret %s", name);
}

/* Each Secret once a pass; kept in `secrets` by name, json null where there is none. */
static int read_secret(struct fl_workload_view *view, json_t *secrets, const char *name,
                       json_t **ret_secret, struct fl_error *err)
{
    json_t *secret = json_object_get(secrets, name);
    int r;

    if (!secret) {
        r = fl_apiclient_get(view->rc->client, &fl_gvr_secrets, view->workload->meta.namespace,
                             name, &secret, err);
        if (r < 0 && r != FL_E_NOT_FOUND) {
            (void)fl_error_wrap(err, "Secret %s", name);
            return fl_failed(view->rc, "Available", "SecretNotFound", err);
        }
        if (r < 0)
            secret = json_null();
        (void)json_object_set_new(secrets, name, secret);
    }
    *ret_secret = secret;
    return 0;
}

/* 0: found; FL_STEP_WAIT: not there, which is told already, or is fine (`optional`). */
static int read_value(struct fl_workload_view *view, json_t *secrets, const char *name,
                      const char *key, bool optional, struct value *ret_value, struct fl_error *err)
{
    json_t *secret = NULL;
    const char *text;
    int r;

    r = read_secret(view, secrets, name, &secret, err);
    if (r < 0)
        return r;
    text = json_string_value(json_object_get(json_object_get(secret, "data"), key));
    if (!text)
        return optional ? FL_STEP_WAIT : missing(view, name, json_is_null(secret) ? NULL : key);
    if (!fl_base64_decode(view->rc->arena, text, strlen(text), &ret_value->data, &ret_value->len))
        return missing(view, name, key);
    return 0;
}

static int read_env(struct fl_workload_view *view, json_t *secrets,
                    struct fl_workload_material *material, struct fl_error *err)
{
    const struct fl_env_var_list *vars = &view->spec.env;

    material->env = fl_new_array(view->rc->arena, struct fl_run_env, vars->count);
    for (size_t i = 0; i < vars->count; i++) {
        const struct fl_env_var *var = &vars->items[i];
        const struct fl_secret_key_ref *ref = &var->value_from.secret_key_ref;
        struct value value = {NULL, 0};
        int r = 0;

        if (var->has_value_from)
            r = read_value(view, secrets, ref->name, ref->key, ref->optional, &value, err);
        if (r == FL_STEP_WAIT && ref->optional)
            continue;
        if (r != 0)
            return r;
        material->env[material->env_count++] = (struct fl_run_env){
            var->name, var->has_value_from ? value.data : fl_str_or(var->value, "")};
    }
    return 0;
}

static mode_t parse_mode(const char *text)
{
    return text ? (mode_t)strtoul(text, NULL, 8) : DEFAULT_MODE;
}

static int read_files(struct fl_workload_view *view, json_t *secrets,
                      struct fl_workload_material *material, struct fl_error *err)
{
    const struct fl_workload_file_list *files = &view->spec.files;

    material->files = fl_new_array(view->rc->arena, struct fl_run_file, files->count);
    for (size_t i = 0; i < files->count; i++) {
        const struct fl_workload_file *file = &files->items[i];
        const char *content = fl_str_or(file->content, "");
        struct fl_run_file made = {file->path, content, strlen(content), parse_mode(file->mode)};
        struct value value = {NULL, 0};
        int r;

        if (file->has_secret_key_ref) {
            r = read_value(view, secrets, file->secret_key_ref.name, file->secret_key_ref.key,
                           false, &value, err);
            if (r != 0)
                return r;
            made.data = value.data;
            made.len = value.len;
        }
        material->files[material->file_count++] = made;
    }
    return 0;
}

static int read_pull_secret(struct fl_workload_view *view, json_t *secrets,
                            struct fl_workload_material *material, struct fl_error *err)
{
    struct value value = {NULL, 0};
    int r;

    if (!view->spec.has_image_pull_secret)
        return 0;
    r = read_value(view, secrets, view->spec.image_pull_secret.name, PULL_SECRET_KEY, false, &value,
                   err);
    material->pull_secret = value.data;
    return r;
}

int fl_workload_material_read(struct fl_workload_view *view,
                              struct fl_workload_material *ret_material, struct fl_error *err)
{
    struct fl_workload_material material = {0};
    FL_JSON secrets = json_object();
    int r;

    r = read_env(view, secrets, &material, err);
    if (r == 0)
        r = read_files(view, secrets, &material, err);
    if (r == 0)
        r = read_pull_secret(view, secrets, &material, err);
    if (r == 0)
        *ret_material = material;
    return r;
}
