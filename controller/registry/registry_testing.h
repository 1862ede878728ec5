/* A registry as the API server serves it, for its tests. */
#ifndef FL_CONTROLLER_REGISTRY_TESTING_H
#define FL_CONTROLLER_REGISTRY_TESTING_H

#include "controller/registry/registry.h"

#include "controller/apiserver/apiserver_testing.h"
#include "controller/apiserver/capability.h"
#include "lib/digest.h"
#include "lib/oci/image.h"

#define GRACE_MS     60000
#define IDLE_MS      30000
#define UPLOADS_MAX  4
#define CONTENTS_MAX 20000000

struct fixture {
    struct rig *rig;
    struct fl_contents *contents;
    struct fl_repositories *repositories;
    struct fl_apiserver_raw raws[2];
    char path[96], index[96];
    unsigned char key[FL_CAPABILITY_KEY_SIZE];
};

static inline void fixture_open(struct fixture *f)
{
    const struct fl_contents_options contents = {
        .env = &f->rig->env, .path = f->path, .max_bytes = CONTENTS_MAX, .grace_ms = GRACE_MS};
    struct fl_repositories_options options = {.env = &f->rig->env,
                                              .path = f->index,
                                              .grace_ms = GRACE_MS,
                                              .upload_idle_ms = IDLE_MS,
                                              .max_uploads = UPLOADS_MAX};
    struct fl_error err = {0};

    if (fl_contents_open(&contents, &f->contents, &err) < 0)
        fail_msg("%s", err.msg);
    options.contents = f->contents;
    if (fl_repositories_open(&options, &f->repositories, &err) < 0)
        fail_msg("%s", err.msg);
    f->raws[0] = fl_contents_raw(f->contents);
    f->raws[1] = fl_repositories_raw(f->repositories);
    f->rig->raws = f->raws;
    f->rig->raw_count = FL_COUNT_OF(f->raws);
    rig_open(f->rig);
}

static inline void fixture_close(struct fixture *f)
{
    rig_on_loop(f->rig, rig_drain);
    assert_int_equal(pthread_join(f->rig->thread, NULL), 0);
    f->rig->running = false;
    fl_apiserver_hang_up(f->rig->server);
    fl_repositories_close(f->repositories);
    fl_contents_close(f->contents);
}

/* As after an end and a new start. */
static inline void fixture_reopen(struct fixture *f)
{
    fixture_close(f);
    rig_close(f->rig);
    fixture_open(f);
}

static inline int fixture_set_up(void **state)
{
    struct fixture *f = fl_calloc(1, sizeof(*f));

    f->rig = rig_create("faulty-memory");
    f->rig->capability_key = f->key;
    memset(f->key, 7, sizeof(f->key));
    (void)snprintf(f->path, sizeof(f->path), "%s/content", f->rig->folder);
    (void)snprintf(f->index, sizeof(f->index), "%s/registry.db", f->rig->folder);
    fixture_open(f);
    *state = f;
    return 0;
}

static inline int fixture_tear_down(void **state)
{
    struct fixture *f = *state;
    void *rig = f->rig;
    int r;

    fixture_close(f);
    assert_int_equal(fl_dir_remove(f->path, NULL), 0);
    assert_int_equal(unlink(f->index), 0); /* its log is gone: it was closed */
    r = rig_teardown(&rig);
    free(f);
    return r;
}

/* The client. Arguments are formats for short texts. */

static inline struct answer send_to(struct fixture *f, enum who who, const char *method,
                                    const char *target, const char *headers, const char *body)
{
    return rig_ask(f->rig, &(struct ask){.who = who,
                                         .method = method,
                                         .target = target,
                                         .type = "application/octet-stream",
                                         .headers = headers,
                                         .body = body});
}

static inline struct answer send_as_admin(struct fixture *f, const char *method, const char *target,
                                          const char *body)
{
    return send_to(f, ADMIN, method, target, NULL, body);
}

static inline const char *digest_of(struct fixture *f, const char *text)
{
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(text, strlen(text), digest);
    return fl_arena_strdup(f->rig->arena, digest);
}

static inline const char *header_of(struct fixture *f, struct answer answer, const char *name)
{
    const char *at = strstr(answer.headers, format(f->rig, "\r\n%s: ", name)), *end;

    if (!at)
        return NULL;
    at += strlen(name) + 4;
    end = strstr(at, "\r\n");
    return fl_arena_strndup(f->rig->arena, at, (size_t)(end - at));
}

static inline void assert_header(struct fixture *f, struct answer answer, const char *name,
                                 const char *value)
{
    const char *found = header_of(f, answer, name);

    if (!fl_streq(found, value))
        fail_msg("%s is %s, not %s, in %s", name, fl_str_or(found, "absent"),
                 fl_str_or(value, "absent"), answer.headers);
}

/* An error of the specification, with these words in it. */
static inline void assert_failed(struct answer answer, int status, const char *code,
                                 const char *words)
{
    const json_t *error = json_array_get(json_object_get(answer.body, "errors"), 0);

    assert_answer(answer, status);
    assert_string_equal(fl_str_or(fl_json_str(error, "code"), ""), code);
    if (!strstr(fl_str_or(fl_json_str(error, "message"), ""), words))
        fail_msg("\"%s\" is not in: %s", words, answer.text);
}

static inline const char *open_upload(struct fixture *f, const char *repository)
{
    struct answer answer =
        send_as_admin(f, "POST", format(f->rig, "/v2/%s/blobs/uploads/", repository), NULL);

    assert_answer(answer, 202);
    return header_of(f, answer, "Location");
}

/* Puts a blob at once. Its digest. */
static inline const char *push_blob(struct fixture *f, const char *repository, const char *text)
{
    const char *digest = digest_of(f, text);

    assert_answer(
        send_as_admin(f, "POST",
                      format(f->rig, "/v2/%s/blobs/uploads/?digest=%s", repository, digest), text),
        201);
    return digest;
}

#define look(f, fmt, repository, name)                                                             \
    send_as_admin(f, "GET", format((f)->rig, fmt, repository, name), NULL)
#define BLOB     "/v2/%s/blobs/%s"
#define MANIFEST "/v2/%s/manifests/%s"

static inline const char *descriptor(struct fixture *f, const char *type, const char *text)
{
    return format(f->rig, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}", type,
                  digest_of(f, text), strlen(text));
}

/* A manifest of a config and a layer with these texts; `more`: further members. */
static inline const char *image(struct fixture *f, const char *config, const char *layer,
                                const char *more)
{
    return format(f->rig,
                  "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":%s,\"layers\":[%s]%s}",
                  FL_OCI_MANIFEST, descriptor(f, FL_OCI_CONFIG, config),
                  descriptor(f, FL_OCI_LAYER_GZIP, layer), more);
}

static inline struct answer put_manifest(struct fixture *f, const char *repository,
                                         const char *reference, const char *type, const char *text)
{
    return rig_ask(f->rig, &(struct ask){.who = ADMIN,
                                         .method = "PUT",
                                         .target = format(f->rig, MANIFEST, repository, reference),
                                         .type = type,
                                         .body = text});
}

/* A whole image under a tag (NULL: by its digest); its manifest. */
static inline const char *push_image(struct fixture *f, const char *repository, const char *tag,
                                     const char *name, const char *more)
{
    const char *config = format(f->rig, "{\"config\":\"%s\"}", name);
    const char *layer = format(f->rig, "layer of %s", name);
    const char *text = image(f, config, layer, more);

    (void)push_blob(f, repository, config);
    (void)push_blob(f, repository, layer);
    assert_answer(
        put_manifest(f, repository, tag ? tag : digest_of(f, text), FL_OCI_MANIFEST, text), 201);
    return text;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

#endif
