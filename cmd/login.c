#include "cmd/login.h"

#include "lib/file.h"
#include "lib/json.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)1024 * 1024)

/* "https://host/v1/" was docker's way to write "host". */
static const char *bare(struct fl_arena *arena, const char *key)
{
    char *text;
    size_t len;

    if (fl_str_has_prefix(key, "https://"))
        key += 8;
    else if (fl_str_has_prefix(key, "http://"))
        key += 7;
    text = fl_arena_strdup(arena, key);
    len = strlen(text);
    while (len > 0 && text[len - 1] == '/')
        text[--len] = '\0';
    if (fl_str_has_suffix(text, "/v1") || fl_str_has_suffix(text, "/v2"))
        text[len - 3] = '\0';
    return text;
}

static json_t *entry_of(struct fl_arena *arena, json_t *object, const char *name)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
        if (fl_streq(bare(arena, key), name))
            return value;
    return NULL;
}

/* "host/a/b", "host/a", "host" */
static json_t *closest(struct fl_arena *arena, json_t *object, const char *host,
                       const char *repository)
{
    char *name = fl_arena_printf(arena, "%s/%s", host, repository), *slash;
    json_t *found = entry_of(arena, object, name);

    while (!found && (slash = strrchr(name, '/'))) {
        *slash = '\0';
        found = entry_of(arena, object, name);
    }
    return found;
}

static int decode(struct fl_arena *arena, const char *auth, struct fl_login *ret_login,
                  struct fl_error *err)
{
    char *pair = NULL, *colon;
    size_t len;

    if (!fl_base64_decode(arena, auth, strlen(auth), &pair, &len) || !(colon = strchr(pair, ':')))
        return fl_error_set(err, FL_E_INVALID, "an \"auth\" is no name and password in base64");
    *colon = '\0';
    *ret_login = (struct fl_login){pair, colon + 1};
    return 1;
}

/* Programs are not run for what a file says. */
static int check_helpers(struct fl_arena *arena, const json_t *config, const json_t *entry,
                         const char *host, struct fl_error *err)
{
    const char *helper =
        json_string_value(entry_of(arena, json_object_get(config, "credHelpers"), host));
    const char *store = json_string_value(json_object_get(config, "credsStore"));

    if (!helper && entry && store && *store)
        helper = store;
    if (helper)
        return fl_error_set(err, FL_E_INVALID,
                            "the credentials for %s are with docker-credential-%.80s, and helpers "
                            "are not asked; give --username and --password-stdin, or a file with "
                            "\"auths\" in $REGISTRY_AUTH_FILE",
                            host, helper);
    return 0;
}

static int read_entry(struct fl_arena *arena, const json_t *config, const json_t *entry,
                      const char *host, struct fl_login *ret_login, struct fl_error *err)
{
    const char *auth = json_string_value(json_object_get(entry, "auth"));
    const char *name = json_string_value(json_object_get(entry, "username"));
    const char *password = json_string_value(json_object_get(entry, "password"));
    const char *identity = json_string_value(json_object_get(entry, "identitytoken"));

    if (identity && *identity)
        return fl_error_set(err, FL_E_INVALID,
                            "the entry for %s is an identity token, which is not known here", host);
    if (auth && *auth)
        return decode(arena, auth, ret_login, err);
    if (name && password) {
        *ret_login =
            (struct fl_login){fl_arena_strdup(arena, name), fl_arena_strdup(arena, password)};
        return 1;
    }
    return check_helpers(arena, config, entry, host, err);
}

int fl_login_parse(struct fl_arena *arena, const char *text, size_t len, const char *path,
                   const char *host, const char *repository, struct fl_login *ret_login,
                   struct fl_error *err)
{
    FL_JSON config = NULL;
    int r = fl_json_parse(text, len, NULL, NULL, NULL, &config, err);

    if (r == 0)
        r = read_entry(arena, config,
                       closest(arena, json_object_get(config, "auths"), host, repository), host,
                       ret_login, err);
    return r < 0 ? fl_error_wrap(err, "%s", path) : r;
}

static const char *below(struct fl_arena *arena, const char *variable, const char *path)
{
    const char *folder = getenv(variable);

    return folder && *folder ? fl_arena_printf(arena, "%s/%s", folder, path) : NULL;
}

static int read_login(struct fl_arena *arena, const char *path, const char *host,
                      const char *repository, struct fl_login *ret_login, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_error failed = {0};
    int r = fl_file_read(path, FILE_MAX, &text, &failed);

    if (r == FL_E_NOT_FOUND)
        return 0;
    if (r < 0)
        return fl_error_set(err, r, "%s", failed.msg);
    r = fl_login_parse(arena, text->data, text->len, path, host, repository, ret_login, err);
    explicit_bzero(text->data, text->len);
    return r;
}

int fl_login_find(struct fl_arena *arena, const char *host, const char *repository,
                  struct fl_login *ret_login, struct fl_error *err)
{
    const char *const chosen = getenv("REGISTRY_AUTH_FILE");
    const char *const docker = below(arena, "DOCKER_CONFIG", "config.json");
    const char *const files[] = {
        below(arena, "XDG_RUNTIME_DIR", "containers/auth.json"),
        below(arena, "HOME", ".config/containers/auth.json"),
        docker ? docker : below(arena, "HOME", ".docker/config.json"),
    };
    int r = 0;

    *ret_login = (struct fl_login){0};
    if (chosen && *chosen)
        r = read_login(arena, chosen, host, repository, ret_login, err);
    else
        for (size_t i = 0; r == 0 && i < FL_COUNT_OF(files); i++)
            if (files[i])
                r = read_login(arena, files[i], host, repository, ret_login, err);
    return r < 0 ? r : 0;
}
