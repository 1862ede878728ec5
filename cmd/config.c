#include "cmd/config.h"

#include "cmd/command.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#define CONFIG_MAX_BYTES ((size_t)4 * 1024 * 1024)
#define TOKEN_MAX_BYTES  ((size_t)64 * 1024)

/* What the steps of reading one file share. */
struct reader {
    struct fl_arena *arena;
    const char *path;
    struct fl_config *config;
};

/* The member `kind` of the entry called `name` in the list `list`: {name: …, cluster: {…}}. */
static json_t *entry(const json_t *config, const char *list, const char *kind, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(config, list), i, item) {
        if (fl_streq(fl_json_str(item, "name"), name))
            return json_object_get(item, kind);
    }
    return NULL;
}

static const char *beside(const struct reader *reader, const char *file)
{
    const char *slash = strrchr(reader->path, '/');

    if (!file || *file == '/' || !slash)
        return file;
    return fl_arena_printf(reader->arena, "%.*s/%s", (int)(slash - reader->path), reader->path,
                           file);
}

/* NAME-data is base64 of what the file NAME would hold, and wins over it. */
static int read_pem(const struct reader *reader, const json_t *from, const char *name,
                    const char **ret_file, const char **ret_pem, struct fl_error *err)
{
    const char *key = fl_arena_printf(reader->arena, "%s-data", name);
    const char *data = json_string_value(json_object_get(from, key));
    char *pem;
    size_t len;

    if (!data || !*data) {
        *ret_file = beside(reader, json_string_value(json_object_get(from, name)));
        return 0;
    }
    if (!fl_base64_decode(reader->arena, data, strlen(data), &pem, &len) || strlen(pem) != len)
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s: %s is not base64", reader->path, key);
    *ret_pem = pem;
    return 0;
}

static int read_cluster(const struct reader *reader, const json_t *cluster, struct fl_error *err)
{
    struct fl_config *config = reader->config;
    const char *server = fl_json_str(cluster, "server");
    size_t len;

    if (!server || !*server)
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s: the cluster has no server", reader->path);
    if (json_object_get(cluster, "proxy-url") || json_object_get(cluster, "tls-server-name"))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "%s: proxy-url and tls-server-name are not supported", reader->path);
    len = strlen(server);
    while (len > 0 && server[len - 1] == '/')
        len--;
    config->server = fl_arena_strndup(reader->arena, server, len);
    config->insecure = fl_json_bool(cluster, "insecure-skip-tls-verify", false);
    return read_pem(reader, cluster, "certificate-authority", &config->ca_file, &config->ca_pem,
                    err);
}

static int read_token(const struct reader *reader, const json_t *user, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    const char *token = fl_json_str(user, "token"), *file = fl_json_str(user, "tokenFile");
    size_t len;
    int r;

    if (file && *file) {
        r = fl_file_read(beside(reader, file), TOKEN_MAX_BYTES, &bytes, err);
        if (r < 0)
            return fl_error_wrap(err, "%s: tokenFile", reader->path);
        len = bytes->len;
        while (len > 0 && isspace((unsigned char)bytes->data[len - 1]))
            len--;
        token = fl_arena_strndup(reader->arena, bytes->data, len);
    }
    if (token && *token)
        reader->config->token = token;
    return 0;
}

static int read_user(const struct reader *reader, const json_t *user, struct fl_error *err)
{
    static const char *const unsupported[] = {"exec", "auth-provider", "username"};
    struct fl_config *config = reader->config;
    int r;

    for (size_t i = 0; i < FL_COUNT_OF(unsupported); i++)
        if (json_object_get(user, unsupported[i]))
            return fl_error_set(err, FL_E_BAD_REQUEST,
                                "%s: users with \"%s\" are not supported; use a client certificate "
                                "or a token",
                                reader->path, unsupported[i]);
    r = read_pem(reader, user, "client-certificate", &config->cert_file, &config->cert_pem, err);
    if (r == 0)
        r = read_pem(reader, user, "client-key", &config->key_file, &config->key_pem, err);
    if (r < 0)
        return r;
    if ((config->cert_file || config->cert_pem) && !config->key_file && !config->key_pem)
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s: the client certificate has no key",
                            reader->path);
    return read_token(reader, user, err);
}

static int read_context(const struct reader *reader, const json_t *root, const char *name,
                        struct fl_error *err)
{
    json_t *context, *cluster;
    const char *ns;
    int r;

    if (!name)
        name = fl_json_str(root, "current-context");
    if (!name || !*name)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "%s: no current-context; choose one with --context", reader->path);
    context = entry(root, "contexts", "context", name);
    if (!context)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s: there is no context \"%s\"", reader->path,
                            name);
    cluster = entry(root, "clusters", "cluster", fl_json_str(context, "cluster"));
    if (!cluster)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s: context \"%s\" names no cluster of the file",
                            reader->path, name);
    ns = fl_json_str(context, "namespace");
    reader->config->ns = ns && *ns ? ns : "default";
    r = read_cluster(reader, cluster, err);
    if (r < 0)
        return r;
    return read_user(reader, entry(root, "users", "user", fl_json_str(context, "user")), err);
}

int fl_config_parse(struct fl_arena *arena, const char *text, size_t len, const char *path,
                    const char *context, struct fl_config *ret_config, struct fl_error *err)
{
    struct fl_config config = {.path = fl_arena_strdup(arena, path)};
    struct reader reader = {.arena = arena, .path = config.path, .config = &config};
    json_t *root = NULL;
    int r = fl_yaml_parse(text, len, NULL, &root, err);

    if (r < 0)
        return fl_error_wrap(err, "%s", path);
    fl_json_in_arena(arena, root);
    r = read_context(&reader, root, context, err);
    if (r == 0)
        *ret_config = config;
    return r;
}

/* The file to read, or NULL where none of the usual places has one. */
static const char *find_file(struct fl_arena *arena, const struct fl_client_flags *flags)
{
    const char *list = getenv("KUBECONFIG"), *home = getenv("HOME"), *path;

    if (flags->kubeconfig)
        return flags->kubeconfig;
    if (flags->data_dir)
        return fl_arena_printf(arena, "%s/kubeconfig", flags->data_dir);
    while (list && *list && (path = fl_str_next(arena, &list, ':')))
        if (*path && access(path, R_OK) == 0)
            return path;
    path = fl_arena_printf(arena, "%s/kubeconfig", fl_default_data_dir(arena));
    if (access(path, R_OK) == 0)
        return path;
    path = fl_arena_printf(arena, "%s/.kube/config", home ? home : "");
    return access(path, R_OK) == 0 ? path : NULL;
}

int fl_config_load(struct fl_arena *arena, const struct fl_client_flags *flags,
                   struct fl_config *ret_config, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    const char *path = find_file(arena, flags);
    int r;

    if (!path)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "no kubeconfig: is `flops up` running? Name its data directory with "
                            "--data-dir, or a file with --kubeconfig");
    r = fl_file_read(path, CONFIG_MAX_BYTES, &bytes, err);
    if (r < 0)
        return fl_error_wrap(err, "kubeconfig");
    return fl_config_parse(arena, bytes->data, bytes->len, path, flags->context, ret_config, err);
}
