/* The certificate authority of lib/tls.h: making, checking and writing certificates. */
#include "lib/tls.h"

#include "lib/file.h"
#include "lib/str.h"

#include <arpa/inet.h>
#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#define PEM_MAX_BYTES       ((size_t)64 * 1024)
#define CLOCK_SLACK_SECONDS 300 /* peers whose clock is a little behind accept it too */
#define DAY_SECONDS         ((int64_t)86400)

FL_DEFINE_CLEANUP(BIO, BIO_free_all)
FL_DEFINE_CLEANUP(BIGNUM, BN_free)
FL_DEFINE_CLEANUP(X509_EXTENSION, X509_EXTENSION_free)
FL_DEFINE_CLEANUP(GENERAL_NAMES, GENERAL_NAMES_free)

struct pair {
    X509 *cert;
    EVP_PKEY *key;
};

static void pair_finish(struct pair *pair)
{
    X509_free(pair->cert);
    EVP_PKEY_free(pair->key);
}

static int cert_error(struct fl_error *err, const char *what)
{
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return fl_error_set(err, FL_E_INTERNAL, "%s: %s", what, fl_str_or(reason, "unknown reason"));
}

/* Files. */

static int read_pem(const char *path, BIO **ret_bio, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = fl_file_read(path, PEM_MAX_BYTES, &bytes, err);

    if (r < 0)
        return r;
    *ret_bio = BIO_new(BIO_s_mem());
    if (!*ret_bio || BIO_write(*ret_bio, bytes->data, (int)bytes->len) != (int)bytes->len)
        return cert_error(err, path);
    OPENSSL_cleanse(bytes->data, bytes->len);
    return 0;
}

static int read_cert(const char *path, X509 **ret_cert, struct fl_error *err)
{
    FL_CLEANUP(BIO_free_allp) BIO *bio = NULL;
    int r = read_pem(path, &bio, err);

    if (r < 0)
        return r;
    *ret_cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    return *ret_cert ? 0 : cert_error(err, path);
}

static int read_key(const char *path, EVP_PKEY **ret_key, struct fl_error *err)
{
    FL_CLEANUP(BIO_free_allp) BIO *bio = NULL;
    int r = read_pem(path, &bio, err);

    if (r < 0)
        return r;
    *ret_key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    return *ret_key ? 0 : cert_error(err, path);
}

static int read_pair(const char *cert_path, const char *key_path, struct pair *ret_pair,
                     struct fl_error *err)
{
    int r;

    ERR_clear_error(); /* what others left there is not our cause */
    r = read_cert(cert_path, &ret_pair->cert, err);
    if (r >= 0)
        r = read_key(key_path, &ret_pair->key, err);
    if (r < 0)
        return r;
    if (X509_check_private_key(ret_pair->cert, ret_pair->key) != 1)
        return fl_error_set(err, FL_E_INVALID, "%s is not the key of %s", key_path, cert_path);
    return 0;
}

static int write_bio(const char *path, BIO *bio, mode_t mode, struct fl_error *err)
{
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    int r = fl_file_write(path, text, (size_t)len, mode, err);

    OPENSSL_cleanse(text, (size_t)len);
    return r;
}

/* The key first: a certificate without its key would look like a finished pair to nobody. */
static int write_pair(const char *cert_path, const char *key_path, const struct pair *pair,
                      struct fl_error *err)
{
    FL_CLEANUP(BIO_free_allp) BIO *cert = BIO_new(BIO_s_mem());
    FL_CLEANUP(BIO_free_allp) BIO *key = BIO_new(BIO_s_mem());
    int r;

    if (!cert || !key || PEM_write_bio_X509(cert, pair->cert) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key, pair->key, NULL, NULL, 0, NULL, NULL) != 1)
        return cert_error(err, "encode a certificate");
    r = write_bio(key_path, key, 0600, err);
    if (r < 0)
        return r;
    return write_bio(cert_path, cert, 0644, err);
}

/* Making. */

static bool set_serial(const struct fl_env *env, X509 *cert)
{
    FL_CLEANUP(BN_freep) BIGNUM *number = NULL;
    unsigned char raw[16];

    env->random(env->user, raw, sizeof(raw));
    raw[0] = (unsigned char)((raw[0] & 0x7F) | 0x40); /* positive, and always 16 bytes */
    number = BN_bin2bn(raw, sizeof(raw), NULL);
    return number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
}

/* `until` > 0 cuts the life: a certificate cannot outlive its issuer. */
static bool set_life(const struct fl_env *env, X509 *cert, int64_t valid_seconds,
                     const ASN1_TIME *until)
{
    time_t now = (time_t)(fl_realtime_us(env) / 1000000);

    if (!ASN1_TIME_set(X509_getm_notBefore(cert), now - CLOCK_SLACK_SECONDS) ||
        !ASN1_TIME_set(X509_getm_notAfter(cert), now + valid_seconds))
        return false;
    if (until && ASN1_TIME_compare(X509_get0_notAfter(cert), until) > 0)
        return X509_set1_notAfter(cert, until) == 1;
    return true;
}

static bool add_name(X509_NAME *name, const char *field, const char *value)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)value, -1,
                                      -1, 0) == 1;
}

static bool add_extension(X509 *cert, const X509 *issuer, int nid, const char *value)
{
    FL_CLEANUP(X509_EXTENSION_freep) X509_EXTENSION *extension = NULL;
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, (X509 *)issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    return extension && X509_add_ext(cert, extension, -1) == 1;
}

/* With the pair's key, or a fresh one where it has none. */
static bool start_cert(const struct fl_env *env, struct pair *pair)
{
    if (!pair->key)
        pair->key = EVP_EC_gen("P-256");
    pair->cert = X509_new();
    return pair->key && pair->cert && X509_set_version(pair->cert, X509_VERSION_3) == 1 &&
           set_serial(env, pair->cert) && X509_set_pubkey(pair->cert, pair->key) == 1;
}

static bool make_ca(const struct fl_env *env, const char *common_name, int64_t valid_seconds,
                    struct pair *pair)
{
    return start_cert(env, pair) && set_life(env, pair->cert, valid_seconds, NULL) &&
           add_name(X509_get_subject_name(pair->cert), "CN", common_name) &&
           X509_set_issuer_name(pair->cert, X509_get_subject_name(pair->cert)) == 1 &&
           add_extension(pair->cert, pair->cert, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(pair->cert, pair->cert, NID_key_usage,
                         "critical,digitalSignature,keyCertSign,cRLSign") &&
           add_extension(pair->cert, pair->cert, NID_subject_key_identifier, "hash") &&
           add_extension(pair->cert, pair->cert, NID_authority_key_identifier, "keyid:always") &&
           X509_sign(pair->cert, pair->key, EVP_sha256()) > 0;
}

static GENERAL_NAME *make_alternative(const char *text)
{
    unsigned char raw[16];
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *value;
    int family = inet_pton(AF_INET, text, raw) == 1    ? AF_INET
                 : inet_pton(AF_INET6, text, raw) == 1 ? AF_INET6
                                                       : 0;

    value = family ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    if (!name || !value ||
        (family ? ASN1_STRING_set(value, raw, family == AF_INET ? 4 : 16)
                : ASN1_STRING_set(value, text, -1)) != 1) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(value);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, family ? GEN_IPADD : GEN_DNS, value);
    return name;
}

/* Built by hand, not from OpenSSL's configuration syntax, in which a name could say other things.
 */
static bool add_alternatives(X509 *cert, const struct fl_cert_request *request)
{
    FL_CLEANUP(GENERAL_NAMES_freep) GENERAL_NAMES *names = GENERAL_NAMES_new();

    if (request->name_count == 0)
        return true;
    for (size_t i = 0; names && i < request->name_count; i++) {
        GENERAL_NAME *name = make_alternative(request->names[i]);

        if (!name || sk_GENERAL_NAME_push(names, name) <= 0) {
            GENERAL_NAME_free(name);
            return false;
        }
    }
    return names && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) == 1;
}

static bool set_subject(X509 *cert, const struct fl_cert_request *request)
{
    X509_NAME *subject = X509_get_subject_name(cert);

    for (size_t i = 0; i < request->organization_count; i++)
        if (!add_name(subject, "O", request->organizations[i]))
            return false;
    return add_name(subject, "CN", request->common_name);
}

static bool make_leaf(const struct fl_env *env, const struct pair *ca,
                      const struct fl_cert_request *request, struct pair *pair)
{
    const char *usage = request->server && request->client ? "serverAuth,clientAuth"
                        : request->server                  ? "serverAuth"
                                                           : "clientAuth";

    return start_cert(env, pair) &&
           set_life(env, pair->cert, request->valid_seconds, X509_get0_notAfter(ca->cert)) &&
           set_subject(pair->cert, request) &&
           X509_set_issuer_name(pair->cert, X509_get_subject_name(ca->cert)) == 1 &&
           add_extension(pair->cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(pair->cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(pair->cert, ca->cert, NID_ext_key_usage, usage) &&
           add_extension(pair->cert, ca->cert, NID_subject_key_identifier, "hash") &&
           add_extension(pair->cert, ca->cert, NID_authority_key_identifier, "keyid:always") &&
           add_alternatives(pair->cert, request) &&
           X509_sign(pair->cert, ca->key, EVP_sha256()) > 0;
}

/* Judging what is there. */

static int64_t seconds_until(const struct fl_env *env, const ASN1_TIME *when)
{
    time_t now = (time_t)(fl_realtime_us(env) / 1000000);
    ASN1_TIME *current = ASN1_TIME_set(NULL, now);
    int days = 0, seconds = 0, ok = current && ASN1_TIME_diff(&days, &seconds, current, when);

    ASN1_TIME_free(current);
    return ok ? days * DAY_SECONDS + seconds : 0;
}

static int64_t life_seconds(const X509 *cert)
{
    int days = 0, seconds = 0;

    if (ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(cert), X509_get0_notAfter(cert)) != 1)
        return 0;
    return days * DAY_SECONDS + seconds;
}

static bool has_name(X509 *cert, const char *name)
{
    unsigned char raw[16];

    if (inet_pton(AF_INET, name, raw) == 1 || inet_pton(AF_INET6, name, raw) == 1)
        return X509_check_ip_asc(cert, name, 0) == 1;
    return X509_check_host(cert, name, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

static bool same_subject(X509 *cert, const struct fl_cert_request *request)
{
    X509 *wanted = X509_new();
    bool same = wanted && set_subject(wanted, request) &&
                X509_NAME_cmp(X509_get_subject_name(wanted), X509_get_subject_name(cert)) == 0;

    X509_free(wanted);
    return same;
}

static bool still_good(const struct fl_env *env, const struct pair *ca, const struct pair *leaf,
                       const struct fl_cert_request *request)
{
    if (X509_verify(leaf->cert, X509_get0_pubkey(ca->cert)) != 1 ||
        !same_subject(leaf->cert, request) ||
        seconds_until(env, X509_get0_notAfter(leaf->cert)) <= life_seconds(leaf->cert) / 3)
        return false;
    for (size_t i = 0; i < request->name_count; i++)
        if (!has_name(leaf->cert, request->names[i]))
            return false;
    return true;
}

/* The door. */

int fl_ca_ensure(const struct fl_env *env, const char *cert_path, const char *key_path,
                 const char *common_name, int64_t valid_seconds, struct fl_error *err)
{
    FL_CLEANUP(pair_finish) struct pair pair = {0};
    bool has_cert = access(cert_path, F_OK) == 0, has_key = access(key_path, F_OK) == 0;
    int r = 0;

    if (has_cert && !has_key)
        return fl_error_set(err, FL_E_INVALID, "%s is there without %s", cert_path, key_path);
    if (has_cert)
        r = read_pair(cert_path, key_path, &pair, err);
    else if (has_key)
        r = read_key(key_path, &pair.key, err);
    if (r < 0)
        return fl_error_wrap(err, "certificate authority");
    if (has_cert) {
        if (seconds_until(env, X509_get0_notAfter(pair.cert)) > DAY_SECONDS)
            return 0;
        pair_finish(&pair);
        pair = (struct pair){0};
    }
    if (!make_ca(env, common_name, valid_seconds, &pair))
        return cert_error(err, "make a certificate authority");
    return write_pair(cert_path, key_path, &pair, err);
}

static int issue(const struct fl_env *env, const struct pair *ca,
                 const struct fl_cert_request *request, const char *cert_path, const char *key_path,
                 struct fl_error *err)
{
    FL_CLEANUP(pair_finish) struct pair leaf = {0};

    assert(request->common_name && (request->server || request->client));

    if (!make_leaf(env, ca, request, &leaf))
        return cert_error(err, request->common_name);
    return write_pair(cert_path, key_path, &leaf, err);
}

int fl_cert_issue(const struct fl_env *env, const char *ca_cert_path, const char *ca_key_path,
                  const struct fl_cert_request *request, const char *cert_path,
                  const char *key_path, struct fl_error *err)
{
    FL_CLEANUP(pair_finish) struct pair ca = {0};
    int r = read_pair(ca_cert_path, ca_key_path, &ca, err);

    if (r < 0)
        return fl_error_wrap(err, "certificate authority");
    return issue(env, &ca, request, cert_path, key_path, err);
}

int fl_cert_ensure(const struct fl_env *env, const char *ca_cert_path, const char *ca_key_path,
                   const struct fl_cert_request *request, const char *cert_path,
                   const char *key_path, struct fl_error *err)
{
    FL_CLEANUP(pair_finish) struct pair ca = {0};
    FL_CLEANUP(pair_finish) struct pair leaf = {0};
    int r = read_pair(ca_cert_path, ca_key_path, &ca, err);

    if (r < 0)
        return fl_error_wrap(err, "certificate authority");
    /* A pair that cannot be read, or half of one, is replaced like a missing one. */
    if (read_pair(cert_path, key_path, &leaf, NULL) >= 0 && still_good(env, &ca, &leaf, request))
        return 0;
    return issue(env, &ca, request, cert_path, key_path, err);
}
