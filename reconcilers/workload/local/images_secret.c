/* Pull secrets: {"auths": {"host": {"auth": "base64 of user:password"}}}, as container tools write
 * them. */
#include "lib/json.h"
#include "lib/str.h"
#include "reconcilers/workload/local/images.h"

#define SECRET_MAX ((size_t)1024 * 1024)

static bool take_auth(struct fl_arena *arena, const json_t *entry, const char **ret_username,
                      const char **ret_password)
{
    const char *auth = fl_json_str(entry, "auth"), *name = fl_json_str(entry, "username"), *colon;
    const char *password = fl_json_str(entry, "password");
    char *text;
    size_t len;

    if (name && password) {
        *ret_username = fl_arena_strdup(arena, name);
        *ret_password = fl_arena_strdup(arena, password);
        return true;
    }
    if (!auth || !fl_base64_decode(arena, auth, strlen(auth), &text, &len))
        return false;
    colon = strchr(text, ':');
    if (!colon)
        return false;
    *ret_username = fl_arena_strndup(arena, text, (size_t)(colon - text));
    *ret_password = colon + 1;
    return true;
}

/* "https://host/v1/" names the host, too. */
static bool is_host(const char *key, const char *registry)
{
    size_t len = strlen(registry);

    if (fl_str_has_prefix(key, "https://"))
        key += strlen("https://");
    else if (fl_str_has_prefix(key, "http://"))
        key += strlen("http://");
    return strncmp(key, registry, len) == 0 && (key[len] == '\0' || key[len] == '/');
}

bool fl_pull_secret_find(struct fl_arena *arena, const char *secret, const char *registry,
                         const char **ret_username, const char **ret_password)
{
    FL_JSON value = NULL;
    const char *key;
    json_t *entry;

    if (!registry || strlen(secret) > SECRET_MAX ||
        fl_json_parse(secret, strlen(secret), NULL, NULL, NULL, &value, NULL) < 0)
        return false;
    json_object_foreach(json_object_get(value, "auths"), key, entry) {
        if (is_host(key, registry))
            return take_auth(arena, entry, ret_username, ret_password);
    }
    return false;
}
