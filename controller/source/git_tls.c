/* TLS for libgit2 by OpenSSL, as everywhere else in the program: which library a distribution built
 * libgit2 with decides about versions, about addresses in certificates and about how strictly they
 * are checked (Debian 12: mbedTLS 2.28, no TLS 1.3, no addresses).
 *
 * libgit2 has one constructor of streams for the whole process and hands it nothing of ours, so
 * what is trusted stands here in a variable; it is the child's, which fetches once. */
#include "controller/source/git_internal.h"

#include "lib/str.h"
#include "lib/tls.h"

#include <git2.h>
#include <git2/sys/stream.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static struct fl_tls *trusted;

struct stream {
    git_stream parent;
    BIO *bio;
    char *host, *port;
    git_cert_x509 certificate; /* empty: whether it is good is all that is asked */
};

static int fail(const struct stream *stream, int klass, int code, const char *why)
{
    FL_CLEANUP(fl_freep) char *text = fl_asprintf("%s: %s", stream->host, why);

    (void)git_error_set_str(klass, text);
    return code;
}

static const char *last_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    return code && text ? text : "the connection was closed";
}

/* A certificate must be of the name, or of the address, that stands in the URL. */
static bool expect_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

    if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
        return true;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, host) == 1;
}

static int connect_stream(git_stream *self)
{
    struct stream *stream = (struct stream *)self;
    FL_CLEANUP(fl_freep)
    char *host = fl_asprintf(strchr(stream->host, ':') ? "[%s]" : "%s", stream->host);
    SSL *ssl = NULL;
    long verified;

    stream->bio = BIO_new_ssl_connect(fl_tls_context(trusted));
    if (!stream->bio || BIO_get_ssl(stream->bio, &ssl) != 1 || !expect_host(ssl, stream->host))
        return fail(stream, GIT_ERROR_SSL, -1, "TLS cannot be set up");
    (void)SSL_set_mode(ssl, SSL_MODE_AUTO_RETRY);
    (void)BIO_set_conn_hostname(stream->bio, host);
    (void)BIO_set_conn_port(stream->bio, stream->port);
    ERR_clear_error();
    if (BIO_do_connect(stream->bio) == 1)
        return 0;
    verified = SSL_get_verify_result(ssl);
    if (verified != X509_V_OK)
        return fail(stream, GIT_ERROR_SSL, GIT_ECERTIFICATE,
                    X509_verify_cert_error_string(verified));
    return fail(stream, GIT_ERROR_NET, -1, last_reason());
}

static int certificate(git_cert **ret_certificate, git_stream *self)
{
    struct stream *stream = (struct stream *)self;

    stream->certificate.parent.cert_type = GIT_CERT_X509;
    *ret_certificate = &stream->certificate.parent;
    return 0;
}

static ssize_t read_stream(git_stream *self, void *data, size_t len)
{
    struct stream *stream = (struct stream *)self;
    SSL *ssl = NULL;
    int n;

    ERR_clear_error();
    n = BIO_read(stream->bio, data, len > INT_MAX ? INT_MAX : (int)len);
    if (n > 0)
        return n;
    (void)BIO_get_ssl(stream->bio, &ssl);
    if (SSL_get_error(ssl, n) == SSL_ERROR_ZERO_RETURN)
        return 0;
    return fail(stream, GIT_ERROR_NET, -1, last_reason());
}

static ssize_t write_stream(git_stream *self, const char *data, size_t len, int flags)
{
    struct stream *stream = (struct stream *)self;
    int n;

    (void)flags;
    ERR_clear_error();
    n = BIO_write(stream->bio, data, len > INT_MAX ? INT_MAX : (int)len);
    return n > 0 ? n : fail(stream, GIT_ERROR_NET, -1, last_reason());
}

static int close_stream(git_stream *self)
{
    struct stream *stream = (struct stream *)self;

    BIO_free_all(stream->bio);
    stream->bio = NULL;
    return 0;
}

static void free_stream(git_stream *self)
{
    struct stream *stream = (struct stream *)self;

    (void)close_stream(self);
    free(stream->host);
    free(stream->port);
    free(stream);
}

static int init_stream(git_stream **ret_stream, const char *host, const char *port)
{
    struct stream *stream = fl_calloc(1, sizeof(*stream));

    stream->parent = (git_stream){
        .version = GIT_STREAM_VERSION,
        .encrypted = 1,
        .connect = connect_stream,
        .certificate = certificate,
        .read = read_stream,
        .write = write_stream,
        .close = close_stream,
        .free = free_stream,
    };
    stream->host = fl_strdup(host);
    stream->port = fl_strdup(port);
    *ret_stream = &stream->parent;
    return 0;
}

int fl_git_tls_set_up(const char *ca_path, struct fl_error *err)
{
    const struct fl_tls_files files = {.ca = ca_path};
    git_stream_registration registration = {.version = GIT_STREAM_VERSION, .init = init_stream};
    int r = fl_tls_client_create(&files, &trusted, err);

    if (r == 0 && git_stream_register(GIT_STREAM_TLS, &registration) < 0)
        r = fl_error_set(err, FL_E_INTERNAL, "libgit2 does not take our TLS");
    return r;
}

void fl_git_tls_finish(void)
{
    fl_tls_destroy(trusted);
    trusted = NULL;
}
