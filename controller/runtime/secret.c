/* Secrets that a reconciler makes for what it starts. They are read live: no cache holds Secrets.
 */
#include "controller/runtime/internal.h"

#include <string.h>

#define TOKEN_BYTES 32

static const char *make_token(struct fl_reconcile *rc)
{
    unsigned char raw[TOKEN_BYTES];
    char *text = fl_new_array(rc->arena, char, 2 * sizeof(raw) + 1);

    rc->env->random(rc->env->user, raw, sizeof(raw));
    fl_hex_encode(raw, sizeof(raw), text);
    explicit_bzero(raw, sizeof(raw));
    return text;
}

static const char *value_in(struct fl_reconcile *rc, const json_t *secret, const char *key)
{
    const char *text = json_string_value(json_object_get(json_object_get(secret, "data"), key));
    char *value = NULL;
    size_t len = 0;

    if (!text || !fl_base64_decode(rc->arena, text, strlen(text), &value, &len))
        return NULL;
    return fl_arena_strndup(rc->arena, value, len);
}

/* Fills in the values; how many of them the Secret lacks. */
static size_t choose_values(struct fl_reconcile *rc, const json_t *secret,
                            struct fl_secret_entry *entries, size_t count)
{
    size_t lacking = 0;

    for (size_t i = 0; i < count; i++) {
        const char *there = value_in(rc, secret, entries[i].key);

        if (!entries[i].value)
            entries[i].value = there ? there : make_token(rc);
        lacking += !fl_streq(there, entries[i].value);
    }
    return lacking;
}

static json_t *data_of(struct fl_reconcile *rc, const struct fl_secret_entry *entries, size_t count)
{
    json_t *data = json_object();

    for (size_t i = 0; i < count; i++)
        fl_json_set_str(data, entries[i].key,
                        fl_base64_encode(rc->arena, entries[i].value, strlen(entries[i].value)));
    return data;
}

static int create(struct fl_reconcile *rc, const char *name, const char *role, json_t *data,
                  struct fl_error *err)
{
    FL_JSON secret =
        json_pack("{s:s, s:s, s:s, s:o, s:o}", "apiVersion", "v1", "kind", "Secret", "type",
                  "Opaque", "metadata", fl_child_metadata(rc, name, role), "data", data);

    return fl_apiclient_create_object(rc->client, &fl_gvr_secrets, rc->pass->ns, secret, NULL, err);
}

/* Only as it was read: somebody else may have put other values there meanwhile. */
static int complete(struct fl_reconcile *rc, const char *name, const json_t *secret, json_t *data,
                    struct fl_error *err)
{
    FL_JSON patch =
        json_pack("{s:{s:s, s:s}, s:o}", "metadata", "uid", fl_json_str(secret, "metadata.uid"),
                  "resourceVersion", fl_json_str(secret, "metadata.resourceVersion"), "data", data);

    return fl_apiclient_patch(rc->client, &fl_gvr_secrets, rc->pass->ns, name, NULL, patch, NULL,
                              err);
}

static bool is_ours(const struct fl_reconcile *rc, const json_t *secret)
{
    const json_t *owner;
    size_t i;

    json_array_foreach(fl_json_path(secret, "metadata.ownerReferences"), i, owner)
        if (fl_streq(fl_json_str(owner, "uid"), rc->pass->meta->uid))
            return true;
    return false;
}

int fl_ensure_secret(struct fl_reconcile *rc, const char *role, struct fl_secret_entry *entries,
                     size_t count, const char **ret_name, struct fl_error *err)
{
    char *name = fl_child_name(rc->arena, rc->pass->meta->name, rc->pass->meta->uid, role);
    json_t *secret = NULL;
    int r = fl_apiclient_get(rc->client, &fl_gvr_secrets, rc->pass->ns, name, &secret, err);

    if (r < 0 && r != FL_E_NOT_FOUND)
        return fl_error_wrap(err, "Secret %s", name);
    secret = fl_json_in_arena(rc->arena, r < 0 ? json_null() : secret);
    if (r == 0 && !is_ours(rc, secret))
        return fl_error_set(err, FL_E_INVALID,
                            "Secret %s is another's: delete it, its name is needed", name);
    if (choose_values(rc, secret, entries, count) == 0)
        r = 0;
    else if (r < 0)
        r = create(rc, name, role, data_of(rc, entries, count), err);
    else
        r = complete(rc, name, secret, data_of(rc, entries, count), err);
    /* Made meanwhile, with other values than these: they are read in the next pass. */
    if (r == FL_E_ALREADY_EXISTS)
        r = fl_error_set(err, FL_E_CONFLICT, "was made just now");
    if (r < 0)
        return fl_error_wrap(err, "Secret %s", name);
    if (ret_name)
        *ret_name = name;
    return 0;
}

const char *fl_secret_text(struct fl_arena *arena, const json_t *secret, const char *key)
{
    const char *text = json_string_value(json_object_get(json_object_get(secret, "data"), key));
    char *value = NULL;
    size_t len;

    if (!text || !fl_base64_decode(arena, text, strlen(text), &value, &len))
        return NULL;
    return strlen(value) == len ? value : NULL;
}
