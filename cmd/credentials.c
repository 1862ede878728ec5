#include "cmd/credentials.h"

#include "lib/file.h"
#include "lib/str.h"
#include "lib/tls.h"

#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define YEAR_SECONDS     (INT64_C(365) * 24 * 3600)
#define PEM_MAX_BYTES    ((size_t)64 * 1024)
#define TOKENS_MAX_BYTES ((size_t)4 * 1024 * 1024)

static const char *in_dir(struct fl_arena *arena, const char *dir, const char *name)
{
    return fl_arena_printf(arena, "%s/%s", dir, name);
}

static int ensure_seal_key(const struct fl_env *env, const char *path, unsigned char key[32],
                           struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *have = NULL;
    int r = fl_file_read(path, 1024, &have, err);

    if (r == FL_E_NOT_FOUND) {
        env->random(env->user, key, 32);
        return fl_file_write(path, key, 32, 0600, err);
    }
    if (r < 0)
        return r;
    if (have->len != 32)
        return fl_error_set(err, FL_E_INTERNAL, "%s: not a key of 32 bytes", path);
    memcpy(key, have->data, 32);
    return 0;
}

static int ensure_token_file(const char *path, struct fl_error *err)
{
    static const char head[] =
        "# Bearer tokens: SHA-256 of the token in hex,user,uid,\"group,group\"\n";

    if (access(path, F_OK) == 0)
        return 0;
    return fl_file_write(path, head, sizeof(head) - 1, 0600, err);
}

int fl_credentials_ensure(const struct fl_env *env, struct fl_arena *arena, const char *data_dir,
                          const char *const *names, size_t name_count,
                          struct fl_credentials *ret_credentials, struct fl_error *err)
{
    const char *sans[FL_SANS_MAX] = {"localhost", "127.0.0.1", "::1"};
    struct fl_cert_request server = {.common_name = "flops",
                                     .names = sans,
                                     .name_count = 3,
                                     .server = true,
                                     .valid_seconds = YEAR_SECONDS};
    const char *pki = in_dir(arena, data_dir, "pki");
    struct fl_credentials made = {.data_dir = data_dir};
    int r;

    for (size_t i = 0; i < name_count && server.name_count < FL_SANS_MAX; i++)
        sans[server.name_count++] = names[i];
    made.ca_cert = in_dir(arena, pki, "ca.crt");
    made.ca_key = in_dir(arena, pki, "ca.key");
    made.server_cert = in_dir(arena, pki, "server.crt");
    made.server_key = in_dir(arena, pki, "server.key");
    made.token_file = in_dir(arena, data_dir, "tokens");
    r = fl_dir_ensure(pki, 0700, err);
    if (r == 0)
        r = fl_ca_ensure(env, made.ca_cert, made.ca_key, "flops-ca", 10 * YEAR_SECONDS, err);
    if (r == 0)
        r = fl_cert_ensure(env, made.ca_cert, made.ca_key, &server, made.server_cert,
                           made.server_key, err);
    if (r == 0)
        r = ensure_token_file(made.token_file, err);
    if (r == 0)
        r = ensure_seal_key(env, in_dir(arena, data_dir, "seal.key"), made.seal_key, err);
    if (r < 0)
        return fl_error_wrap(err, "credentials");
    *ret_credentials = made;
    return 0;
}

static int read_base64(struct fl_arena *arena, const char *path, const char **ret_text,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = fl_file_read(path, PEM_MAX_BYTES, &bytes, err);

    if (r == 0)
        *ret_text = fl_base64_encode(arena, bytes->data, bytes->len);
    return r;
}

/* `credentials` are the lines that say who the user is. */
static int write_kubeconfig_text(struct fl_arena *arena, const char *ca_path,
                                 const char *server_url, const char *user, const char *credentials,
                                 char **ret_text, struct fl_error *err)
{
    const char *ca = NULL;
    int r = read_base64(arena, ca_path, &ca, err);

    if (r < 0)
        return r;
    *ret_text = fl_arena_printf(arena,
                                "apiVersion: v1\n"
                                "kind: Config\n"
                                "clusters:\n"
                                "- name: flops\n"
                                "  cluster:\n"
                                "    server: %s\n"
                                "    certificate-authority-data: %s\n"
                                "contexts:\n"
                                "- name: flops\n"
                                "  context:\n"
                                "    cluster: flops\n"
                                "    user: \"%s\"\n"
                                "current-context: flops\n"
                                "users:\n"
                                "- name: \"%s\"\n"
                                "  user:\n"
                                "%s",
                                server_url, ca, user, user, credentials);
    return 0;
}

static int certificate_lines(struct fl_arena *arena, const char *cert_path, const char *key_path,
                             const char **ret_lines, struct fl_error *err)
{
    const char *cert = NULL, *key = NULL;
    int r = read_base64(arena, cert_path, &cert, err);

    if (r == 0)
        r = read_base64(arena, key_path, &key, err);
    if (r == 0)
        *ret_lines = fl_arena_printf(arena,
                                     "    client-certificate-data: %s\n"
                                     "    client-key-data: %s\n",
                                     cert, key);
    return r;
}

/* What would break out of its place in a line or a quoted name. */
static int check_name(const char *what, const char *name, struct fl_error *err)
{
    if (!*name || strlen(name) > 64 || strpbrk(name, "\"\\,\n\r#"))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "%s \"%s\": must have 1 to 64 characters, none of them a quote, "
                            "backslash, comma, '#' or line break",
                            what, name);
    return 0;
}

static int check_names(const char *user, const char *const *groups, size_t group_count,
                       struct fl_error *err)
{
    int r = check_name("user", user, err);

    for (size_t i = 0; r == 0 && i < group_count; i++)
        r = check_name("group", groups[i], err);
    return r;
}

static int add_token_line(struct fl_arena *arena, const char *path, const char *token,
                          const char *user, const char *const *groups, size_t group_count,
                          struct fl_error *err)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[2 * crypto_hash_sha256_BYTES + 1];
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *have = NULL;
    const char *list = "", *text;
    int r = fl_file_read(path, TOKENS_MAX_BYTES, &have, err);

    if (r < 0)
        return r;
    (void)crypto_hash_sha256(hash, (const unsigned char *)token, strlen(token));
    fl_hex_encode(hash, sizeof(hash), hex);
    for (size_t i = 0; i < group_count; i++)
        list = fl_arena_printf(arena, "%s%s%s", list, i ? "," : "", groups[i]);
    text = fl_arena_printf(arena, "%s%s,%s,,\"%s\"\n", have->data, hex, user, list);
    return fl_file_write(path, text, strlen(text), 0600, err);
}

int fl_kubeconfig_create_token(const struct fl_env *env, struct fl_arena *arena,
                               const char *data_dir, const char *server_url, const char *user,
                               const char *const *groups, size_t group_count, char **ret_text,
                               struct fl_error *err)
{
    unsigned char random[32];
    char token[2 * sizeof(random) + 1];
    int r = check_names(user, groups, group_count, err);

    if (r < 0)
        return r;
    env->random(env->user, random, sizeof(random));
    fl_hex_encode(random, sizeof(random), token);
    r = write_kubeconfig_text(arena, fl_arena_printf(arena, "%s/pki/ca.crt", data_dir), server_url,
                              user, fl_arena_printf(arena, "    token: %s\n", token), ret_text,
                              err);
    if (r == 0)
        r = add_token_line(arena, in_dir(arena, data_dir, "tokens"), token, user, groups,
                           group_count, err);
    return r < 0 ? fl_error_wrap(err, "token for %s", user) : 0;
}

int fl_kubeconfig_create(const struct fl_env *env, struct fl_arena *arena, const char *data_dir,
                         const char *server_url, const char *user, const char *const *groups,
                         size_t group_count, int64_t valid_seconds, char **ret_text,
                         struct fl_error *err)
{
    struct fl_cert_request request = {.common_name = user,
                                      .organizations = groups,
                                      .organization_count = group_count,
                                      .client = true,
                                      .valid_seconds = valid_seconds};
    const char *pki = in_dir(arena, data_dir, "pki"), *ca = in_dir(arena, pki, "ca.crt");
    char suffix[FL_UUID_SIZE];
    const char *cert, *key, *lines = NULL;
    int r = check_names(user, groups, group_count, err);

    if (r < 0)
        return r;
    fl_uuid_v4(env, suffix);
    cert = fl_arena_printf(arena, "%s/client-%s.crt", pki, suffix);
    key = fl_arena_printf(arena, "%s/client-%s.key", pki, suffix);
    r = fl_cert_issue(env, ca, in_dir(arena, pki, "ca.key"), &request, cert, key, err);
    if (r == 0)
        r = certificate_lines(arena, cert, key, &lines, err);
    if (r == 0)
        r = write_kubeconfig_text(arena, ca, server_url, user, lines, ret_text, err);
    (void)unlink(cert); /* the kubeconfig holds them */
    (void)unlink(key);
    return r < 0 ? fl_error_wrap(err, "kubeconfig for %s", user) : 0;
}

int fl_kubeconfig_ensure(const struct fl_env *env, struct fl_arena *arena, const char *data_dir,
                         const char *server_url, struct fl_error *err)
{
    static const char *const masters[] = {"system:masters"};
    struct fl_cert_request request = {.common_name = "admin",
                                      .organizations = masters,
                                      .organization_count = 1,
                                      .client = true,
                                      .valid_seconds = YEAR_SECONDS};
    const char *pki = in_dir(arena, data_dir, "pki"), *ca = in_dir(arena, pki, "ca.crt");
    const char *cert = in_dir(arena, pki, "admin.crt"), *key = in_dir(arena, pki, "admin.key");
    const char *lines = NULL;
    char *text = NULL;
    int r = fl_cert_ensure(env, ca, in_dir(arena, pki, "ca.key"), &request, cert, key, err);

    if (r == 0)
        r = certificate_lines(arena, cert, key, &lines, err);
    if (r == 0)
        r = write_kubeconfig_text(arena, ca, server_url, "admin", lines, &text, err);
    if (r == 0)
        r = fl_file_write(in_dir(arena, data_dir, "kubeconfig"), text, strlen(text), 0600, err);
    return r < 0 ? fl_error_wrap(err, "kubeconfig") : 0;
}
