#include "controller/registry/path.h"

#include "lib/oci/reference.h"
#include "lib/str.h"

#include <string.h>
#include <strings.h>

#define PREFIX "/v2/"

/* What stands behind the repository's name, the longest first. */
static const struct {
    const char *word;
    enum fl_repos_route route;
} routes[] = {
    {"/blobs/uploads/", FL_REPOS_UPLOAD},
    {"/blobs/", FL_REPOS_BLOB},
    {"/manifests/", FL_REPOS_MANIFEST},
    {"/referrers/", FL_REPOS_REFERRERS},
};

static int no_route(struct fl_error *err)
{
    return fl_error_set(err, FL_E_NOT_FOUND, "the registry serves nothing here");
}

static int take_repository(struct fl_arena *arena, const char *name, size_t len,
                           struct fl_repos_path *path, struct fl_error *err)
{
    const char *repository = fl_arena_strndup(arena, name, len);

    if (!fl_oci_repository_is_valid(repository))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%.100s\" is no name of a repository",
                            repository);
    path->repository = repository;
    return 0;
}

/* `word` without its last character at the end of `rest`. */
static bool ends_as(const char *rest, const char *word, size_t *ret_len)
{
    size_t len = strlen(rest), word_len = strlen(word) - 1;

    if (len < word_len || strncmp(rest + len - word_len, word, word_len) != 0)
        return false;
    *ret_len = len - word_len;
    return true;
}

static bool find_uploads(const char *rest, size_t *ret_len)
{
    if (fl_str_has_suffix(rest, "/blobs/uploads/")) {
        *ret_len = strlen(rest) - strlen("/blobs/uploads/");
        return true;
    }
    return ends_as(rest, "/blobs/uploads/", ret_len);
}

/* The last segment and the word before it say what is meant; a repository may have such words in
 * its own name. */
static int parse_reference(struct fl_arena *arena, const char *rest, struct fl_repos_path *path,
                           struct fl_error *err)
{
    const char *last = strrchr(rest, '/');

    for (size_t i = 0; last && i < FL_COUNT_OF(routes); i++) {
        size_t word_len = strlen(routes[i].word), before = (size_t)(last + 1 - rest);

        if (before < word_len || strncmp(last + 1 - word_len, routes[i].word, word_len) != 0)
            continue;
        path->route = routes[i].route;
        path->reference = fl_url_decode(arena, last + 1, strlen(last + 1), false);
        if (!path->reference)
            return fl_error_set(err, FL_E_BAD_REQUEST, "malformed escape in the path");
        return take_repository(arena, rest, before - word_len, path, err);
    }
    return no_route(err);
}

int fl_repos_path_parse(struct fl_arena *arena, const char *path, struct fl_repos_path *ret_path,
                        struct fl_error *err)
{
    struct fl_repos_path found = {0};
    const char *rest = path + strlen(PREFIX);
    size_t len;
    int r = 0;

    if (!fl_str_has_prefix(path, PREFIX))
        return no_route(err);
    if (!*rest) {
        found.route = FL_REPOS_BASE;
    } else if (strcmp(rest, "_catalog") == 0) {
        found.route = FL_REPOS_CATALOG;
    } else if (fl_str_has_suffix(rest, "/tags/list")) {
        found.route = FL_REPOS_TAGS;
        r = take_repository(arena, rest, strlen(rest) - strlen("/tags/list"), &found, err);
    } else if (find_uploads(rest, &len)) {
        found.route = FL_REPOS_UPLOADS;
        r = take_repository(arena, rest, len, &found, err);
    } else {
        r = parse_reference(arena, rest, &found, err);
    }
    if (r == 0)
        *ret_path = found;
    return r;
}

const char *fl_repos_param(struct fl_arena *arena, const char *query, const char *name)
{
    const size_t name_len = strlen(name);

    while (*query) {
        size_t len = strcspn(query, "&");

        if (len > name_len && query[name_len] == '=' && strncmp(query, name, name_len) == 0)
            return fl_url_decode(arena, query + name_len + 1, len - name_len - 1, true);
        query += len;
        query += *query == '&';
    }
    return NULL;
}

static bool take_number(const char **at, int64_t *ret_number)
{
    size_t len = strspn(*at, "0123456789");
    char text[24];

    if (len == 0 || len >= sizeof(text))
        return false;
    memcpy(text, *at, len);
    text[len] = '\0';
    *at += len;
    return fl_str_to_int64(text, 0, INT64_MAX - 1, ret_number);
}

bool fl_repos_range_parse(const char *header, int64_t *ret_first, int64_t *ret_last)
{
    const char *at = header;
    int64_t first, last;

    if (strncasecmp(at, "bytes", 5) == 0)
        at += 5 + (at[5] == ' ' || at[5] == '=');
    if (!take_number(&at, &first) || *at++ != '-' || !take_number(&at, &last) || first > last ||
        (*at && *at != '/'))
        return false;
    *ret_first = first;
    *ret_last = last;
    return true;
}

/* One clause, without its parameters: the type itself, its part before the slash, or all. */
static bool clause_takes(const char *clause, size_t len, const char *media_type)
{
    size_t main_len = strcspn(media_type, "/") + 1;

    if (len == 3 && strncmp(clause, "*/*", 3) == 0)
        return true;
    if (len == main_len + 1 && clause[len - 1] == '*')
        return strncasecmp(clause, media_type, main_len) == 0;
    return len == strlen(media_type) && strncasecmp(clause, media_type, len) == 0;
}

bool fl_repos_accepts(const char *header, const char *media_type)
{
    if (!header || !*header)
        return true;
    while (*header) {
        size_t len;

        header += strspn(header, " \t,");
        len = strcspn(header, ",; \t");
        if (len > 0 && clause_takes(header, len, media_type))
            return true;
        header += strcspn(header, ",");
    }
    return false;
}
