/* Answers in the words of distribution-spec 1.1. */
#include "controller/registry/internal.h"

#include "lib/str.h"

const struct fl_repos_words fl_repos_blob_words = {"BLOB_UNKNOWN", "DIGEST_INVALID"};
const struct fl_repos_words fl_repos_upload_words = {"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"};
const struct fl_repos_words fl_repos_manifest_words = {"MANIFEST_UNKNOWN", "MANIFEST_INVALID"};
const struct fl_repos_words fl_repos_push_words = {"MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID"};
const struct fl_repos_words fl_repos_name_words = {"NAME_UNKNOWN", "NAME_INVALID"};

static const char *code_of(int code, const struct fl_repos_words *words)
{
    switch (code) {
    case FL_E_UNAUTHORIZED:
        return "UNAUTHORIZED";
    case FL_E_FORBIDDEN:
        return "DENIED";
    case FL_E_NOT_FOUND:
        return words->unknown;
    case FL_E_BAD_REQUEST:
    case FL_E_INVALID:
    case FL_E_CONFLICT:
        return words->invalid;
    case FL_E_METHOD_NOT_ALLOWED:
    case FL_E_UNSUPPORTED_MEDIA:
        return "UNSUPPORTED";
    case FL_E_TOO_LARGE:
        return "SIZE_INVALID";
    case FL_E_TOO_MANY_REQUESTS:
        return "TOOMANYREQUESTS";
    case FL_E_UNAVAILABLE:
        return "UNAVAILABLE";
    default:
        return "UNKNOWN";
    }
}

static json_t *body_of(const char *code, const char *message)
{
    return json_pack("{s:[{s:s, s:s}]}", "errors", "code", code, "message", message);
}

json_t *fl_repos_word(void *user, const struct fl_error *err)
{
    (void)user;
    return body_of(code_of(err->code, &fl_repos_name_words), err->msg);
}

static void answer_value(struct fl_raw_request *raw, int status, const char *media_type,
                         const json_t *value)
{
    struct fl_http_request *http = fl_raw_done(raw, status);
    struct fl_buf text;

    fl_buf_init(&text, 0);
    fl_json_write(&text, value);
    fl_http_respond_buf(http, status, media_type, &text);
}

void fl_repos_refuse(struct fl_raw_request *raw, const struct fl_error *err,
                     const struct fl_repos_words *words)
{
    int status = err->code == FL_E_INVALID ? 400 : fl_error_http_status(err->code);
    FL_JSON body = body_of(code_of(err->code, words), err->msg);

    if (err->code == FL_E_TOO_MANY_REQUESTS || err->code == FL_E_UNAVAILABLE)
        fl_http_set_header(fl_raw_http(raw), "Retry-After", "1");
    answer_value(raw, status, "application/json", body);
}

void fl_repos_refuse_method(struct fl_raw_request *raw, const char *allowed)
{
    struct fl_error err = {0};

    fl_http_set_header(fl_raw_http(raw), "Allow", allowed);
    (void)fl_error_set(&err, FL_E_METHOD_NOT_ALLOWED, "%.20s is not for this, only %s",
                       fl_http_method(fl_raw_http(raw)), allowed);
    fl_repos_refuse(raw, &err, &fl_repos_name_words);
}

void fl_repos_answer(struct fl_raw_request *raw, int status)
{
    fl_http_respond(fl_raw_done(raw, status), status, NULL, "", 0);
}

void fl_repos_answer_json(struct fl_raw_request *raw, const char *media_type, const json_t *value)
{
    answer_value(raw, 200, media_type, value);
}
