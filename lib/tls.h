/* TLS contexts, and the small certificate authority of a control plane (OpenSSL).
 *
 * TLS 1.2 at least, 1.3 by preference; server contexts may ask for client certificates and verify
 * those that are shown against a CA. A client whose certificate does not verify is connected all
 * the same, as nobody: its requests then get a readable 401 instead of a broken handshake. Private
 * keys are ECDSA P-256, files are PEM, key files have mode 0600 and appear atomically. Contexts are
 * immutable once made and shared by threads. */
#ifndef FL_LIB_TLS_H
#define FL_LIB_TLS_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ssl_st;
struct ssl_ctx_st;
struct fl_tls;

struct fl_tls_files {
    const char *cert; /* chain, leaf first; NULL for a client without one */
    const char *key;
    const char *client_ca; /* server: verify client certificates against it; NULL: ask for none */
    const char *ca;        /* client: what to trust; NULL: the system's */
};

int fl_tls_server_create(const struct fl_tls_files *files, struct fl_tls **ret_tls,
                         struct fl_error *err);
int fl_tls_client_create(const struct fl_tls_files *files, struct fl_tls **ret_tls,
                         struct fl_error *err);
void fl_tls_destroy(struct fl_tls *tls);
FL_DEFINE_CLEANUP(struct fl_tls, fl_tls_destroy)
struct ssl_ctx_st *fl_tls_context(struct fl_tls *tls);

/* Who a verified peer certificate says it is. Bounded: organizations beyond the bounds are left out
 * (fewer rights, never others); a common name that is too long or has a NUL is not verified. */
#define FL_TLS_NAME_MAX   256
#define FL_TLS_GROUPS_MAX 16
struct fl_tls_peer {
    bool verified;
    char common_name[FL_TLS_NAME_MAX];
    char organizations[FL_TLS_GROUPS_MAX][FL_TLS_NAME_MAX];
    size_t organization_count;
};

/* Of the server's side of a connection; `verified` is false where there is no certificate, it did
 * not verify, or it has ended since the handshake (a resumed session brings it along). */
void fl_tls_peer_read(const struct ssl_st *ssl, struct fl_tls_peer *ret_peer);
bool fl_tls_has_peer(const struct ssl_st *ssl); /* cheap: is there a certificate at all? */

struct fl_cert_request {
    const char *common_name;
    const char *const *organizations; /* may be NULL */
    size_t organization_count;
    const char *const *names; /* DNS names and IP addresses for subjectAltName */
    size_t name_count;
    bool server, client; /* extended key usages */
    int64_t valid_seconds;
};

/* Makes a CA's key and self-signed certificate unless both files are there and valid for at least
 * another day. A key is never overwritten by half: one without a certificate (a crash between the
 * two files) gets one of its own, and what it has signed stays good; a certificate without its key
 * is an error. */
int fl_ca_ensure(const struct fl_env *env, const char *cert_path, const char *key_path,
                 const char *common_name, int64_t valid_seconds, struct fl_error *err);

/* Issues a certificate signed by the CA, with a fresh key, into two files (the pair is replaced).
 * fl_cert_ensure does so only where the files are missing, do not belong to this CA, lack one of
 * the names, or end within a third of their life. */
int fl_cert_issue(const struct fl_env *env, const char *ca_cert_path, const char *ca_key_path,
                  const struct fl_cert_request *request, const char *cert_path,
                  const char *key_path, struct fl_error *err);
int fl_cert_ensure(const struct fl_env *env, const char *ca_cert_path, const char *ca_key_path,
                   const struct fl_cert_request *request, const char *cert_path,
                   const char *key_path, struct fl_error *err);

#endif
