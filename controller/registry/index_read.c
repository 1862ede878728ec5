/* What is asked of the index: by the connection that waits for no writer. */
#include "controller/registry/index_internal.h"

#include "lib/str.h"

#define OF_REPOSITORY "(SELECT id FROM repository WHERE name = ?1)"
#define COLUMNS       "m.digest, m.media_type, m.size, m.artifact_type, m.subject, m.annotations"

static int missing(const char *what, const char *repository, struct fl_error *err)
{
    return fl_error_set(err, FL_E_NOT_FOUND, "%.200s is not in %s", what, repository);
}

int fl_repos_index_blob(struct fl_repos_index *index, const char *repository, const char *digest,
                        int64_t *ret_size, struct fl_error *err)
{
    int r;

    FL_LOCKED(index->reader.lock);
    r = FL_FIND(&index->reader, ret_size, err,
                "SELECT size FROM blob WHERE repository = " OF_REPOSITORY " AND digest = ?2",
                FL_TEXT(repository), FL_TEXT(digest));
    if (r == 0)
        return missing(digest, repository, err);
    return r < 0 ? r : 0;
}

static struct fl_repos_manifest take_manifest(struct fl_arena *arena, sqlite3_stmt *stmt)
{
    return (struct fl_repos_manifest){
        .digest = fl_index_take_text(arena, stmt, 0),
        .media_type = fl_index_take_text(arena, stmt, 1),
        .size = sqlite3_column_int64(stmt, 2),
        .artifact_type = fl_index_take_text(arena, stmt, 3),
        .subject = fl_index_take_text(arena, stmt, 4),
        .annotations = fl_index_take_text(arena, stmt, 5),
    };
}

int fl_repos_index_manifest(struct fl_repos_index *index, struct fl_arena *arena,
                            const char *repository, const char *reference,
                            struct fl_repos_manifest *ret_manifest, struct fl_error *err)
{
    static const char by_digest[] = "SELECT " COLUMNS " FROM manifest m"
                                    " WHERE m.repository = " OF_REPOSITORY " AND m.digest = ?2";
    static const char by_tag[] = "SELECT " COLUMNS " FROM tag t JOIN manifest m"
                                 " ON m.repository = t.repository AND m.digest = t.digest"
                                 " WHERE t.repository = " OF_REPOSITORY " AND t.name = ?2";
    FL_LOCKED(index->reader.lock); /* first: it is held until the statement has ended */
    FL_STATEMENT stmt = NULL;
    int r;

    r = FL_PREPARE(&index->reader, &stmt, err, strchr(reference, ':') ? by_digest : by_tag,
                   FL_TEXT(repository), FL_TEXT(reference));
    if (r == 0)
        r = fl_index_step(&index->reader, stmt, err);
    if (r == 0)
        r = missing(reference, repository, err);
    if (r > 0)
        *ret_manifest = take_manifest(arena, stmt);
    return r < 0 ? r : 0;
}

/* Takes at most `max` names, and finds out whether there are more: the statement has a limit of one
 * more. */
static int take_names(struct fl_index_connection *reader, struct fl_arena *arena,
                      sqlite3_stmt *stmt, size_t max, struct fl_repos_names *ret_names,
                      struct fl_error *err)
{
    struct fl_repos_names names = {.items = fl_new_array(arena, const char *, max + 1)};
    int r = 0;

    while ((r = fl_index_step(reader, stmt, err)) > 0 && names.count < max)
        names.items[names.count++] = fl_index_take_text(arena, stmt, 0);
    names.more = r > 0;
    *ret_names = names;
    return r < 0 ? r : 0;
}

int fl_repos_index_repositories(struct fl_repos_index *index, struct fl_arena *arena,
                                const char *after, size_t max, struct fl_repos_names *ret_names,
                                struct fl_error *err)
{
    FL_LOCKED(index->reader.lock); /* first: it is held until the statement has ended */
    FL_STATEMENT stmt = NULL;
    int r;

    r = FL_PREPARE(&index->reader, &stmt, err,
                   "SELECT name FROM repository WHERE name > ?1 ORDER BY name LIMIT ?2",
                   FL_TEXT(after), FL_NUMBER((int64_t)max + 1));
    if (r == 0)
        r = take_names(&index->reader, arena, stmt, max, ret_names, err);
    return r;
}

static int check_repository(struct fl_repos_index *index, const char *repository,
                            struct fl_error *err)
{
    int64_t id;
    int r = FL_FIND(&index->reader, &id, err, "SELECT id FROM repository WHERE name = ?1",
                    FL_TEXT(repository));

    if (r == 0)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no repository %s", repository);
    return r < 0 ? r : 0;
}

int fl_repos_index_tags(struct fl_repos_index *index, struct fl_arena *arena,
                        const char *repository, const char *after, size_t max,
                        struct fl_repos_names *ret_names, struct fl_error *err)
{
    FL_LOCKED(index->reader.lock); /* first: it is held until the statement has ended */
    FL_STATEMENT stmt = NULL;
    int r;

    r = check_repository(index, repository, err);
    if (r == 0)
        r = FL_PREPARE(&index->reader, &stmt, err,
                       "SELECT name FROM tag WHERE repository = " OF_REPOSITORY
                       " AND (name COLLATE NOCASE, name) > (?2, ?2)"
                       " ORDER BY name COLLATE NOCASE, name LIMIT ?3",
                       FL_TEXT(repository), FL_TEXT(after), FL_NUMBER((int64_t)max + 1));
    if (r == 0)
        r = take_names(&index->reader, arena, stmt, max, ret_names, err);
    return r;
}

static int take_referrers(struct fl_index_connection *reader, struct fl_arena *arena,
                          sqlite3_stmt *stmt, size_t max, struct fl_repos_referrers *ret_referrers,
                          struct fl_error *err)
{
    struct fl_repos_referrers found = {.items =
                                           fl_new_array(arena, struct fl_repos_manifest, max + 1)};
    int r = 0;

    while ((r = fl_index_step(reader, stmt, err)) > 0 && found.count < max)
        found.items[found.count++] = take_manifest(arena, stmt);
    found.more = r > 0;
    *ret_referrers = found;
    return r < 0 ? r : 0;
}

int fl_repos_index_referrers(struct fl_repos_index *index, struct fl_arena *arena,
                             const char *repository, const char *digest, const char *artifact_type,
                             const char *after, size_t max,
                             struct fl_repos_referrers *ret_referrers, struct fl_error *err)
{
    FL_LOCKED(index->reader.lock); /* first: it is held until the statement has ended */
    FL_STATEMENT stmt = NULL;
    int r;

    r = FL_PREPARE(&index->reader, &stmt, err,
                   "SELECT " COLUMNS " FROM manifest m WHERE m.repository = " OF_REPOSITORY
                   " AND m.subject = ?2 AND m.digest > ?3"
                   " AND (?4 IS NULL OR m.artifact_type = ?4) ORDER BY m.digest LIMIT ?5",
                   FL_TEXT(repository), FL_TEXT(digest), FL_TEXT(after), FL_TEXT(artifact_type),
                   FL_NUMBER((int64_t)max + 1));
    if (r == 0)
        r = take_referrers(&index->reader, arena, stmt, max, ret_referrers, err);
    return r;
}
