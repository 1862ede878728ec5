#include "controller/source/git_internal.h"

#include "lib/str.h"

#include <sodium.h>

/* The texts of a request and their names in JSON, in one table for both directions. */
static const struct text_field {
    const char *name;
    size_t offset;
    bool secret; /* no part of the digest */
} texts[] = {
    {"url", offsetof(struct fl_source_request, url), false},
    {"branch", offsetof(struct fl_source_request, branch), false},
    {"tag", offsetof(struct fl_source_request, tag), false},
    {"commit", offsetof(struct fl_source_request, commit), false},
    {"path", offsetof(struct fl_source_request, path), false},
    {"username", offsetof(struct fl_source_request, username), true},
    {"password", offsetof(struct fl_source_request, password), true},
    {"identity", offsetof(struct fl_source_request, identity), true},
    {"knownHosts", offsetof(struct fl_source_request, known_hosts), true},
    {"ca", offsetof(struct fl_source_request, ca_pem), true},
};

static const char **text_at(struct fl_source_request *request, size_t i)
{
    return (const char **)((char *)request + texts[i].offset);
}

static json_t *encode_list(const char *const *items, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(items[i]));
    return list;
}

static json_t *encode(const struct fl_source_request *request, bool with_secrets)
{
    struct fl_source_request copy = *request;
    json_t *value = json_object();

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        if (with_secrets || !texts[i].secret)
            fl_json_set_str(value, texts[i].name, *text_at(&copy, i));
    json_object_set_new(value, "exclude", encode_list(request->exclude, request->exclude_count));
    json_object_set_new(value, "allowedSigners",
                        encode_list(request->allowed_signers, request->allowed_signer_count));
    return value;
}

json_t *fl_git_request_encode(const struct fl_git_request *request)
{
    json_t *value = encode(&request->source, true);

    json_object_set_new(value, "timeoutMs", json_integer(request->source.timeout_ms));
    fl_json_set_str(value, "dir", request->dir);
    fl_json_set_str(value, "dataDir", request->data_dir);
    fl_json_set_str(value, "checkout", request->checkout);
    return value;
}

void fl_git_request_wipe(json_t *value)
{
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        json_t *text = json_object_get(value, texts[i].name);

        if (texts[i].secret && json_is_string(text))
            sodium_memzero((char *)json_string_value(text), json_string_length(text));
    }
}

static int decode_list(const json_t *value, const char *name, struct fl_arena *arena,
                       const char *const **ret_items, size_t *ret_count, struct fl_error *err)
{
    const json_t *list = json_object_get(value, name);
    size_t count = json_array_size(list);
    const char **items = fl_new_array(arena, const char *, count + 1);

    for (size_t i = 0; i < count; i++) {
        items[i] = json_string_value(json_array_get(list, i));
        if (!items[i])
            return fl_error_set(err, FL_E_BAD_REQUEST, "%s: item %zu is no text", name, i);
    }
    *ret_items = items;
    *ret_count = count;
    return 0;
}

int fl_git_request_decode(const json_t *value, struct fl_arena *arena,
                          struct fl_git_request *ret_request, struct fl_error *err)
{
    struct fl_git_request request = {0};
    int r;

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        *text_at(&request.source, i) = fl_json_str(value, texts[i].name);
    request.dir = fl_json_str(value, "dir");
    request.data_dir = fl_json_str(value, "dataDir");
    request.checkout = fl_json_str(value, "checkout");
    request.source.timeout_ms = fl_json_int(value, "timeoutMs", 0);
    if (!request.source.url || !request.dir || request.source.timeout_ms <= 0)
        return fl_error_set(err, FL_E_BAD_REQUEST, "url, dir and timeoutMs are required");
    r = decode_list(value, "exclude", arena, &request.source.exclude, &request.source.exclude_count,
                    err);
    if (r == 0)
        r = decode_list(value, "allowedSigners", arena, &request.source.allowed_signers,
                        &request.source.allowed_signer_count, err);
    if (r == 0)
        *ret_request = request;
    return r;
}

char *fl_git_request_digest(const struct fl_source_request *request, struct fl_arena *arena)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    FL_JSON value = encode(request, false);
    char *text = fl_json_to_string(arena, value), *hex = fl_alloc(arena, 2 * sizeof(digest) + 1);

    (void)crypto_hash_sha256(digest, (const unsigned char *)text, strlen(text));
    fl_hex_encode(digest, sizeof(digest), hex);
    return hex;
}
