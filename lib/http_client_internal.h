/* What the blocking client and the one on the loop have in common: whom to call and as whom, told
 * to libcurl. */
#ifndef FL_LIB_HTTP_CLIENT_INTERNAL_H
#define FL_LIB_HTTP_CLIENT_INTERNAL_H

#define FL_ALLOW_BANNED
#include "lib/http_client.h"

#include <curl/curl.h>

struct fl_http_client {
    char *base_url, *ca_file, *cert_file, *key_file, *authorization, *user_agent;
    char *ca_pem, *cert_pem, *key_pem;
    bool insecure, loopback;
    long connect_timeout_ms;
    size_t max_response_bytes;
    CURL *calls;    /* kept, with its connections */
    CURLSH *shared; /* TLS sessions, for streams too */
};

#define FL_CURL_SET(easy, option, value) (void)curl_easy_setopt(easy, option, value)

bool fl_http_has_control(const char *text);
/* Connection, certificates, user agent: all that does not differ from call to call. */
void fl_http_client_set_up(const struct fl_http_client *client, CURL *easy);
void fl_http_curl_method(CURL *easy, const char *method, const void *body, size_t body_len);
int fl_http_curl_code(CURLcode result); /* FL_E_… for a failure */
int fl_http_curl_status(CURL *easy);

#endif
