/* For tests: a registry in memory, on a loop in a thread of its own, that can be told to misbehave;
 * and images to push to it. */
#ifndef FL_LIB_OCI_REGISTRY_FAKE_H
#define FL_LIB_OCI_REGISTRY_FAKE_H

#include "lib/folder.h"
#include "lib/http_range.h"
#include "lib/http_test_rig.h"
#include "lib/map.h"
#include "lib/oci/registry.h"

#include <strings.h>

struct fake;
/* True: it has answered (or never will). With the lock held. */
typedef bool fake_mischief_fn(struct fake *fake, struct fl_http_request *request);

struct fake_document {
    char *type;
    struct fl_bytes *text;
};

struct fake {
    struct rig *rig;
    pthread_mutex_t lock;     /* what follows */
    struct fl_map *blobs;     /* digest -> fl_bytes, in all repositories */
    struct fl_map *documents; /* "name reference" -> fake_document */
    struct fl_buf upload;
    fake_mischief_fn *mischief;
    int times;        /* what the mischief counts */
    int64_t at;       /* and where it strikes */
    const char *text; /* and what it says */
    bool no_referrers, no_ranges, mounts, says_subject;
    int chunk_min;
    const char *expects; /* of Authorization; NULL: anybody */
    const char *challenge;
    int requests, patches, puts, posts, gets, cancels, tokens, mounted, refused;
    char seen_authorization[256]; /* of the last request that had one */
    int with_authorization;
};

static inline void fake_forget_bytes(void *value)
{
    fl_bytes_unref(value);
}

static inline void fake_forget_document(void *value)
{
    struct fake_document *document = value;

    free(document->type);
    fl_bytes_unref(document->text);
    free(document);
}

static inline void fake_put_document(struct fake *fake, const char *name, const char *reference,
                                     const char *type, struct fl_bytes *text)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s %s", name, reference);
    struct fake_document *document = fl_calloc(1, sizeof(*document));

    document->type = fl_strdup(type);
    document->text = fl_bytes_ref(text);
    fl_map_put(fake->documents, key, document);
}

static inline void fake_put_blob(struct fake *fake, const char *data, size_t len,
                                 char digest[FL_DIGEST_SIZE])
{
    fl_digest_of(data, len, digest);
    fl_map_put(fake->blobs, digest, fl_bytes_new(data, len));
}

static inline void fake_error(struct fl_http_request *request, int status, const char *code)
{
    const char *text = fl_arena_printf(fl_http_arena(request),
                                       "{\"errors\":[{\"code\":\"%s\",\"message\":\"no\"}]}", code);

    fl_http_respond(request, status, "application/json", text, strlen(text));
}

/* --- what a good registry does --- */

static inline void fake_get_blob(struct fake *fake, struct fl_http_request *request,
                                 const char *digest)
{
    const struct fl_bytes *bytes = fl_map_get(fake->blobs, digest);
    struct fl_http_part part;

    if (!bytes) {
        fake_error(request, 404, "BLOB_UNKNOWN");
        return;
    }
    if (!fake->no_ranges &&
        fl_http_range_parse(fl_http_header(request, "Range"), bytes->len, &part) == FL_HTTP_PART) {
        fl_http_set_header(request, "Content-Range",
                           fl_arena_printf(fl_http_arena(request), "bytes %llu-%llu/%zu",
                                           (unsigned long long)part.offset,
                                           (unsigned long long)(part.offset + part.len - 1),
                                           bytes->len));
        fl_http_respond(request, 206, "application/octet-stream", bytes->data + part.offset,
                        part.len);
        return;
    }
    fl_http_respond(request, 200, "application/octet-stream", bytes->data, bytes->len);
}

static inline void fake_get_document(struct fake *fake, struct fl_http_request *request,
                                     const char *name, const char *reference)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s %s", name, reference);
    const struct fake_document *document = fl_map_get(fake->documents, key);
    char digest[FL_DIGEST_SIZE];

    if (!document) {
        fake_error(request, 404, "MANIFEST_UNKNOWN");
        return;
    }
    fl_digest_of(document->text->data, document->text->len, digest);
    fl_http_set_header(request, "Docker-Content-Digest", digest);
    fl_http_respond(request, 200, document->type, document->text->data, document->text->len);
}

static inline void fake_put_manifest(struct fake *fake, struct fl_http_request *request,
                                     const char *name, const char *reference)
{
    size_t len;
    const char *body = fl_http_body(request, &len);
    const char *type = fl_http_header(request, "Content-Type");
    struct fl_bytes *text = fl_bytes_new(body, len);
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(body, len, digest);
    fake_put_document(fake, name, digest, type ? type : "", text);
    fake_put_document(fake, name, reference, type ? type : "", text);
    fl_bytes_unref(text);
    if (fake->says_subject)
        fl_http_set_header(request, "OCI-Subject", digest);
    fl_http_respond(request, 201, NULL, NULL, 0);
}

static inline void fake_say_session(struct fake *fake, struct fl_http_request *request, int status,
                                    const char *name)
{
    struct fl_arena *arena = fl_http_arena(request);
    const char *location =
        fl_arena_printf(arena, "/v2/%s/blobs/uploads/u1?state=%zu", name, fake->upload.len);

    fl_http_set_header(request, "Location", location);
    fl_http_set_header(
        request, "Range",
        fl_arena_printf(arena, "0-%zu", fake->upload.len > 0 ? fake->upload.len - 1 : 0));
    fl_http_respond(request, status, NULL, NULL, 0);
}

static inline void fake_post(struct fake *fake, struct fl_http_request *request, const char *name)
{
    const char *query = fl_http_query(request);

    fake->posts++;
    if (fake->mounts && fl_str_has_prefix(query, "mount=")) {
        char digest[FL_DIGEST_SIZE];

        (void)snprintf(digest, sizeof(digest), "%.71s", query + 6);
        if (fl_map_get(fake->blobs, digest)) {
            fake->mounted++;
            fl_http_respond(request, 201, NULL, NULL, 0);
            return;
        }
    }
    fl_buf_clear(&fake->upload);
    if (fake->chunk_min > 0)
        fl_http_set_header(request, "OCI-Chunk-Min-Length",
                           fl_arena_printf(fl_http_arena(request), "%d", fake->chunk_min));
    fake_say_session(fake, request, 202, name);
}

static inline void fake_patch(struct fake *fake, struct fl_http_request *request, const char *name)
{
    size_t len;
    const char *body = fl_http_body(request, &len);
    const char *range = fl_http_header(request, "Content-Range");

    fake->patches++;
    if (range && strtoull(range, NULL, 10) != fake->upload.len) {
        fake_say_session(fake, request, 416, name);
        return;
    }
    if (fake->chunk_min > 0 && len < (size_t)fake->chunk_min)
        fake->refused++; /* only the last one may be so small */
    fl_buf_append(&fake->upload, body, len);
    fake_say_session(fake, request, 202, name);
}

static inline void fake_put(struct fake *fake, struct fl_http_request *request)
{
    size_t len;
    const char *body = fl_http_body(request, &len);
    const char *wanted = strstr(fl_http_query(request), "digest=");
    char digest[FL_DIGEST_SIZE];

    fake->puts++;
    fl_buf_append(&fake->upload, body, len);
    fl_digest_of(fl_buf_text(&fake->upload), fake->upload.len, digest);
    if (!wanted || strcmp(wanted + 7, digest) != 0) {
        fake_error(request, 400, "DIGEST_INVALID");
        return;
    }
    fl_map_put(fake->blobs, digest, fl_buf_to_bytes(&fake->upload));
    fl_buf_clear(&fake->upload);
    fl_http_respond(request, 201, NULL, NULL, 0);
}

static inline void fake_tags(struct fake *fake, struct fl_http_request *request, const char *name)
{
    struct fl_arena *arena = fl_http_arena(request);
    const char *text = "", *key;
    void *cursor = NULL, *value;
    size_t name_len = strlen(name);

    while (fl_map_next(fake->documents, &cursor, &key, &value))
        if (strncmp(key, name, name_len) == 0 && key[name_len] == ' ' && !strchr(key, ':'))
            text = fl_arena_printf(arena, "%s%s\"%s\"", text, *text ? "," : "", key + name_len + 1);
    text = fl_arena_printf(arena, "{\"name\":\"%s\",\"tags\":[%s]}", name, text);
    fl_http_respond(request, 200, "application/json", text, strlen(text));
}

/* "/v2/NAME/KIND/REST", name and kind cut out of a copy of the path. */
static inline bool fake_split(char *path, const char *kind, char **ret_name, char **ret_rest)
{
    FL_CLEANUP(fl_freep) char *middle = fl_asprintf("/%s/", kind);
    char *found = strstr(path, middle);

    if (!found || strncmp(path, "/v2/", 4) != 0)
        return false;
    *found = '\0';
    *ret_name = path + 4;
    *ret_rest = found + strlen(middle);
    return true;
}

static inline void fake_upload(struct fake *fake, struct fl_http_request *request, const char *name)
{
    const char *method = fl_http_method(request);

    if (strcmp(method, "POST") == 0)
        fake_post(fake, request, name);
    else if (strcmp(method, "PATCH") == 0)
        fake_patch(fake, request, name);
    else if (strcmp(method, "PUT") == 0)
        fake_put(fake, request);
    else if (strcmp(method, "DELETE") == 0) {
        fake->cancels++;
        fl_http_respond(request, 204, NULL, NULL, 0);
    } else
        fake_say_session(fake, request, 204, name);
}

static inline void fake_serve(struct fake *fake, struct fl_http_request *request)
{
    const char *method = fl_http_method(request);
    char *path = fl_arena_strdup(fl_http_arena(request), fl_http_path(request)), *name, *rest;

    if (fake_split(path, "blobs/uploads", &name, &rest))
        fake_upload(fake, request, name);
    else if (fake_split(path, "blobs", &name, &rest)) {
        fake->gets += strcmp(method, "GET") == 0;
        fake_get_blob(fake, request, rest);
    } else if (fake_split(path, "manifests", &name, &rest)) {
        if (strcmp(method, "PUT") == 0)
            fake_put_manifest(fake, request, name, rest);
        else
            fake_get_document(fake, request, name, rest);
    } else if (fake_split(path, "tags", &name, &rest))
        fake_tags(fake, request, name);
    else
        fake_error(request, 404, "NOT_FOUND");
}

/* The token service is at /token: whoever asks gets "t1", "t2" … */
static inline bool fake_token(struct fake *fake, struct fl_http_request *request)
{
    const char *text;

    if (strcmp(fl_http_path(request), "/token") != 0)
        return false;
    fake->tokens++;
    text = fl_arena_printf(fl_http_arena(request), "{\"token\":\"t%d\",\"expires_in\":300}",
                           fake->tokens);
    fl_http_respond(request, 200, "application/json", text, strlen(text));
    return true;
}

static inline bool fake_is_welcome(struct fake *fake, struct fl_http_request *request)
{
    const char *authorization = fl_http_header(request, "Authorization");

    if (!fake->expects || (authorization && strcmp(authorization, fake->expects) == 0))
        return true;
    fl_http_set_header(request, "WWW-Authenticate", fake->challenge);
    fake_error(request, 401, "UNAUTHORIZED");
    return false;
}

static inline void fake_handle(void *user, struct fl_http_request *request)
{
    struct fake *fake = ((struct rig *)user)->owner;
    const char *authorization = fl_http_header(request, "Authorization");

    (void)pthread_mutex_lock(&fake->lock);
    fake->requests++;
    if (authorization) {
        fake->with_authorization++;
        (void)snprintf(fake->seen_authorization, sizeof(fake->seen_authorization), "%s",
                       authorization);
    }
    if (!(fake->mischief && fake->mischief(fake, request)) && !fake_token(fake, request) &&
        fake_is_welcome(fake, request))
        fake_serve(fake, request);
    (void)pthread_mutex_unlock(&fake->lock);
}

/* --- beginning and end --- */

static inline void fake_own(struct rig *rig, void *user)
{
    rig->owner = user;
}

static inline void fake_start(struct fake *fake, bool tls)
{
    struct fl_http_server_options options = {.handler = fake_handle,
                                             .max_body_bytes = (size_t)64 * 1024 * 1024};

    *fake = (struct fake){0};
    (void)pthread_mutex_init(&fake->lock, NULL);
    fake->blobs = fl_map_create(fake_forget_bytes);
    fake->documents = fl_map_create(fake_forget_document);
    fake->rig = rig_start(&options, tls);
    rig_on_loop(fake->rig, fake_own, fake);
}

static inline void fake_stop(struct fake *fake)
{
    rig_stop(fake->rig);
    fl_map_destroy(fake->blobs);
    fl_map_destroy(fake->documents);
    fl_buf_finish(&fake->upload);
    (void)pthread_mutex_destroy(&fake->lock);
}

static inline void fake_host(const struct fake *fake, char out[64])
{
    (void)snprintf(out, 64, "127.0.0.1:%u", (unsigned)fl_http_server_port(fake->rig->server));
}

/* The mischief, from now on; counters begin anew. */
static inline void fake_misbehave(struct fake *fake, fake_mischief_fn *mischief, int times)
{
    (void)pthread_mutex_lock(&fake->lock);
    fake->mischief = mischief;
    fake->times = times;
    fake->requests = fake->patches = fake->puts = fake->posts = fake->gets = fake->cancels = 0;
    fake->tokens = fake->mounted = fake->refused = fake->with_authorization = 0;
    *fake->seen_authorization = '\0';
    (void)pthread_mutex_unlock(&fake->lock);
}

/* A counter, read while nobody counts. */
static inline int fake_count(struct fake *fake, const int *counter)
{
    int count;

    (void)pthread_mutex_lock(&fake->lock);
    count = *counter;
    (void)pthread_mutex_unlock(&fake->lock);
    return count;
}

/* --- images and folders --- */

struct store {
    struct fl_env env;
    struct fl_blobs *blobs;
    char path[64];
};

static inline void store_open(struct store *store, int64_t max_bytes)
{
    struct fl_blobs_options options = {.env = &store->env, .path = store->path};

    store->env = fl_env_real(NULL);
    (void)snprintf(store->path, sizeof(store->path), "/tmp/flops-test-XXXXXX");
    assert_non_null(mkdtemp(store->path));
    options.max_bytes = max_bytes;
    options.keeps = max_bytes > 0;
    assert_int_equal(fl_blobs_open(&options, &store->blobs, NULL), 0);
}

static inline void store_close(struct store *store)
{
    fl_blobs_close(store->blobs);
    assert_int_equal(fl_dir_remove(store->path, NULL), 0);
}

/* Nothing half-visible: what is there is whole, nothing is under way, nothing is pinned. */
static inline void store_check_clean(struct store *store)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *folder = fl_arena_printf(arena, "%s/new", store->path);
    struct fl_blob_entry *entries;
    size_t count = fl_blobs_list(store->blobs, arena, &entries);
    struct fl_folder_list list;

    for (size_t i = 0; i < count; i++)
        assert_int_equal(fl_blobs_verify(store->blobs, entries[i].digest, NULL), 0);
    assert_int_equal(fl_blobs_stats(store->blobs).pinned, 0);
    assert_int_equal(fl_folder_list(arena, folder, false, 100, &list, NULL), 0);
    assert_int_equal(list.count, 0);
}

static inline struct fl_oci_descriptor store_put(struct store *store, struct fl_arena *arena,
                                                 const char *type, const void *data, size_t len)
{
    char *digest = fl_alloc(arena, FL_DIGEST_SIZE);

    assert_int_equal(fl_blobs_put(store->blobs, data, len, false, digest, NULL), 0);
    return (struct fl_oci_descriptor){.media_type = type, .digest = digest, .size = (int64_t)len};
}

static inline struct fl_oci_descriptor store_document(struct store *store, struct fl_arena *arena,
                                                      const char *type, struct fl_bytes *text)
{
    struct fl_oci_descriptor descriptor = store_put(store, arena, type, text->data, text->len);

    fl_bytes_unref(text);
    return descriptor;
}

/* A layer of `len` bytes that are like no other's. */
static inline struct fl_oci_descriptor store_layer(struct store *store, struct fl_arena *arena,
                                                   size_t len, unsigned seed)
{
    char *data = fl_alloc(arena, len + 1);

    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245 + 12345;
        data[i] = (char)(seed >> 16);
    }
    return store_put(store, arena, FL_OCI_LAYER_GZIP, data, len);
}

/* An image of two layers for a platform. */
static inline struct fl_oci_descriptor store_image(struct store *store, struct fl_arena *arena,
                                                   const char *architecture, size_t len,
                                                   const struct fl_oci_descriptor *subject)
{
    const unsigned seed = 31 * (unsigned)architecture[1] + (unsigned)len;
    struct fl_oci_config config = {.platform = {"linux", architecture, NULL}};
    struct fl_oci_manifest manifest = {.media_type = FL_OCI_MANIFEST};
    struct fl_oci_descriptor *layers = fl_new_array(arena, struct fl_oci_descriptor, 2);
    struct fl_oci_descriptor image;

    layers[0] = store_layer(store, arena, len, seed);
    layers[1] = store_layer(store, arena, 100, 7);
    config.diff_ids.items = fl_new_array(arena, const char *, 2);
    config.diff_ids.count = 2;
    config.diff_ids.items[0] = layers[0].digest;
    config.diff_ids.items[1] = layers[1].digest;
    manifest.config = store_document(store, arena, FL_OCI_CONFIG, fl_oci_config_encode(&config));
    manifest.layers = (struct fl_oci_descriptors){layers, 2};
    if (subject) {
        manifest.has_subject = true;
        manifest.subject = *subject;
        manifest.artifact_type = "application/x.test";
    }
    image = store_document(store, arena, FL_OCI_MANIFEST, fl_oci_manifest_encode(&manifest));
    image.has_platform = true;
    image.platform = config.platform;
    return image;
}

static inline struct fl_oci_descriptor store_index(struct store *store, struct fl_arena *arena,
                                                   struct fl_oci_descriptor *images, size_t count)
{
    const struct fl_oci_manifest index = {
        .is_index = true, .media_type = FL_OCI_INDEX, .layers = {images, count}};

    return store_document(store, arena, FL_OCI_INDEX, fl_oci_manifest_encode(&index));
}

#endif
