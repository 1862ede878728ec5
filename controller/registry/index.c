/* The file and its statements. */
#include "controller/registry/index_internal.h"

#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define APPLICATION_ID 0x464c5247 /* "FLRG" */
#define SCHEMA_VERSION ((int)FL_COUNT_OF(migrations))

/* migrations[n] takes a file from schema version n to n + 1. A link says that a manifest names
 * something of its repository, which therefore cannot go before it. */
static const char *const migrations[] = {
    "CREATE TABLE repository (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE blob ("
    " repository INTEGER NOT NULL,"
    " digest TEXT NOT NULL,"
    " size INTEGER NOT NULL,"
    " time_us INTEGER NOT NULL,"
    " PRIMARY KEY (repository, digest)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE manifest ("
    " repository INTEGER NOT NULL,"
    " digest TEXT NOT NULL,"
    " media_type TEXT NOT NULL,"
    " artifact_type TEXT,"
    " subject TEXT,"
    " size INTEGER NOT NULL,"
    " annotations TEXT,"
    " time_us INTEGER NOT NULL,"
    " PRIMARY KEY (repository, digest)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX manifest_subject ON manifest (repository, subject, digest)"
    " WHERE subject IS NOT NULL;"
    "CREATE TABLE link ("
    " repository INTEGER NOT NULL,"
    " parent TEXT NOT NULL,"
    " is_manifest INTEGER NOT NULL,"
    " child TEXT NOT NULL,"
    " PRIMARY KEY (repository, parent, is_manifest, child)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX link_child ON link (repository, child, is_manifest);"
    "CREATE TABLE tag ("
    " repository INTEGER NOT NULL,"
    " name TEXT NOT NULL,"
    " digest TEXT NOT NULL,"
    " time_us INTEGER NOT NULL,"
    " PRIMARY KEY (repository, name)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX tag_digest ON tag (repository, digest);"
    "CREATE INDEX tag_order ON tag (repository, name COLLATE NOCASE, name);",
};

/* The file has a bound, so that no number of names can fill the disk: 1 GiB. */
static const char setup[] = "PRAGMA page_size=4096;"
                            "PRAGMA journal_mode=WAL;"
                            "PRAGMA synchronous=FULL;"
                            "PRAGMA busy_timeout=5000;"
                            "PRAGMA max_page_count=262144;"
                            "PRAGMA cache_size=-2048;"
                            "PRAGMA temp_store=MEMORY;"
                            "PRAGMA trusted_schema=OFF;";
static const char setup_reader[] = "PRAGMA query_only=ON;"
                                   "PRAGMA cache_size=-2048;"
                                   "PRAGMA temp_store=MEMORY;"
                                   "PRAGMA trusted_schema=OFF;";

static int fail(struct fl_index_connection *connection, int rc, struct fl_error *err)
{
    const char *text = sqlite3_errmsg(connection->db);

    switch (rc & 0xff) {
    case SQLITE_NOTADB:
        return fl_error_set(err, FL_E_INTERNAL, "%s is no index of a registry: %s",
                            connection->path, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_NOMEM:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s: %s", connection->path, text);
    default:
        /* Our statements are right for our tables, so the tables are not ours any more. */
        return fl_error_set(err, FL_E_INTERNAL, "%s is damaged: %s", connection->path, text);
    }
}

static int bind(sqlite3_stmt *stmt, int at, const struct fl_index_value *value)
{
    if (value->is_number)
        return sqlite3_bind_int64(stmt, at, value->number);
    if (!value->text)
        return sqlite3_bind_null(stmt, at);
    return sqlite3_bind_text(stmt, at, value->text, -1, SQLITE_STATIC);
}

int fl_index_prepare(struct fl_index_connection *connection, sqlite3_stmt **ret_stmt,
                     struct fl_error *err, const char *sql, const struct fl_index_value *values,
                     size_t count)
{
    FL_STATEMENT stmt = NULL;
    int rc = sqlite3_prepare_v2(connection->db, sql, -1, &stmt, NULL);

    for (size_t i = 0; rc == SQLITE_OK && i < count; i++)
        rc = bind(stmt, (int)i + 1, &values[i]);
    if (rc != SQLITE_OK)
        return fail(connection, rc, err);
    *ret_stmt = FL_TAKE(stmt);
    return 0;
}

int fl_index_step(struct fl_index_connection *connection, sqlite3_stmt *stmt, struct fl_error *err)
{
    int rc = sqlite3_step(stmt);

    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : fail(connection, rc, err);
}

int fl_index_run(struct fl_index_connection *connection, struct fl_error *err, const char *sql,
                 const struct fl_index_value *values, size_t count)
{
    FL_STATEMENT stmt = NULL;
    int r = fl_index_prepare(connection, &stmt, err, sql, values, count);

    if (r == 0)
        r = fl_index_step(connection, stmt, err);
    return r < 0 ? r : sqlite3_changes(connection->db);
}

int fl_index_number(struct fl_index_connection *connection, int64_t *ret_number,
                    struct fl_error *err, const char *sql, const struct fl_index_value *values,
                    size_t count)
{
    FL_STATEMENT stmt = NULL;
    int r = fl_index_prepare(connection, &stmt, err, sql, values, count);

    if (r == 0)
        r = fl_index_step(connection, stmt, err);
    if (r > 0)
        *ret_number = sqlite3_column_int64(stmt, 0);
    return r;
}

const char *fl_index_text(sqlite3_stmt *stmt, int column)
{
    return fl_str_or((const char *)sqlite3_column_text(stmt, column), "");
}

const char *fl_index_take_text(struct fl_arena *arena, sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);

    return text ? fl_arena_strdup(arena, text) : NULL;
}

static int run_all(struct fl_index_connection *connection, const char *sql, struct fl_error *err)
{
    int rc = sqlite3_exec(connection->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : fail(connection, rc, err);
}

int fl_index_begin(struct fl_repos_index *index, struct fl_error *err)
{
    return run_all(&index->writer, "BEGIN IMMEDIATE", err);
}

int fl_index_end(struct fl_repos_index *index, int r, struct fl_error *err)
{
    if (r >= 0)
        r = run_all(&index->writer, "COMMIT", err);
    if (r < 0 && !sqlite3_get_autocommit(index->writer.db))
        (void)run_all(&index->writer, "ROLLBACK", NULL);
    return r;
}

/* Opening */

static int migrate(struct fl_repos_index *index, struct fl_error *err)
{
    struct fl_index_connection *writer = &index->writer;
    int64_t version = 0, application = 0, tables = 0;
    char sql[128];
    int r;

    r = fl_index_number(writer, &version, err, "PRAGMA user_version", NULL, 0);
    if (r >= 0)
        r = fl_index_number(writer, &application, err, "PRAGMA application_id", NULL, 0);
    if (r >= 0)
        r = fl_index_number(writer, &tables, err, "SELECT count(*) FROM sqlite_schema", NULL, 0);
    if (r < 0)
        return r;
    if (application != APPLICATION_ID && (application || version || tables))
        return fl_error_set(err, FL_E_INVALID, "%s is a database of another program", index->path);
    if (version > SCHEMA_VERSION)
        return fl_error_set(err, FL_E_INVALID, "%s was written by a newer version", index->path);
    for (r = 0; version < SCHEMA_VERSION && r == 0; version++) {
        (void)snprintf(sql, sizeof(sql), "PRAGMA application_id=%d; PRAGMA user_version=%d",
                       APPLICATION_ID, (int)version + 1);
        r = fl_index_begin(index, err);
        if (r == 0)
            r = run_all(writer, migrations[version], err);
        if (r == 0)
            r = run_all(writer, sql, err);
        r = fl_index_end(index, r, err);
    }
    return r;
}

static int connect_to(struct fl_repos_index *index, struct fl_index_connection *connection,
                      const char *first, struct fl_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, rc;

    connection->path = index->path;
    connection->lock = fl_lock_create();
    rc = sqlite3_open_v2(index->path, &connection->db, flags, NULL);
    return rc == SQLITE_OK ? run_all(connection, first, err) : fail(connection, rc, err);
}

/* Readable by nobody else from the first moment. SQLite gives its log the same mode. */
static int ensure_file(const char *path, struct fl_error *err)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        return close(fd);
    return errno == EEXIST ? 0 : fl_error_errno(err, errno, "make %s", path);
}

int fl_repos_index_open(const struct fl_env *env, const char *path,
                        struct fl_repos_index **ret_index, struct fl_error *err)
{
    FL_CLEANUP(fl_repos_index_closep)
    struct fl_repos_index *index = fl_calloc(1, sizeof(*index));
    int r;

    index->env = env;
    index->path = fl_strdup(path);
    r = ensure_file(path, err);
    if (r == 0)
        r = connect_to(index, &index->writer, setup, err);
    if (r == 0)
        r = migrate(index, err);
    if (r == 0)
        r = connect_to(index, &index->reader, setup_reader, err);
    if (r < 0)
        return r;
    *ret_index = FL_TAKE(index);
    return 0;
}

static void disconnect(struct fl_index_connection *connection)
{
    (void)sqlite3_close(connection->db);
    if (connection->lock)
        fl_lock_destroy(connection->lock);
}

void fl_repos_index_close(struct fl_repos_index *index)
{
    if (!index)
        return;
    disconnect(&index->reader);
    disconnect(&index->writer); /* the last one moves the log into the file and removes it */
    free(index->path);
    free(index);
}
