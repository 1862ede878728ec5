#include "lib/tls.h"

#include "lib/file.h"
#include "lib/str.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static char folder[64];
static struct fl_fake_env fake;
static const struct fl_env *env = &fake.env;

static const char *const names[] = {"localhost", "flops.example.org", "127.0.0.1", "::1"};
static const char *const groups[] = {"system:masters", "gr\xC3\xBCn"};
static const struct fl_cert_request server_request = {.common_name = "flops",
                                                      .names = names,
                                                      .name_count = 4,
                                                      .server = true,
                                                      .valid_seconds = 90000};
static const struct fl_cert_request client_request = {.common_name = "admin",
                                                      .organizations = groups,
                                                      .organization_count = 2,
                                                      .client = true,
                                                      .valid_seconds = 90000};

static int enter_folder(void **state)
{
    (void)state;
    fl_fake_env_init(&fake, 1, NULL);
    fake.realtime_us = (int64_t)time(NULL) * 1000000; /* OpenSSL looks at the real clock */
    (void)snprintf(folder, sizeof(folder), "/tmp/flops-tls-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    static const char *const files[] = {"ca.crt", "ca.key", "s.crt", "s.key", "c.crt",
                                        "c.key",  "x.crt",  "x.key", "o.crt", "o.key"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(files); i++)
        (void)unlink(files[i]);
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static X509 *load(const char *path)
{
    FILE *file = fopen(path, "r");
    X509 *cert = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;

    assert_non_null(cert);
    (void)fclose(file);
    return cert;
}

static void make_all(void)
{
    assert_int_equal(fl_ca_ensure(env, "ca.crt", "ca.key", "test CA", 864000, NULL), 0);
    assert_int_equal(
        fl_cert_ensure(env, "ca.crt", "ca.key", &server_request, "s.crt", "s.key", NULL), 0);
    assert_int_equal(
        fl_cert_ensure(env, "ca.crt", "ca.key", &client_request, "c.crt", "c.key", NULL), 0);
}

static int verify(const char *ca_path, const char *path, int purpose)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509 *ca = load(ca_path), *cert = load(path);
    int result;

    assert_int_equal(X509_STORE_add_cert(store, ca), 1);
    assert_int_equal(X509_STORE_CTX_init(context, store, cert, NULL), 1);
    assert_int_equal(X509_STORE_CTX_set_purpose(context, purpose), 1);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(context), X509_V_FLAG_X509_STRICT);
    (void)X509_verify_cert(context);
    result = X509_STORE_CTX_get_error(context);
    X509_free(cert);
    X509_free(ca);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    return result;
}

static void test_certificates_are_strictly_valid(void **state)
{
    X509 *cert;
    struct stat st;

    (void)state;
    make_all();
    assert_int_equal(verify("ca.crt", "s.crt", X509_PURPOSE_SSL_SERVER), X509_V_OK);
    assert_int_equal(verify("ca.crt", "c.crt", X509_PURPOSE_SSL_CLIENT), X509_V_OK);
    assert_int_equal(verify("ca.crt", "s.crt", X509_PURPOSE_SSL_CLIENT),
                     X509_V_ERR_INVALID_PURPOSE);
    assert_int_equal(stat("s.key", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    cert = load("s.crt");
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(X509_check_host(cert, names[i], 0, 0, NULL), 1);
    for (size_t i = 2; i < 4; i++)
        assert_int_equal(X509_check_ip_asc(cert, names[i], 0), 1);
    assert_int_equal(X509_check_host(cert, "flops", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL),
                     0);
    X509_free(cert);
}

/* Same file content before and after? */
static bool unchanged(const char *path, struct fl_bytes **before)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *now = NULL;
    bool same;

    assert_int_equal(fl_file_read(path, 65536, &now, NULL), 0);
    same =
        *before && (*before)->len == now->len && memcmp((*before)->data, now->data, now->len) == 0;
    fl_bytes_unref(*before);
    *before = fl_bytes_ref(now);
    return same;
}

static void ensure_server(const struct fl_cert_request *request)
{
    assert_int_equal(fl_cert_ensure(env, "ca.crt", "ca.key", request, "s.crt", "s.key", NULL), 0);
}

static void test_certificates_are_renewed_when_they_must(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *cert = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *ca = NULL;
    struct fl_cert_request other = server_request;

    (void)state;
    make_all();
    (void)unchanged("s.crt", &cert);
    (void)unchanged("ca.crt", &ca);
    make_all();
    assert_true(unchanged("s.crt", &cert) && unchanged("ca.crt", &ca));
    /* fewer names are covered, another name is not */
    other.name_count = 3;
    ensure_server(&other);
    assert_true(unchanged("s.crt", &cert));
    other.names = (const char *const[]){"10.0.0.1"};
    other.name_count = 1;
    ensure_server(&other);
    assert_false(unchanged("s.crt", &cert));
    ensure_server(&server_request);
    assert_false(unchanged("s.crt", &cert));
    /* another subject */
    other = server_request;
    other.common_name = "other";
    ensure_server(&other);
    assert_false(unchanged("s.crt", &cert));
    ensure_server(&server_request);
    (void)unchanged("s.crt", &cert);
    /* near its end */
    fl_fake_env_advance(&fake, 40000 * INT64_C(1000));
    ensure_server(&server_request);
    assert_true(unchanged("s.crt", &cert));
    fl_fake_env_advance(&fake, 30000 * INT64_C(1000));
    ensure_server(&server_request);
    assert_false(unchanged("s.crt", &cert));
    /* half a pair, and rubbish */
    assert_int_equal(unlink("s.key"), 0);
    ensure_server(&server_request);
    assert_false(unchanged("s.crt", &cert));
    assert_int_equal(fl_file_write("s.crt", "x", 1, 0644, NULL), 0);
    ensure_server(&server_request);
    assert_false(unchanged("s.crt", &cert));
    /* another CA */
    assert_int_equal(unlink("ca.key") + unlink("ca.crt"), 0);
    make_all();
    assert_false(unchanged("ca.crt", &ca) || unchanged("s.crt", &cert));
    assert_int_equal(verify("ca.crt", "s.crt", X509_PURPOSE_SSL_SERVER),
                     X509_V_ERR_CERT_NOT_YET_VALID);
}

static void test_a_ca_is_never_half_overwritten(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *ca = NULL;
    struct fl_error err = {0};

    (void)state;
    make_all();
    (void)unchanged("ca.crt", &ca);
    assert_int_equal(rename("ca.key", "x.key"), 0);
    assert_int_equal(fl_ca_ensure(env, "ca.crt", "ca.key", "test CA", 864000, &err), FL_E_INVALID);
    assert_true(fl_cert_issue(env, "ca.crt", "ca.key", &server_request, "s.crt", "s.key", &err) <
                0);
    assert_int_equal(fl_file_write("ca.key", "rubbish", 7, 0600, NULL), 0);
    assert_true(fl_ca_ensure(env, "ca.crt", "ca.key", "test CA", 864000, &err) < 0);
    /* the key of another */
    assert_int_equal(fl_ca_ensure(env, "o.crt", "o.key", "other CA", 864000, &err), 0);
    assert_int_equal(rename("o.key", "ca.key"), 0);
    assert_int_equal(fl_ca_ensure(env, "ca.crt", "ca.key", "test CA", 864000, &err), FL_E_INVALID);
    assert_true(unchanged("ca.crt", &ca));
    /* the key alone: a crash between the two files; what it signed stays good */
    assert_int_equal(rename("x.key", "ca.key") + unlink("ca.crt"), 0);
    assert_int_equal(fl_ca_ensure(env, "ca.crt", "ca.key", "test CA", 864000, &err), 0);
    assert_false(unchanged("ca.crt", &ca));
    assert_int_equal(verify("ca.crt", "s.crt", X509_PURPOSE_SSL_SERVER), X509_V_OK);
    assert_int_equal(rename("ca.key", "x.key"), 0);
    /* whole again, and at its end */
    assert_int_equal(rename("x.key", "ca.key"), 0);
    assert_int_equal(fl_ca_ensure(env, "ca.crt", "ca.key", "test CA", 864000, &err), 0);
    assert_true(unchanged("ca.crt", &ca));
    fl_fake_env_advance(&fake, (864000 - 80000) * INT64_C(1000));
    assert_int_equal(fl_ca_ensure(env, "ca.crt", "ca.key", "test CA", 864000, &err), 0);
    assert_false(unchanged("ca.crt", &ca));
}

static void test_a_certificate_does_not_outlive_its_ca(void **state)
{
    struct fl_cert_request request = server_request;
    X509 *ca, *cert;

    (void)state;
    make_all();
    request.valid_seconds = 100 * 864000;
    assert_int_equal(fl_cert_issue(env, "ca.crt", "ca.key", &request, "s.crt", "s.key", NULL), 0);
    ca = load("ca.crt");
    cert = load("s.crt");
    assert_int_equal(ASN1_TIME_compare(X509_get0_notAfter(cert), X509_get0_notAfter(ca)), 0);
    X509_free(ca);
    X509_free(cert);
}

/* A handshake in memory. */

struct ends {
    SSL *server, *client;
};

static bool connect_ends(struct ends *ends)
{
    for (int i = 0; i < 20; i++) {
        int client = SSL_do_handshake(ends->client), server = SSL_do_handshake(ends->server);

        if (client == 1 && server == 1)
            return true;
    }
    return false;
}

static struct ends make_ends(struct fl_tls *server, struct fl_tls *client)
{
    struct ends ends = {SSL_new(fl_tls_context(server)), SSL_new(fl_tls_context(client))};
    BIO *a, *b;

    assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
    SSL_set_bio(ends.server, a, a);
    SSL_set_bio(ends.client, b, b);
    SSL_set_accept_state(ends.server);
    SSL_set_connect_state(ends.client);
    return ends;
}

static void free_ends(struct ends *ends)
{
    SSL_free(ends->server);
    SSL_free(ends->client);
}

static struct fl_tls *make_server(void)
{
    struct fl_tls *tls = NULL;

    assert_int_equal(
        fl_tls_server_create(
            &(struct fl_tls_files){.cert = "s.crt", .key = "s.key", .client_ca = "ca.crt"}, &tls,
            NULL),
        0);
    return tls;
}

/* Who the server takes a client with these files for. */
static struct fl_tls_peer meet(struct fl_tls *server, const char *cert, const char *key)
{
    struct fl_tls *client = NULL;
    struct fl_tls_peer peer;
    struct ends ends;
    const unsigned char *protocol;
    unsigned len;

    assert_int_equal(
        fl_tls_client_create(&(struct fl_tls_files){.cert = cert, .key = key, .ca = "ca.crt"},
                             &client, NULL),
        0);
    ends = make_ends(server, client);
    assert_true(connect_ends(&ends));
    SSL_get0_alpn_selected(ends.server, &protocol, &len);
    assert_int_equal(len, 8);
    assert_memory_equal(protocol, "http/1.1", 8);
    assert_int_equal(SSL_version(ends.server), TLS1_3_VERSION);
    assert_int_equal(fl_tls_has_peer(ends.server), cert != NULL);
    fl_tls_peer_read(ends.server, &peer);
    free_ends(&ends);
    fl_tls_destroy(client);
    return peer;
}

static void test_the_server_knows_its_clients(void **state)
{
    struct fl_tls_peer peer;
    struct fl_tls *server;
    char long_name[65];
    struct fl_cert_request request = client_request;

    (void)state;
    make_all();
    server = make_server();
    peer = meet(server, "c.crt", "c.key");
    assert_true(peer.verified);
    assert_string_equal(peer.common_name, "admin");
    assert_int_equal(peer.organization_count, 2);
    assert_string_equal(peer.organizations[0], "system:masters");
    assert_string_equal(peer.organizations[1], "gr\xC3\xBCn");
    assert_false(meet(server, NULL, NULL).verified);
    /* a certificate for servers is none for clients */
    assert_false(meet(server, "s.crt", "s.key").verified);
    /* one of another CA, of the same name */
    assert_int_equal(fl_ca_ensure(env, "o.crt", "o.key", "test CA", 864000, NULL), 0);
    assert_int_equal(fl_cert_issue(env, "o.crt", "o.key", &client_request, "x.crt", "x.key", NULL),
                     0);
    peer = meet(server, "x.crt", "x.key");
    assert_false(peer.verified);
    assert_string_equal(peer.common_name, "");
    assert_int_equal(peer.organization_count, 0);
    /* one that has ended */
    fl_fake_env_advance(&fake, -100000 * INT64_C(1000));
    assert_int_equal(
        fl_cert_issue(env, "ca.crt", "ca.key", &client_request, "x.crt", "x.key", NULL), 0);
    assert_false(meet(server, "x.crt", "x.key").verified);
    /* what X.509 does not allow is an error, not a cut name */
    memset(long_name, 'x', sizeof(long_name));
    long_name[64] = '\0';
    request.common_name = long_name;
    fl_fake_env_advance(&fake, 100000 * INT64_C(1000));
    assert_int_equal(fl_cert_issue(env, "ca.crt", "ca.key", &request, "x.crt", "x.key", NULL), 0);
    assert_string_equal(meet(server, "x.crt", "x.key").common_name, long_name);
    fl_tls_destroy(server);
}

static void test_a_resumed_session_remembers_who_it_was(void **state)
{
    struct fl_tls *server, *client = NULL;
    struct fl_tls_peer peer;
    SSL_SESSION *session;
    struct ends ends;
    char c;

    (void)state;
    make_all();
    server = make_server();
    assert_int_equal(
        fl_tls_client_create(
            &(struct fl_tls_files){.cert = "c.crt", .key = "c.key", .ca = "ca.crt"}, &client, NULL),
        0);
    ends = make_ends(server, client);
    assert_true(connect_ends(&ends));
    assert_int_equal(SSL_write(ends.server, "x", 1), 1);
    assert_int_equal(SSL_read(ends.client, &c, 1), 1); /* the ticket came before it */
    session = SSL_get1_session(ends.client);
    (void)SSL_shutdown(ends.client);
    free_ends(&ends);
    ends = make_ends(server, client);
    assert_int_equal(SSL_set_session(ends.client, session), 1);
    assert_true(connect_ends(&ends));
    assert_true(SSL_session_reused(ends.server));
    fl_tls_peer_read(ends.server, &peer);
    assert_true(peer.verified);
    assert_string_equal(peer.common_name, "admin");
    SSL_SESSION_free(session);
    free_ends(&ends);
    fl_tls_destroy(client);
    fl_tls_destroy(server);
}

static void test_a_client_trusts_its_ca_only(void **state)
{
    struct fl_tls *server, *client = NULL;
    struct ends ends;

    (void)state;
    make_all();
    server = make_server();
    assert_int_equal(fl_ca_ensure(env, "o.crt", "o.key", "other CA", 864000, NULL), 0);
    assert_int_equal(fl_tls_client_create(&(struct fl_tls_files){.ca = "o.crt"}, &client, NULL), 0);
    ends = make_ends(server, client);
    assert_false(connect_ends(&ends));
    free_ends(&ends);
    fl_tls_destroy(client);
    fl_tls_destroy(server);
}

static void test_contexts_say_what_is_wrong(void **state)
{
    struct fl_tls *tls = NULL;
    struct fl_error err = {0};

    (void)state;
    make_all();
    assert_true(fl_tls_server_create(&(struct fl_tls_files){.cert = "none", .key = "s.key"}, &tls,
                                     &err) < 0);
    assert_non_null(strstr(err.msg, "none"));
    assert_true(fl_tls_server_create(&(struct fl_tls_files){.cert = "s.crt", .key = "c.key"}, &tls,
                                     &err) < 0);
    assert_non_null(strstr(err.msg, "c.key"));
    assert_true(fl_tls_server_create(&(struct fl_tls_files){.cert = "s.crt"}, &tls, &err) < 0);
    assert_true(fl_tls_client_create(&(struct fl_tls_files){.ca = "s.key"}, &tls, &err) < 0);
    assert_null(tls);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_certificates_are_strictly_valid),
        TEST(test_certificates_are_renewed_when_they_must),
        TEST(test_a_ca_is_never_half_overwritten),
        TEST(test_a_certificate_does_not_outlive_its_ca),
        TEST(test_the_server_knows_its_clients),
        TEST(test_a_resumed_session_remembers_who_it_was),
        TEST(test_a_client_trusts_its_ca_only),
        TEST(test_contexts_say_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
