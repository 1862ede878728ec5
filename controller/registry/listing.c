/* Lists: repositories, tags, and what refers to a manifest; page by page. */
#include "controller/registry/internal.h"

#include "lib/str.h"

#define PAGE_MAX           1000
#define REFERRERS_MAX      100
#define REFERRERS_MAX_SIZE FL_OCI_MANIFEST_MAX

static const char *param(const struct fl_repos_call *call, const char *name)
{
    return fl_repos_param(call->arena, fl_http_query(call->http), name);
}

/* How many are wanted; what is more than a page is a page. */
static int page_size(const struct fl_repos_call *call, size_t *ret_max, struct fl_error *err)
{
    const char *text = param(call, "n");
    int64_t n = PAGE_MAX;

    if (text && !fl_str_to_int64(text, 0, INT64_MAX, &n))
        return fl_error_set(err, FL_E_BAD_REQUEST, "n=%.40s is no number", text);
    *ret_max = n < PAGE_MAX ? (size_t)n : PAGE_MAX;
    return 0;
}

static void link_next(struct fl_repos_call *call, const char *last, const char *more)
{
    fl_http_set_header(call->http, "Link",
                       fl_arena_printf(call->arena, "<%s?%slast=%s>; rel=\"next\"",
                                       fl_http_path(call->http), more,
                                       fl_url_encode(call->arena, last)));
}

static json_t *names_json(const struct fl_repos_names *names)
{
    json_t *list = json_array();

    for (size_t i = 0; i < names->count; i++)
        (void)json_array_append_new(list, json_string(names->items[i]));
    return list;
}

static void answer_names(struct fl_repos_call *call, const struct fl_repos_names *names, size_t max,
                         const json_t *value)
{
    if (names->more && names->count > 0)
        link_next(call, names->items[names->count - 1],
                  fl_arena_printf(call->arena, "n=%zu&", max));
    fl_repos_answer_json(call->raw, "application/json", value);
}

static void list_tags(struct fl_repos_call *call)
{
    struct fl_repos_names names;
    struct fl_error err = {0};
    FL_JSON value = NULL;
    size_t max;
    int r = page_size(call, &max, &err);

    if (r == 0)
        r = fl_repos_index_tags(call->repositories->index, call->arena, call->path.repository,
                                fl_str_or(param(call, "last"), ""), max, &names, &err);
    if (r < 0) {
        fl_repos_refuse(call->raw, &err, &fl_repos_name_words);
        return;
    }
    value = json_pack("{s:s, s:o}", "name", call->path.repository, "tags", names_json(&names));
    answer_names(call, &names, max, value);
}

static void list_repositories(struct fl_repos_call *call)
{
    struct fl_repos_names names;
    struct fl_error err = {0};
    FL_JSON value = NULL;
    size_t max;
    int r = page_size(call, &max, &err);

    if (r == 0)
        r = fl_repos_index_repositories(call->repositories->index, call->arena,
                                        fl_str_or(param(call, "last"), ""), max, &names, &err);
    if (r < 0) {
        fl_repos_refuse(call->raw, &err, &fl_repos_name_words);
        return;
    }
    value = json_pack("{s:o}", "repositories", names_json(&names));
    answer_names(call, &names, max, value);
}

void fl_repos_tags_serve(struct fl_repos_call *call)
{
    if (fl_repos_reads(call))
        list_tags(call);
    else
        fl_repos_refuse_method(call->raw, "GET, HEAD");
}

void fl_repos_catalog_serve(struct fl_repos_call *call)
{
    if (fl_repos_reads(call))
        list_repositories(call);
    else
        fl_repos_refuse_method(call->raw, "GET, HEAD");
}

/* Referrers: an index of descriptors, with the annotations that the manifests have. */

static json_t *referrer_json(const struct fl_repos_manifest *manifest)
{
    static const struct fl_json_limits limits = {.max_bytes = 2 * FL_OCI_MANIFEST_MAX};
    json_t *value = json_pack("{s:s, s:s, s:I}", "mediaType", manifest->media_type, "digest",
                              manifest->digest, "size", (json_int_t)manifest->size);
    json_t *annotations;

    fl_json_set_str(value, "artifactType", manifest->artifact_type);
    if (manifest->annotations && fl_json_parse(manifest->annotations, strlen(manifest->annotations),
                                               &limits, NULL, NULL, &annotations, NULL) == 0)
        (void)json_object_set_new(value, "annotations", annotations);
    return value;
}

/* As many as an answer may hold, but one at least. */
static size_t fitting(const struct fl_repos_referrers *referrers)
{
    size_t bytes = 0, count = 0;

    while (count < referrers->count && (count == 0 || bytes < REFERRERS_MAX_SIZE)) {
        const char *annotations = referrers->items[count++].annotations;

        bytes += annotations ? strlen(annotations) : 0;
    }
    return count > 1 && bytes >= REFERRERS_MAX_SIZE ? count - 1 : count;
}

static void answer_referrers(struct fl_repos_call *call, const struct fl_repos_referrers *referrers,
                             const char *type)
{
    size_t count = fitting(referrers);
    FL_JSON value =
        json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType", FL_OCI_INDEX, "manifests");
    json_t *list = json_object_get(value, "manifests");

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, referrer_json(&referrers->items[i]));
    if (type)
        fl_http_set_header(call->http, "OCI-Filters-Applied", "artifactType");
    if (count > 0 && (referrers->more || count < referrers->count))
        link_next(call, referrers->items[count - 1].digest,
                  type ? fl_arena_printf(call->arena, "artifactType=%s&",
                                         fl_url_encode(call->arena, type))
                       : "");
    fl_repos_answer_json(call->raw, FL_OCI_INDEX, value);
}

static void list_referrers(struct fl_repos_call *call)
{
    const char *type = param(call, "artifactType");
    struct fl_repos_referrers referrers;
    struct fl_error err = {0};
    int r = 0;

    if (!fl_digest_is_valid(call->path.reference))
        r = fl_error_set(&err, FL_E_INVALID, "\"%.80s\" is no digest", call->path.reference);
    if (r == 0)
        r = fl_repos_index_referrers(call->repositories->index, call->arena, call->path.repository,
                                     call->path.reference, type, fl_str_or(param(call, "last"), ""),
                                     REFERRERS_MAX, &referrers, &err);
    if (r < 0)
        fl_repos_refuse(call->raw, &err, &fl_repos_blob_words);
    else
        answer_referrers(call, &referrers, type);
}

void fl_repos_referrers_serve(struct fl_repos_call *call)
{
    if (fl_repos_reads(call))
        list_referrers(call);
    else
        fl_repos_refuse_method(call->raw, "GET, HEAD");
}
