#include "lib/oci/registry.h"

#include "lib/oci/registry_internal.h"
#include "lib/str.h"

#include <assert.h>

#define MIB        (INT64_C(1) << 20)
#define TOTAL_MS   (INT64_C(30) * 60 * 1000)
#define QUIET_MS   INT64_C(60000)
#define NAMES_MAX  ((size_t)100000)
#define ANSWER_MAX (FL_OCI_MANIFEST_MAX + 1) /* so that one byte more is seen */
#define ACCEPT_MANIFEST                                                                            \
    "Accept: " FL_OCI_INDEX ", " FL_OCI_MANIFEST ", " FL_DOCKER_LIST ", " FL_DOCKER_MANIFEST

/* --- opening --- */

static char *copy_or_null(const char *text)
{
    return text ? fl_strdup(text) : NULL;
}

static const char *keep(struct fl_registry *registry, const char *text)
{
    return text ? fl_arena_strdup(registry->arena, text) : NULL;
}

static void copy_options(struct fl_registry *registry, const struct fl_registry_options *options)
{
    registry->env = options->env;
    registry->username = copy_or_null(options->username);
    registry->password = fl_strdup(fl_str_or(options->password, ""));
    registry->bearer = copy_or_null(options->bearer_token);
    registry->token_host = keep(registry, options->token_host);
    registry->total_ms = options->total_ms > 0 ? options->total_ms : TOTAL_MS;
    registry->quiet_ms = options->quiet_ms > 0 ? options->quiet_ms : QUIET_MS;
    registry->chunk_bytes = options->chunk_bytes > 0 ? options->chunk_bytes : 16 * MIB;
    registry->backoff_ms = options->backoff_ms > 0 ? options->backoff_ms : 250;
    registry->tries = options->tries > 0 ? options->tries : 5;
}

static int check_options(const struct fl_registry_options *options, struct fl_error *err)
{
    const char *const texts[] = {options->username, options->password, options->bearer_token};

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        for (const char *c = texts[i]; c && *c; c++)
            if ((unsigned char)*c < ' ' || *c == 0x7F)
                return fl_error_set(err, FL_E_BAD_REQUEST,
                                    "control character in a name, password or token");
    if (options->username && strchr(options->username, ':'))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a user name has no ':'");
    return 0;
}

static int open_own(struct fl_registry *registry, const struct fl_registry_options *options,
                    struct fl_error *err)
{
    const char *url = fl_arena_printf(registry->arena, "%s://%s",
                                      options->plain_http ? "http" : "https", options->host);

    if (strpbrk(options->host, "/?#@") ||
        !fl_registry_url_parse(registry->arena, url, &registry->base))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%.200s\" is no host and port", options->host);
    registry->name = keep(registry, options->host);
    registry->http = (struct fl_http_client_options){
        .base_url = fl_registry_url_origin(registry->arena, &registry->base),
        .ca_pem = keep(registry, options->ca_pem),
        .cert_pem = options->cert_pem,
        .key_pem = options->key_pem,
        .user_agent = keep(registry, options->user_agent),
        .insecure = options->insecure,
        .max_response_bytes = ANSWER_MAX};
    int r = fl_http_client_create(&registry->http, &registry->own, err);

    registry->http.cert_pem = registry->http.key_pem = NULL; /* nobody else's, and not kept */
    return r;
}

int fl_registry_open(const struct fl_registry_options *options, struct fl_registry **ret_registry,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_registry_closep) struct fl_registry *registry = NULL;
    int r = check_options(options, err);

    assert(options->env && options->host);

    if (r < 0)
        return r;
    registry = fl_calloc(1, sizeof(*registry));
    registry->arena = fl_arena_create();
    registry->lock = fl_lock_create();
    registry->wake = fl_signal_create();
    copy_options(registry, options);
    r = open_own(registry, options, err);
    if (r < 0)
        return r;
    *ret_registry = FL_TAKE(registry);
    return 0;
}

static void wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void fl_registry_close(struct fl_registry *registry)
{
    if (!registry)
        return;
    fl_http_client_destroy(registry->own);
    fl_http_client_destroy(registry->other);
    fl_registry_forget_tokens(registry);
    wipe(registry->username);
    wipe(registry->password);
    wipe(registry->bearer);
    fl_signal_destroy(registry->wake);
    fl_lock_destroy(registry->lock);
    fl_arena_destroy(registry->arena);
    free(registry);
}

/* --- manifests --- */

static const char *manifest_target(struct fl_registry_job *job, const char *repository,
                                   const char *reference)
{
    return fl_arena_printf(job->arena, "/v2/%s/manifests/%s", repository, reference);
}

/* "application/json; charset=utf-8" without its parameters. */
static const char *media_type_of(struct fl_registry_job *job,
                                 const struct fl_registry_answer *answer)
{
    const char *type = fl_registry_header(job, answer, "Content-Type");
    size_t len = type ? strcspn(type, "; \t") : 0;

    return len > 0 ? fl_arena_strndup(job->arena, type, len) : NULL;
}

static int check_digest(const char *reference, const char *said, const char *found,
                        struct fl_error *err)
{
    if (fl_digest_is_valid(reference) && !fl_streq(reference, found))
        return fl_error_set(err, FL_E_INVALID, "what came for %s is %s", reference, found);
    if (said && fl_digest_is_valid(said) && !fl_streq(said, found))
        return fl_error_set(err, FL_E_INVALID, "it was said to be %s and is %s", said, found);
    return 0;
}

int fl_registry_get_manifest(struct fl_registry_job *job, const char *repository,
                             const char *reference, struct fl_registry_document *ret_document,
                             struct fl_error *err)
{
    struct fl_registry_request request =
        fl_registry_request_for(job, "GET", manifest_target(job, repository, reference),
                                fl_registry_scope(job, repository, "pull"));
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r;

    fl_registry_add_header(&request, ACCEPT_MANIFEST);
    r = fl_registry_ask(job, &request, &answer, err);
    if (r == 0 && answer.status != 200)
        r = fl_registry_refused(job, &answer, err);
    if (r == 0 && answer.body->len > FL_OCI_MANIFEST_MAX)
        r = fl_error_set(err, FL_E_TOO_LARGE, "the manifest has more than %zu bytes",
                         FL_OCI_MANIFEST_MAX);
    if (r < 0)
        return r;
    fl_digest_of(answer.body->data, answer.body->len, ret_document->digest);
    r = check_digest(reference, fl_registry_header(job, &answer, "Docker-Content-Digest"),
                     ret_document->digest, err);
    if (r < 0)
        return r;
    ret_document->media_type = media_type_of(job, &answer);
    ret_document->text = FL_TAKE(answer.body);
    return 0;
}

int fl_registry_put_manifest(struct fl_registry_job *job, const char *repository,
                             const char *reference, const char *media_type,
                             const struct fl_bytes *text, bool *ret_knows_subject,
                             struct fl_error *err)
{
    struct fl_registry_request request =
        fl_registry_request_for(job, "PUT", manifest_target(job, repository, reference),
                                fl_registry_scope(job, repository, "pull,push"));
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r;

    fl_registry_add_header(&request, fl_arena_printf(job->arena, "Content-Type: %s", media_type));
    request.body = text->data;
    request.body_len = text->len;
    request.counted = true;
    r = fl_registry_ask(job, &request, &answer, err);
    if (r == 0 && answer.status != 201 && answer.status != 200)
        r = fl_registry_refused(job, &answer, err);
    if (r == 0)
        *ret_knows_subject = fl_registry_header(job, &answer, "OCI-Subject") != NULL;
    return r;
}

int fl_registry_is_there(struct fl_registry_job *job, const char *repository, const char *kind,
                         const char *digest, const char *scope, struct fl_error *err)
{
    struct fl_registry_request request = fl_registry_request_for(
        job, "HEAD", fl_arena_printf(job->arena, "/v2/%s/%s/%s", repository, kind, digest), scope);
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r;

    fl_registry_add_header(&request, fl_streq(kind, "manifests") ? ACCEPT_MANIFEST : "Accept: */*");
    r = fl_registry_ask(job, &request, &answer, err);
    if (r < 0)
        return r;
    if (answer.status == 200)
        return 1;
    return answer.status == 404 ? 0 : fl_registry_refused(job, &answer, err);
}

/* --- resolving --- */

static int64_t content_length(struct fl_registry_job *job, const struct fl_registry_answer *answer)
{
    const char *text = fl_registry_header(job, answer, "Content-Length");
    int64_t size = -1;

    return text && fl_str_to_int64(text, 0, FL_OCI_MANIFEST_MAX, &size) ? size : -1;
}

/* > 0: the headers say all that is to be known. */
static int resolve_by_head(struct fl_registry_job *job, const struct fl_image_reference *reference,
                           struct fl_arena *arena, struct fl_oci_descriptor *ret_manifest,
                           struct fl_error *err)
{
    const char *named = fl_str_or(reference->digest, reference->tag), *digest, *type;
    struct fl_registry_request request =
        fl_registry_request_for(job, "HEAD", manifest_target(job, reference->repository, named),
                                fl_registry_scope(job, reference->repository, "pull"));
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int64_t size;
    int r;

    fl_registry_add_header(&request, ACCEPT_MANIFEST);
    r = fl_registry_ask(job, &request, &answer, err);
    if (r < 0)
        return r;
    if (answer.status != 200)
        return answer.status == 405 ? 0 : fl_registry_refused(job, &answer, err);
    digest = fl_registry_header(job, &answer, "Docker-Content-Digest");
    type = media_type_of(job, &answer);
    size = content_length(job, &answer);
    if (!digest || !type || size < 0 || !fl_digest_is_valid(digest) ||
        (reference->digest && !fl_streq(reference->digest, digest)))
        return 0;
    *ret_manifest = (struct fl_oci_descriptor){.media_type = fl_arena_strdup(arena, type),
                                               .digest = fl_arena_strdup(arena, digest),
                                               .size = size};
    return 1;
}

static int get_and_parse(struct fl_registry_job *job, const struct fl_image_reference *reference,
                         struct fl_arena *arena, struct fl_oci_descriptor *ret_descriptor,
                         struct fl_oci_manifest *ret_manifest, struct fl_error *err)
{
    struct fl_registry_document document = {0};
    int r = fl_registry_get_manifest(job, reference->repository,
                                     fl_str_or(reference->digest, reference->tag), &document, err);

    if (r < 0)
        return r;
    r = fl_oci_manifest_parse(arena, document.text->data, document.text->len, document.media_type,
                              ret_manifest, err);
    if (r == 0)
        *ret_descriptor = fl_oci_describe(arena, ret_manifest->media_type, document.text);
    fl_bytes_unref(document.text);
    return r;
}

/* Adds to an error where it was. */
static int where(const struct fl_registry *registry, const struct fl_image_reference *reference,
                 int r, struct fl_error *err)
{
    if (r >= 0)
        return 0;
    (void)fl_error_wrap(err, "%s/%s%s%s", registry->name, reference->repository,
                        reference->digest ? "@" : ":",
                        fl_str_or(reference->digest, reference->tag));
    return r;
}

int fl_registry_resolve(struct fl_registry *registry, const struct fl_image_reference *reference,
                        struct fl_arena *arena, struct fl_oci_descriptor *ret_manifest,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, NULL, own);
    struct fl_oci_manifest manifest;
    int r;

    assert(reference->tag || reference->digest);

    r = resolve_by_head(&job, reference, arena, ret_manifest, err);
    if (r == 0)
        r = get_and_parse(&job, reference, arena, ret_manifest, &manifest, err);
    return where(registry, reference, r, err);
}

int fl_registry_manifest(struct fl_registry *registry, const struct fl_image_reference *reference,
                         struct fl_arena *arena, struct fl_oci_descriptor *ret_descriptor,
                         struct fl_oci_manifest *ret_manifest, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, NULL, own);
    int r;

    assert(reference->tag || reference->digest);

    r = get_and_parse(&job, reference, arena, ret_descriptor, ret_manifest, err);
    return where(registry, reference, r, err);
}

static int get_small(struct fl_registry_job *job, const char *repository,
                     const struct fl_oci_descriptor *blob, struct fl_registry_answer *answer,
                     struct fl_error *err)
{
    const struct fl_registry_request request = fl_registry_request_for(
        job, "GET", fl_arena_printf(job->arena, "/v2/%s/blobs/%s", repository, blob->digest),
        fl_registry_scope(job, repository, "pull"));
    char found[FL_DIGEST_SIZE];
    int r;

    if (blob->size > (int64_t)FL_OCI_MANIFEST_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "it has more than %zu bytes", FL_OCI_MANIFEST_MAX);
    r = fl_registry_ask(job, &request, answer, err);
    if (r == 0 && answer->status != 200)
        r = fl_registry_refused(job, answer, err);
    if (r < 0)
        return r;
    fl_digest_of(answer->body->data, answer->body->len, found);
    return check_digest(blob->digest, NULL, found, err);
}

int fl_registry_small_blob(struct fl_registry *registry, const char *repository,
                           const struct fl_oci_descriptor *blob, struct fl_bytes **ret_content,
                           struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, NULL, own);
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r = get_small(&job, repository, blob, &answer, err);

    if (r < 0) {
        (void)fl_error_wrap(err, "%s/%s: %s", registry->name, repository, blob->digest);
        return r;
    }
    *ret_content = FL_TAKE(answer.body);
    return 0;
}

/* --- lists --- */

struct names {
    const char *field; /* "tags" */
    bool (*is_valid)(const char *text);
    struct fl_arena *arena;
    struct fl_oci_texts found;
};

static int add_names(struct names *names, const struct fl_registry_answer *answer,
                     struct fl_error *err)
{
    struct fl_oci_texts *found = &names->found;
    FL_JSON value = NULL;
    const json_t *list;
    const char **items;
    int r = fl_json_parse(answer->body->data, answer->body->len, NULL, NULL, NULL, &value, err);

    if (r < 0) {
        (void)fl_error_wrap(err, "list of %s", names->field);
        return r;
    }
    list = json_object_get(value, names->field); /* null where the last tag was removed */
    if (found->count + json_array_size(list) > NAMES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "there are more than %zu %s", NAMES_MAX,
                            names->field);
    items = fl_new_array(names->arena, const char *, found->count + json_array_size(list) + 1);
    if (found->count > 0)
        memcpy(items, found->items, found->count * sizeof(*items));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (name && names->is_valid(name))
            items[found->count++] = fl_arena_strdup(names->arena, name);
    }
    found->items = items;
    return 0;
}

/* Where the next page is; NULL: this was the last. */
static int next_page(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                     struct fl_registry_url *url, bool *ret_more, struct fl_error *err)
{
    const char *link = fl_registry_header(job, answer, "Link");

    link = link ? fl_registry_next_link(job->arena, link) : NULL;
    *ret_more = link != NULL;
    if (!link)
        return 0;
    if (!fl_registry_url_resolve(job->arena, &answer->url, link, url) ||
        !fl_registry_url_same_origin(url, &job->registry->base))
        return fl_error_set(err, FL_E_INVALID, "its list goes on at another host");
    return 0;
}

int fl_registry_pages(struct fl_registry_job *job, struct fl_registry_request *request,
                      fl_registry_page_fn *page, void *user, struct fl_error *err)
{
    for (size_t i = 0; i < FL_REGISTRY_PAGES_MAX; i++) {
        FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
        bool more = false;
        int r = fl_registry_ask(job, request, &answer, err);

        if (r == 0 && answer.status != 200)
            r = fl_registry_refused(job, &answer, err);
        if (r == 0)
            r = page(user, job, &answer, err);
        if (r == 0)
            r = next_page(job, &answer, &request->url, &more, err);
        if (r < 0 || !more)
            return r;
    }
    return fl_error_set(err, FL_E_TOO_LARGE, "the list has more than %d pages",
                        FL_REGISTRY_PAGES_MAX);
}

static int on_names(void *user, struct fl_registry_job *job,
                    const struct fl_registry_answer *answer, struct fl_error *err)
{
    (void)job;
    return add_names(user, answer, err);
}

static int list_names(struct fl_registry *registry, const char *target, const char *repository,
                      struct names *names, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, NULL, own);
    struct fl_registry_request request = fl_registry_request_for(
        &job, "GET", target,
        repository ? fl_registry_scope(&job, repository, "pull") : "registry:catalog:*");

    return fl_registry_pages(&job, &request, on_names, names, err);
}

int fl_registry_tags(struct fl_registry *registry, const char *repository, struct fl_arena *arena,
                     struct fl_oci_texts *ret_tags, struct fl_error *err)
{
    struct names names = {.field = "tags", .is_valid = fl_oci_tag_is_valid, .arena = arena};
    int r = list_names(registry, fl_arena_printf(arena, "/v2/%s/tags/list?n=1000", repository),
                       repository, &names, err);

    if (r < 0) {
        (void)fl_error_wrap(err, "%s/%s", registry->name, repository);
        return r;
    }
    *ret_tags = names.found;
    return 0;
}

int fl_registry_repositories(struct fl_registry *registry, struct fl_arena *arena,
                             struct fl_oci_texts *ret_names, struct fl_error *err)
{
    struct names names = {
        .field = "repositories", .is_valid = fl_oci_repository_is_valid, .arena = arena};
    int r = list_names(registry, "/v2/_catalog?n=1000", NULL, &names, err);

    if (r < 0) {
        (void)fl_error_wrap(err, "%s", registry->name);
        return r;
    }
    *ret_names = names.found;
    return 0;
}

/* --- deleting --- */

int fl_registry_delete(struct fl_registry *registry, const char *repository, const char *reference,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    struct fl_registry_job job = fl_registry_begin(registry, NULL, own);
    const struct fl_registry_request request =
        fl_registry_request_for(&job, "DELETE", manifest_target(&job, repository, reference),
                                fl_registry_scope(&job, repository, "pull,delete"));
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    int r = fl_registry_ask(&job, &request, &answer, err);

    if (r == 0 && answer.status != 404 && (answer.status < 200 || answer.status >= 300))
        r = fl_registry_refused(&job, &answer, err);
    if (r < 0)
        (void)fl_error_wrap(err, "%s/%s", registry->name, repository);
    return r;
}
