/* What changes the index. */
#include "controller/registry/index_internal.h"

#include "lib/str.h"

#define REPOSITORIES_MAX 65536

#define OF_REPOSITORY "(SELECT id FROM repository WHERE name = ?1)"

static int ensure_repository(struct fl_repos_index *index, const char *name, int64_t *ret_id,
                             struct fl_error *err)
{
    struct fl_index_connection *writer = &index->writer;
    int64_t count = 0;
    int r =
        FL_FIND(writer, ret_id, err, "SELECT id FROM repository WHERE name = ?1", FL_TEXT(name));

    if (r != 0)
        return r < 0 ? r : 0;
    r = fl_index_number(writer, &count, err, "SELECT count(*) FROM repository", NULL, 0);
    if (r < 0)
        return r;
    if (count >= REPOSITORIES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "there are %d repositories already",
                            REPOSITORIES_MAX);
    r = FL_RUN(writer, err, "INSERT INTO repository (name) VALUES (?1)", FL_TEXT(name));
    *ret_id = sqlite3_last_insert_rowid(writer->db);
    return r < 0 ? r : 0;
}

static int insert_blob(struct fl_repos_index *index, const char *repository, const char *digest,
                       int64_t size, struct fl_error *err)
{
    int64_t id = 0;
    int r = ensure_repository(index, repository, &id, err);

    return r < 0 ? r
                 : FL_RUN(&index->writer, err,
                          "INSERT OR REPLACE INTO blob VALUES (?1, ?2, ?3, ?4)", FL_NUMBER(id),
                          FL_TEXT(digest), FL_NUMBER(size), FL_NUMBER(fl_realtime_us(index->env)));
}

int fl_repos_index_add_blob(struct fl_repos_index *index, const char *repository,
                            const char *digest, int64_t size, struct fl_error *err)
{
    int r;

    FL_LOCKED(index->writer.lock);
    r = fl_index_begin(index, err);
    if (r == 0)
        r = insert_blob(index, repository, digest, size, err);
    r = fl_index_end(index, r, err);
    return r < 0 ? r : 0;
}

/* METHOD_NOT_ALLOWED where a manifest of the repository names it. */
static int check_free(struct fl_repos_index *index, const char *repository, const char *digest,
                      bool is_manifest, struct fl_error *err)
{
    FL_STATEMENT stmt = NULL;
    int r = FL_PREPARE(&index->writer, &stmt, err,
                       "SELECT parent FROM link WHERE repository = " OF_REPOSITORY
                       " AND child = ?2 AND is_manifest = ?3 LIMIT 1",
                       FL_TEXT(repository), FL_TEXT(digest), FL_NUMBER(is_manifest));

    if (r == 0)
        r = fl_index_step(&index->writer, stmt, err);
    if (r > 0)
        return fl_error_set(err, FL_E_METHOD_NOT_ALLOWED, "%s is needed: %s names it", digest,
                            fl_index_text(stmt, 0));
    return r;
}

static int missing(const char *what, const char *repository, struct fl_error *err)
{
    return fl_error_set(err, FL_E_NOT_FOUND, "%s is not in %s", what, repository);
}

int fl_repos_index_drop_blob(struct fl_repos_index *index, const char *repository,
                             const char *digest, struct fl_error *err)
{
    int r;

    FL_LOCKED(index->writer.lock);
    r = fl_index_begin(index, err);
    if (r == 0)
        r = check_free(index, repository, digest, false, err);
    if (r == 0)
        r = FL_RUN(&index->writer, err,
                   "DELETE FROM blob WHERE repository = " OF_REPOSITORY " AND digest = ?2",
                   FL_TEXT(repository), FL_TEXT(digest));
    if (r == 0)
        r = missing(digest, repository, err);
    r = fl_index_end(index, r, err);
    return r < 0 ? r : 0;
}

/* Manifests */

bool fl_repos_may_be_missing(const struct fl_oci_descriptor *part)
{
    return strstr(part->media_type, ".nondistributable.") ||
           fl_str_has_suffix(part->media_type, "rootfs.foreign.diff.tar.gzip");
}

static int add_link(struct fl_repos_index *index, int64_t repository, const char *parent,
                    bool is_manifest, const struct fl_oci_descriptor *part, struct fl_error *err)
{
    int64_t size = 0;
    int r = FL_FIND(&index->writer, &size, err,
                    is_manifest ? "SELECT size FROM manifest WHERE repository = ?1 AND digest = ?2"
                                : "SELECT size FROM blob WHERE repository = ?1 AND digest = ?2",
                    FL_NUMBER(repository), FL_TEXT(part->digest));

    if (r < 0 || (r == 0 && fl_repos_may_be_missing(part)))
        return r;
    if (r == 0)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s, which it names, is not in the repository",
                            part->digest);
    if (size != part->size)
        return fl_error_set(err, FL_E_INVALID, "%s has %lld bytes, not %lld", part->digest,
                            (long long)size, (long long)part->size);
    return FL_RUN(&index->writer, err, "INSERT OR IGNORE INTO link VALUES (?1, ?2, ?3, ?4)",
                  FL_NUMBER(repository), FL_TEXT(parent), FL_NUMBER(is_manifest),
                  FL_TEXT(part->digest));
}

static int add_links(struct fl_repos_index *index, int64_t repository, const char *digest,
                     const struct fl_oci_manifest *content, struct fl_error *err)
{
    int r = 0;

    if (!content->is_index)
        r = add_link(index, repository, digest, false, &content->config, err);
    for (size_t i = 0; r >= 0 && i < content->layers.count; i++)
        r = add_link(index, repository, digest, content->is_index, &content->layers.items[i], err);
    return r;
}

static int insert_manifest(struct fl_repos_index *index, int64_t repository,
                           const struct fl_repos_manifest *manifest, struct fl_error *err)
{
    return FL_RUN(&index->writer, err,
                  "INSERT OR REPLACE INTO manifest VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                  FL_NUMBER(repository), FL_TEXT(manifest->digest), FL_TEXT(manifest->media_type),
                  FL_TEXT(manifest->artifact_type), FL_TEXT(manifest->subject),
                  FL_NUMBER(manifest->size), FL_TEXT(manifest->annotations),
                  FL_NUMBER(fl_realtime_us(index->env)));
}

static int set_tag(struct fl_repos_index *index, int64_t repository, const char *tag,
                   const char *digest, struct fl_error *err)
{
    return FL_RUN(&index->writer, err, "INSERT OR REPLACE INTO tag VALUES (?1, ?2, ?3, ?4)",
                  FL_NUMBER(repository), FL_TEXT(tag), FL_TEXT(digest),
                  FL_NUMBER(fl_realtime_us(index->env)));
}

int fl_repos_index_put(struct fl_repos_index *index, const char *repository,
                       const struct fl_repos_manifest *manifest,
                       const struct fl_oci_manifest *content, const char *tag, struct fl_error *err)
{
    int64_t id = 0;
    int r;

    FL_LOCKED(index->writer.lock);
    r = fl_index_begin(index, err);
    if (r == 0)
        r = ensure_repository(index, repository, &id, err);
    if (r == 0)
        r = add_links(index, id, manifest->digest, content, err);
    if (r >= 0)
        r = insert_manifest(index, id, manifest, err);
    if (r >= 0 && tag)
        r = set_tag(index, id, tag, manifest->digest, err);
    r = fl_index_end(index, r, err);
    return r < 0 ? r : 0;
}

static int delete_manifest(struct fl_repos_index *index, const char *repository, const char *digest,
                           struct fl_error *err)
{
    static const char *const others[] = {
        "DELETE FROM link WHERE repository = " OF_REPOSITORY " AND parent = ?2",
        "DELETE FROM tag WHERE repository = " OF_REPOSITORY " AND digest = ?2",
    };
    int r = FL_RUN(&index->writer, err,
                   "DELETE FROM manifest WHERE repository = " OF_REPOSITORY " AND digest = ?2",
                   FL_TEXT(repository), FL_TEXT(digest));

    if (r == 0)
        return missing(digest, repository, err);
    for (size_t i = 0; r >= 0 && i < FL_COUNT_OF(others); i++)
        r = FL_RUN(&index->writer, err, others[i], FL_TEXT(repository), FL_TEXT(digest));
    return r;
}

int fl_repos_index_drop_manifest(struct fl_repos_index *index, const char *repository,
                                 const char *digest, struct fl_error *err)
{
    int r;

    FL_LOCKED(index->writer.lock);
    r = fl_index_begin(index, err);
    if (r == 0)
        r = check_free(index, repository, digest, true, err);
    if (r == 0)
        r = delete_manifest(index, repository, digest, err);
    r = fl_index_end(index, r, err);
    return r < 0 ? r : 0;
}

int fl_repos_index_drop_tag(struct fl_repos_index *index, const char *repository, const char *tag,
                            struct fl_error *err)
{
    int r;

    FL_LOCKED(index->writer.lock);
    r = FL_RUN(&index->writer, err,
               "DELETE FROM tag WHERE repository = " OF_REPOSITORY " AND name = ?2",
               FL_TEXT(repository), FL_TEXT(tag));
    if (r == 0)
        return missing(tag, repository, err);
    return r < 0 ? r : 0;
}
