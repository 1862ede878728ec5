#include "lib/tls.h"

#include "lib/str.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

struct fl_tls {
    SSL_CTX *context;
};

/* The oldest reason in OpenSSL's queue is the cause; what follows are its consequences. */
static int tls_error(struct fl_error *err, const char *what, const char *path)
{
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return fl_error_set(err, FL_E_INTERNAL, "%s%s%s: %s", what, path ? " " : "",
                        fl_str_or(path, ""), fl_str_or(reason, "unknown reason"));
}

static const unsigned char http11[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *user)
{
    (void)ssl;
    (void)user;
    /* in_len is what the peer sent: each entry is a length and that many bytes. */
    for (unsigned i = 0; i < in_len && in[i] < in_len - i; i += in[i] + 1u) {
        if (in[i] == http11[0] && memcmp(in + i, http11, sizeof(http11)) == 0) {
            *out = in + i + 1;
            *out_len = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* The handshake goes on; SSL_get_verify_result keeps the reason, and fl_tls_peer_read looks. */
static int accept_any(int preverified, X509_STORE_CTX *store)
{
    (void)preverified;
    (void)store;
    return 1;
}

static int use_own_certificate(SSL_CTX *context, const struct fl_tls_files *files,
                               struct fl_error *err)
{
    if (!files->cert)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(context, files->cert) != 1)
        return tls_error(err, "certificate", files->cert);
    if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1)
        return tls_error(err, "key", files->key);
    if (SSL_CTX_check_private_key(context) != 1)
        return tls_error(err, "key of another certificate", files->key);
    return 0;
}

static int ask_for_client_certificates(SSL_CTX *context, const char *ca, struct fl_error *err)
{
    static const unsigned char session_context[] = "flops";
    STACK_OF(X509_NAME) * names;

    if (!ca)
        return 0;
    if (SSL_CTX_load_verify_file(context, ca) != 1)
        return tls_error(err, "client CA", ca);
    names = SSL_load_client_CA_file(ca);
    if (!names)
        return tls_error(err, "client CA", ca);
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, accept_any);
    /* Sessions with client certificates are resumed only under a context of a known name. */
    (void)SSL_CTX_set_session_id_context(context, session_context, sizeof(session_context) - 1);
    return 0;
}

static void set_common(SSL_CTX *context)
{
    (void)SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    (void)SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20");
    /* A connection without a close notice is ended like one with: HTTP frames its messages. */
    (void)SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                           SSL_OP_IGNORE_UNEXPECTED_EOF);
    /* Buffers exist while bytes are in them only: an idle connection is cheap. */
    (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static int set_up_server(SSL_CTX *context, const struct fl_tls_files *files, struct fl_error *err)
{
    int r;

    set_common(context);
    (void)SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_read_ahead(context, 1); /* one read a record instead of two */
    (void)SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    if (!files->cert || !files->key)
        return fl_error_set(err, FL_E_BAD_REQUEST, "a TLS server needs a certificate and a key");
    r = use_own_certificate(context, files, err);
    if (r < 0)
        return r;
    return ask_for_client_certificates(context, files->client_ca, err);
}

static int set_up_client(SSL_CTX *context, const struct fl_tls_files *files, struct fl_error *err)
{
    set_common(context);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    (void)SSL_CTX_set_alpn_protos(context, http11, sizeof(http11));
    if (files->ca && SSL_CTX_load_verify_file(context, files->ca) != 1)
        return tls_error(err, "CA", files->ca);
    if (!files->ca && SSL_CTX_set_default_verify_paths(context) != 1)
        return tls_error(err, "the system's CAs", NULL);
    return use_own_certificate(context, files, err);
}

static int create(const SSL_METHOD *method,
                  int (*set_up)(SSL_CTX *, const struct fl_tls_files *, struct fl_error *),
                  const struct fl_tls_files *files, struct fl_tls **ret_tls, struct fl_error *err)
{
    FL_CLEANUP(fl_tls_destroyp) struct fl_tls *tls = fl_calloc(1, sizeof(*tls));
    int r;

    ERR_clear_error(); /* what others left there is not our cause */
    tls->context = SSL_CTX_new(method);
    if (!tls->context)
        return tls_error(err, "make a TLS context", NULL);
    r = set_up(tls->context, files, err);
    if (r < 0)
        return r;
    *ret_tls = FL_TAKE(tls);
    return 0;
}

int fl_tls_server_create(const struct fl_tls_files *files, struct fl_tls **ret_tls,
                         struct fl_error *err)
{
    return create(TLS_server_method(), set_up_server, files, ret_tls, err);
}

int fl_tls_client_create(const struct fl_tls_files *files, struct fl_tls **ret_tls,
                         struct fl_error *err)
{
    return create(TLS_client_method(), set_up_client, files, ret_tls, err);
}

void fl_tls_destroy(struct fl_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

struct ssl_ctx_st *fl_tls_context(struct fl_tls *tls)
{
    return tls->context;
}

/* False where it does not fit or has a NUL inside: a cut name could be another's. */
static bool copy_name(const X509_NAME_ENTRY *entry, char out[FL_TLS_NAME_MAX])
{
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
    bool fits = len > 0 && len < FL_TLS_NAME_MAX && !memchr(text, '\0', (size_t)len);

    if (fits) {
        memcpy(out, text, (size_t)len);
        out[len] = '\0';
    }
    OPENSSL_free(text);
    return fits;
}

static void copy_organizations(const X509_NAME *subject, struct fl_tls_peer *peer)
{
    int i = -1;

    while (peer->organization_count < FL_TLS_GROUPS_MAX &&
           (i = X509_NAME_get_index_by_NID(subject, NID_organizationName, i)) >= 0)
        if (copy_name(X509_NAME_get_entry(subject, i),
                      peer->organizations[peer->organization_count]))
            peer->organization_count++;
}

bool fl_tls_has_peer(const struct ssl_st *ssl)
{
    return SSL_get0_peer_certificate(ssl) != NULL;
}

void fl_tls_peer_read(const struct ssl_st *ssl, struct fl_tls_peer *ret_peer)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    const X509_NAME *subject;
    int at;

    *ret_peer = (struct fl_tls_peer){.verified = false};
    if (!cert || SSL_get_verify_result(ssl) != X509_V_OK ||
        X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0)
        return;
    subject = X509_get_subject_name(cert);
    at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || !copy_name(X509_NAME_get_entry(subject, at), ret_peer->common_name))
        return;
    copy_organizations(subject, ret_peer);
    ret_peer->verified = true;
}
