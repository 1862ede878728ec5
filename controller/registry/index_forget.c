/* What nothing leads to any more, found and removed in one transaction. */
#include "controller/registry/index_internal.h"

#include "lib/str.h"

/* A tag that only says what the manifest under it refers to: "sha256-<hex>.sig". */
#define OF_REFERRER                                                                                \
    "(t.name GLOB 'sha256-*.*' AND EXISTS (SELECT 1 FROM manifest m WHERE m.subject IS NOT NULL"   \
    " AND m.repository = t.repository AND m.digest = t.digest))"

/* What stays: from the tags (but those of referrers, which stay with their subject) and the roots
 * down to the children of indexes, and up to what has what stays as its subject. */
#define KEPT                                                                                       \
    "WITH RECURSIVE kept(repository, digest) AS ("                                                 \
    " SELECT t.repository, t.digest FROM tag t WHERE NOT " OF_REFERRER                             \
    " UNION SELECT repository, digest FROM temp.root"                                              \
    " UNION SELECT l.repository, l.child FROM kept k JOIN link l"                                  \
    "  ON l.repository = k.repository AND l.parent = k.digest AND l.is_manifest = 1"               \
    " UNION SELECT m.repository, m.digest FROM kept k JOIN manifest m"                             \
    "  ON m.repository = k.repository AND m.subject = k.digest) "

#define UNLINKED                                                                                   \
    "NOT EXISTS (SELECT 1 FROM link l WHERE l.repository = b.repository AND l.child = b.digest"    \
    " AND l.is_manifest = 0)"

struct pass {
    struct fl_repos_index *index;
    const struct fl_repos_judge *judge;
    struct fl_error *err;
};

static int run(const struct pass *pass, const char *sql)
{
    return fl_index_run(&pass->index->writer, pass->err, sql, NULL, 0);
}

/* Calls `each` for every row of (repository, digest, time_us). */
static int for_each(const struct pass *pass, const char *sql,
                    int (*each)(const struct pass *pass, int64_t repository, const char *digest,
                                int64_t time_us))
{
    FL_STATEMENT stmt = NULL;
    int r = fl_index_prepare(&pass->index->writer, &stmt, pass->err, sql, NULL, 0);

    while (r >= 0 && (r = fl_index_step(&pass->index->writer, stmt, pass->err)) > 0)
        r = each(pass, sqlite3_column_int64(stmt, 0), fl_index_text(stmt, 1),
                 sqlite3_column_int64(stmt, 2));
    return r;
}

static int note(const struct pass *pass, const char *sql, int64_t repository, const char *digest)
{
    return FL_RUN(&pass->index->writer, pass->err, sql, FL_NUMBER(repository), FL_TEXT(digest));
}

static int keep_named(const struct pass *pass, int64_t repository, const char *digest,
                      int64_t time_us)
{
    (void)time_us;
    if (!pass->judge->is_named(pass->judge->user, digest))
        return 0;
    return note(pass, "INSERT OR IGNORE INTO temp.root VALUES (?1, ?2)", repository, digest);
}

static bool is_due(const struct pass *pass, const char *kind, int64_t repository,
                   const char *digest, int64_t time_us)
{
    char key[160];

    (void)snprintf(key, sizeof(key), "%s %lld %s", kind, (long long)repository, digest);
    return pass->judge->is_due(pass->judge->user, key, digest, time_us);
}

/* Not among the roots at once: they are being read. */
static int keep_young(const struct pass *pass, int64_t repository, const char *digest,
                      int64_t time_us)
{
    if (is_due(pass, "manifest", repository, digest, time_us))
        return 0;
    return note(pass, "INSERT INTO temp.young VALUES (?1, ?2)", repository, digest);
}

static int list_blob(const struct pass *pass, int64_t repository, const char *digest,
                     int64_t time_us)
{
    if (pass->judge->is_named(pass->judge->user, digest) ||
        !is_due(pass, "blob", repository, digest, time_us))
        return 0;
    return note(pass, "INSERT INTO temp.due VALUES (?1, ?2)", repository, digest);
}

/* Those that are neither kept nor young. A young one keeps what it names, so it is a root too. */
static int forget_manifests(const struct pass *pass, size_t *ret_count)
{
    int r = for_each(pass, "SELECT repository, digest, time_us FROM manifest", keep_named);

    if (r >= 0)
        r = for_each(pass,
                     KEPT "SELECT repository, digest, time_us FROM manifest"
                          " WHERE (repository, digest) NOT IN kept",
                     keep_young);
    if (r >= 0)
        r = run(pass, "INSERT OR IGNORE INTO temp.root SELECT * FROM temp.young");
    if (r >= 0)
        r = run(pass, KEPT "DELETE FROM manifest WHERE (repository, digest) NOT IN kept");
    if (r < 0)
        return r;
    *ret_count = (size_t)r;
    if (r > 0)
        r = run(pass, "DELETE FROM tag WHERE NOT EXISTS (SELECT 1 FROM manifest m WHERE"
                      " m.repository = tag.repository AND m.digest = tag.digest)");
    return *ret_count == 0 || r < 0
               ? r
               : run(pass, "DELETE FROM link WHERE NOT EXISTS (SELECT 1 FROM manifest m WHERE"
                           " m.repository = link.repository AND m.digest = link.parent)");
}

static int forget_blobs(const struct pass *pass, size_t *ret_count)
{
    int r =
        for_each(pass, "SELECT repository, digest, time_us FROM blob b WHERE " UNLINKED, list_blob);

    if (r >= 0)
        r = run(pass, "DELETE FROM blob WHERE (repository, digest) IN temp.due");
    *ret_count = r > 0 ? (size_t)r : 0;
    return r;
}

static int forget_repositories(const struct pass *pass, size_t *ret_count)
{
    int r = run(pass, "DELETE FROM repository WHERE"
                      " NOT EXISTS (SELECT 1 FROM blob WHERE repository = repository.id) AND"
                      " NOT EXISTS (SELECT 1 FROM manifest WHERE repository = repository.id)");

    *ret_count = r > 0 ? (size_t)r : 0;
    return r;
}

static int tell_who_stays(const struct pass *pass)
{
    FL_STATEMENT stmt = NULL;
    int r = fl_index_prepare(&pass->index->writer, &stmt, pass->err,
                             "SELECT r.name, b.digest FROM blob b JOIN repository r"
                             " ON r.id = b.repository UNION ALL "
                             "SELECT r.name, m.digest FROM manifest m JOIN repository r"
                             " ON r.id = m.repository",
                             NULL, 0);

    while (r >= 0 && (r = fl_index_step(&pass->index->writer, stmt, pass->err)) > 0)
        pass->judge->stays(pass->judge->user, fl_index_text(stmt, 0), fl_index_text(stmt, 1));
    return r;
}

static int make_tables(const struct pass *pass)
{
#define TABLE(name)                                                                                \
    "CREATE TEMP TABLE IF NOT EXISTS " name                                                        \
    " (repository, digest, PRIMARY KEY (repository, digest)) WITHOUT ROWID",                       \
        "DELETE FROM temp." name
    static const char *const statements[] = {TABLE("root"), TABLE("young"), TABLE("due")};
    int r = 0;

    for (size_t i = 0; r >= 0 && i < FL_COUNT_OF(statements); i++)
        r = run(pass, statements[i]);
    return r;
#undef TABLE
}

int fl_repos_index_forget(struct fl_repos_index *index, const struct fl_repos_judge *judge,
                          size_t *ret_manifests, size_t *ret_blobs, size_t *ret_repositories,
                          struct fl_error *err)
{
    const struct pass pass = {index, judge, err};
    int r;

    FL_LOCKED(index->writer.lock);
    r = fl_index_begin(index, err);
    if (r >= 0)
        r = make_tables(&pass);
    if (r >= 0)
        r = forget_manifests(&pass, ret_manifests);
    if (r >= 0)
        r = forget_blobs(&pass, ret_blobs);
    if (r >= 0)
        r = forget_repositories(&pass, ret_repositories);
    if (r >= 0)
        r = tell_who_stays(&pass);
    r = fl_index_end(index, r, err);
    return r < 0 ? r : 0;
}
