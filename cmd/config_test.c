#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/config.h"
#include "lib/file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char two_contexts[] =
    "apiVersion: v1\n"
    "kind: Config\n"
    "current-context: one\n"
    "clusters:\n"
    "- name: c1\n"
    "  cluster: {server: \"https://one:6443/\", certificate-authority: pki/ca.crt}\n"
    "- name: c2\n"
    "  cluster: {server: \"https://two:6443\", certificate-authority-data: Q0E=, "
    "insecure-skip-tls-verify: true}\n"
    "contexts:\n"
    "- name: one\n"
    "  context: {cluster: c1, user: u1, namespace: team}\n"
    "- name: two\n"
    "  context: {cluster: c2, user: u2}\n"
    "- name: torn\n"
    "  context: {cluster: nowhere, user: u2}\n"
    "- name: plugin\n"
    "  context: {cluster: c2, user: u3}\n"
    "- name: keyless\n"
    "  context: {cluster: c2, user: u4}\n"
    "- name: anonymous\n"
    "  context: {cluster: c2}\n"
    "users:\n"
    "- name: u1\n"
    "  user: {client-certificate: /abs/c.crt, client-key: rel.key}\n"
    "- name: u2\n"
    "  user: {token: secret-word}\n"
    "- name: u3\n"
    "  user: {exec: {command: login}}\n"
    "- name: u4\n"
    "  user: {client-certificate-data: Q0E=}\n";

static int parse(struct fl_arena *arena, const char *text, const char *context,
                 struct fl_config *config, struct fl_error *err)
{
    return fl_config_parse(arena, text, strlen(text), "/etc/flops/config", context, config, err);
}

static void test_contexts(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_config config;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(parse(arena, two_contexts, NULL, &config, &err), 0);
    assert_string_equal(config.server, "https://one:6443"); /* no slash at the end */
    assert_string_equal(config.ns, "team");
    assert_string_equal(config.ca_file, "/etc/flops/pki/ca.crt");
    assert_null(config.ca_pem);
    assert_string_equal(config.cert_file, "/abs/c.crt");
    assert_string_equal(config.key_file, "/etc/flops/rel.key");
    assert_null(config.token);
    assert_false(config.insecure);

    assert_int_equal(parse(arena, two_contexts, "two", &config, &err), 0);
    assert_string_equal(config.server, "https://two:6443");
    assert_string_equal(config.ns, "default");
    assert_string_equal(config.ca_pem, "CA");
    assert_null(config.ca_file);
    assert_string_equal(config.token, "secret-word");
    assert_true(config.insecure);

    assert_int_equal(parse(arena, two_contexts, "anonymous", &config, &err), 0);
    assert_null(config.token);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *context, *says;
    } cases[] = {
        {two_contexts, "three", "there is no context \"three\""},
        {two_contexts, "torn", "names no cluster"},
        {two_contexts, "plugin", "\"exec\" are not supported"},
        {two_contexts, "keyless", "has no key"},
        {"kind: Config\n", NULL, "no current-context"},
        {"{", NULL, "/etc/flops/config: "},
        {"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
         "clusters: [{name: c, cluster: {}}]\n",
         NULL, "has no server"},
        {"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
         "clusters: [{name: c, cluster: {server: x, certificate-authority-data: '*'}}]\n",
         NULL, "certificate-authority-data is not base64"},
        {"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
         "clusters: [{name: c, cluster: {server: x, proxy-url: y}}]\n",
         NULL, "not supported"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_config config = {0};
        struct fl_error err = {0};

        assert_true(parse(arena, cases[i].text, cases[i].context, &config, &err) < 0);
        if (!strstr(err.msg, cases[i].says))
            fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i].says);
        assert_null(config.server); /* untouched */
    }
}

static void test_token_file(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char folder[] = "/tmp/config_test.XXXXXX";
    const char *text = "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
                       "clusters: [{name: c, cluster: {server: 'https://x'}}]\n"
                       "users: [{name: u, user: {token: old, tokenFile: token}}]\n";
    struct fl_config config;
    struct fl_error err = {0};
    const char *path;

    (void)state;
    assert_non_null(mkdtemp(folder));
    path = fl_arena_printf(arena, "%s/config", folder);
    assert_true(fl_config_parse(arena, text, strlen(text), path, NULL, &config, &err) < 0);
    assert_int_equal(
        fl_file_write(fl_arena_printf(arena, "%s/token", folder), "new\n", 4, 0600, &err), 0);
    assert_int_equal(fl_config_parse(arena, text, strlen(text), path, NULL, &config, &err), 0);
    assert_string_equal(config.token, "new");
    (void)unlink(fl_arena_printf(arena, "%s/token", folder));
    (void)rmdir(folder);
}

/* The order of the places, told by which server is found. */
static void write_config(struct fl_arena *arena, const char *path, const char *server)
{
    const char *text =
        fl_arena_printf(arena,
                        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
                        "clusters: [{name: c, cluster: {server: '%s'}}]\n",
                        server);
    struct fl_error err = {0};

    assert_int_equal(fl_file_write(path, text, strlen(text), 0600, &err), 0);
}

static void assert_found(struct fl_arena *arena, const struct fl_client_flags *flags,
                         const char *server)
{
    struct fl_config config = {0};
    struct fl_error err = {0};

    if (fl_config_load(arena, flags, &config, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(config.server, server);
}

static void test_places(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    static const char *const names[] = {"list", "data/kubeconfig", "home/.kube/config", "flag"};
    char folder[] = "/tmp/config_test.XXXXXX";
    struct fl_client_flags flags = {0};
    struct fl_config config;
    struct fl_error err = {0};
    const char *paths[4];

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(fl_dir_ensure(fl_arena_printf(arena, "%s/home/.kube", folder), 0700, &err), 0);
    assert_int_equal(fl_dir_ensure(fl_arena_printf(arena, "%s/data", folder), 0700, &err), 0);
    for (size_t i = 0; i < 4; i++) {
        paths[i] = fl_arena_printf(arena, "%s/%s", folder, names[i]);
        write_config(arena, paths[i], names[i]);
    }
    (void)setenv("HOME", fl_arena_printf(arena, "%s/home", folder), 1);
    (void)setenv("FLOPS_DATA_DIR", fl_arena_printf(arena, "%s/data", folder), 1);
    (void)setenv("KUBECONFIG", fl_arena_printf(arena, "/nowhere:%s:/nowhere", paths[0]), 1);

    assert_found(arena, &flags, "list");
    flags.data_dir = fl_arena_printf(arena, "%s/data", folder);
    assert_found(arena, &flags, "data/kubeconfig");
    flags.kubeconfig = paths[3];
    assert_found(arena, &flags, "flag");
    flags = (struct fl_client_flags){0};
    (void)unsetenv("KUBECONFIG");
    assert_found(arena, &flags, "data/kubeconfig");
    (void)unlink(paths[1]);
    assert_found(arena, &flags, "home/.kube/config");
    (void)unlink(paths[2]);
    assert_int_equal(fl_config_load(arena, &flags, &config, &err), FL_E_NOT_FOUND);
    flags.kubeconfig = "/nowhere";
    assert_int_equal(fl_config_load(arena, &flags, &config, &err), FL_E_NOT_FOUND);
    (void)unlink(paths[0]);
    (void)unlink(paths[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_token_file),
        cmocka_unit_test(test_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
