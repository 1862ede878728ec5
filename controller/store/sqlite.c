/* The durable driver: one table of records, appended to, in one SQLite file.
 *
 * All reads are from memory, so the file is a log: rows go in at the end (the revision is the row's
 * id) and need no index; at start they are read once, in order. A commit is one transaction and one
 * sync of the write-ahead log (synchronous=FULL). Checkpoints move the log into the file every
 * WAL_PAGES pages: rarely enough to write each page once, often enough that none takes long. SQLite
 * does not checksum its file, so each row carries a sum of all its columns.
 *
 * Compaction follows `previous`: a row at or below the compacted revision has done away with the
 * one it supersedes, and a deletion with itself. How far it came is stored in the same transaction.
 * The last revision needs no place of its own: rows above the compacted revision are never removed,
 * so it is the highest row's, or the compacted revision.
 *
 * The file is locked as long as it is open. */
#include "controller/store/store_driver.h"

#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define APPLICATION_ID 0x464c4f50 /* "FLOP" */
#define SCHEMA_VERSION ((int)FL_COUNT_OF(migrations))
#define COMPACT_ROWS   256

struct sqlite_driver {
    struct fl_store_driver base;
    sqlite3 *db;
    char *path;
    sqlite3_stmt *begin, *commit, *rollback, *insert, *scan, *drop, *set_compacted;
    uint64_t compacted;
};

/* migrations[n] takes a file from schema version n to n + 1. */
static const char *const migrations[] = {
    "CREATE TABLE record ("
    " revision INTEGER PRIMARY KEY,"
    " previous INTEGER NOT NULL,"
    " op INTEGER NOT NULL,"
    " resource TEXT NOT NULL,"
    " ns TEXT NOT NULL,"
    " name TEXT NOT NULL,"
    " time_us INTEGER NOT NULL,"
    " sum INTEGER NOT NULL,"
    " data BLOB NOT NULL) STRICT;"
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO meta VALUES ('compacted', 0);",
};

static const char setup[] = "PRAGMA locking_mode=EXCLUSIVE;"
                            "PRAGMA page_size=4096;"
                            "PRAGMA journal_mode=WAL;"
                            "PRAGMA synchronous=FULL;"
                            "PRAGMA wal_autocheckpoint=1000;"
                            "PRAGMA cache_size=-1024;"
                            "PRAGMA temp_store=MEMORY;"
                            "PRAGMA secure_delete=FAST;"
                            "PRAGMA trusted_schema=OFF;"
                            "BEGIN IMMEDIATE; COMMIT;";

static struct sqlite_driver *downcast(struct fl_store_driver *driver)
{
    return (struct sqlite_driver *)driver;
}

static int fail(struct sqlite_driver *driver, int rc, const char *doing, struct fl_error *err)
{
    const char *text = sqlite3_errmsg(driver->db);

    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s is in use by another process", driver->path);
    case SQLITE_NOTADB:
        return fl_error_set(err, FL_E_INTERNAL, "%s is not a store: %s", driver->path, text);
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_NOMEM:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s %s: %s", doing, driver->path, text);
    default:
        /* Our statements are right for our tables, so the tables are not ours any more. */
        return fl_error_set(err, FL_E_INTERNAL, "%s is damaged: %s", driver->path, text);
    }
}

static int run(struct sqlite_driver *driver, const char *sql, const char *doing,
               struct fl_error *err)
{
    int rc = sqlite3_exec(driver->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : fail(driver, rc, doing, err);
}

/* Runs a prepared statement that returns no rows. */
static int step(struct sqlite_driver *driver, sqlite3_stmt *stmt, const char *doing,
                struct fl_error *err)
{
    int rc = sqlite3_step(stmt);

    /* The text of the error is gone after the reset. */
    rc = rc == SQLITE_DONE ? 0 : fail(driver, rc, doing, err);
    (void)sqlite3_reset(stmt);
    return rc;
}

static int read_number(struct sqlite_driver *driver, const char *sql, int64_t *ret_value,
                       struct fl_error *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(driver->db, sql, -1, &stmt, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *ret_value = sqlite3_column_int64(stmt, 0);
    rc = rc == SQLITE_ROW ? 0 : fail(driver, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, "read", err);
    (void)sqlite3_finalize(stmt);
    return rc;
}

static int prepare(struct sqlite_driver *driver, sqlite3_stmt **ret_stmt, const char *sql,
                   struct fl_error *err)
{
    int rc = sqlite3_prepare_v3(driver->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_stmt, NULL);

    return rc == SQLITE_OK ? 0 : fail(driver, rc, "open", err);
}

static int prepare_all(struct sqlite_driver *driver, struct fl_error *err)
{
    const struct {
        sqlite3_stmt **stmt;
        const char *sql;
    } rows[] = {
        {&driver->begin, "BEGIN IMMEDIATE"},
        {&driver->commit, "COMMIT"},
        {&driver->rollback, "ROLLBACK"},
        {&driver->insert, "INSERT INTO record VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"},
        {&driver->scan, "SELECT revision, previous, op FROM record"
                        " WHERE revision > ?1 AND revision <= ?2 ORDER BY revision LIMIT ?3"},
        {&driver->drop, "DELETE FROM record WHERE revision = ?1"},
        {&driver->set_compacted, "UPDATE meta SET value = ?1 WHERE key = 'compacted'"},
    };

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        int r = prepare(driver, rows[i].stmt, rows[i].sql, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static void rollback(struct sqlite_driver *driver)
{
    if (!sqlite3_get_autocommit(driver->db))
        (void)step(driver, driver->rollback, "undo in", NULL);
}

static int migrate(struct sqlite_driver *driver, struct fl_error *err)
{
    int64_t version = 0, application = 0, tables = 0;
    char sql[160];
    int r;

    r = read_number(driver, "PRAGMA user_version", &version, err);
    if (r == 0)
        r = read_number(driver, "PRAGMA application_id", &application, err);
    if (r == 0)
        r = read_number(driver, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (r < 0)
        return r;
    if (application != APPLICATION_ID && (application || version || tables))
        return fl_error_set(err, FL_E_INVALID, "%s is a database of another program", driver->path);
    if (version > SCHEMA_VERSION)
        return fl_error_set(err, FL_E_INVALID,
                            "%s was written by a newer version (schema %" PRId64
                            ", this one knows %d)",
                            driver->path, version, SCHEMA_VERSION);
    for (; version < SCHEMA_VERSION && r == 0; version++) {
        (void)snprintf(sql, sizeof(sql), "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT",
                       APPLICATION_ID, (int)version + 1);
        r = run(driver, "BEGIN IMMEDIATE", "migrate", err);
        if (r == 0)
            r = run(driver, migrations[version], "migrate", err);
        if (r == 0)
            r = run(driver, sql, "migrate", err);
    }
    return r;
}

/* Readable by nobody else from the first moment. SQLite gives its log the same mode. */
static int ensure_file(const char *path, struct fl_error *err)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        return close(fd);
    return errno == EEXIST ? 0 : fl_error_errno(err, errno, "make %s", path);
}

static void sqlite_close(struct fl_store_driver *base)
{
    struct sqlite_driver *driver = downcast(base);

    (void)sqlite3_finalize(driver->begin);
    (void)sqlite3_finalize(driver->commit);
    (void)sqlite3_finalize(driver->rollback);
    (void)sqlite3_finalize(driver->insert);
    (void)sqlite3_finalize(driver->scan);
    (void)sqlite3_finalize(driver->drop);
    (void)sqlite3_finalize(driver->set_compacted);
    /* Closing moves the log into the file and removes it. */
    (void)sqlite3_close(driver->db);
    free(driver->path);
    free(driver);
}

static int open_database(struct sqlite_driver *driver, struct fl_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int64_t compacted = 0;
    int r;

    r = ensure_file(driver->path, err);
    if (r < 0)
        return r;
    r = sqlite3_open_v2(driver->path, &driver->db, flags, NULL);
    if (r != SQLITE_OK)
        return fail(driver, r, "open", err);
    r = run(driver, setup, "open", err);
    if (r == 0)
        r = migrate(driver, err);
    if (r == 0)
        r = prepare_all(driver, err);
    if (r == 0)
        r = read_number(driver, "SELECT value FROM meta WHERE key = 'compacted'", &compacted, err);
    driver->compacted = (uint64_t)compacted;
    return r;
}

static int sqlite_open(const struct fl_store_options *options, struct fl_store_driver **ret_driver,
                       struct fl_error *err)
{
    struct sqlite_driver *driver;
    int r;

    if (!options->path || !*options->path)
        return fl_error_set(err, FL_E_INVALID, "the sqlite store needs a path");
    driver = fl_calloc(1, sizeof(*driver));
    driver->base.ops = &fl_store_sqlite_ops;
    driver->path = fl_strdup(options->path);
    r = open_database(driver, err);
    if (r < 0) {
        sqlite_close(&driver->base);
        return r;
    }
    *ret_driver = &driver->base;
    return 0;
}

static uint32_t sum_text(uint32_t sum, const char *text)
{
    return (uint32_t)crc32_z(sum, (const unsigned char *)text, strlen(text) + 1);
}

static uint32_t sum_record(const struct fl_store_record *record)
{
    const uint64_t numbers[] = {record->revision, record->previous, (uint64_t)record->op,
                                (uint64_t)record->time_us};
    unsigned char bytes[sizeof(numbers)];
    uint32_t sum;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(numbers[i / 8] >> (8 * (i % 8)));
    sum = (uint32_t)crc32_z(0, bytes, sizeof(bytes));
    sum = sum_text(sum, record->resource);
    sum = sum_text(sum, record->ns);
    sum = sum_text(sum, record->name);
    return (uint32_t)crc32_z(sum, record->data, record->len);
}

static int load_row(sqlite3_stmt *row, fl_store_load_fn *fn, void *user, uint64_t *ret_last,
                    struct fl_error *err)
{
    struct fl_store_record record = {
        .revision = (uint64_t)sqlite3_column_int64(row, 0),
        .previous = (uint64_t)sqlite3_column_int64(row, 1),
        .op = (enum fl_store_op)sqlite3_column_int(row, 2),
        .resource = fl_str_or((const char *)sqlite3_column_text(row, 3), ""),
        .ns = fl_str_or((const char *)sqlite3_column_text(row, 4), ""),
        .name = fl_str_or((const char *)sqlite3_column_text(row, 5), ""),
        .time_us = sqlite3_column_int64(row, 6),
    };
    const void *data = sqlite3_column_blob(row, 8);
    int r;

    record.data = data ? data : "";
    record.len = (size_t)sqlite3_column_bytes(row, 8);
    if (sum_record(&record) != (uint32_t)sqlite3_column_int64(row, 7))
        r = fl_error_set(err, FL_E_INTERNAL, "its sum is wrong: the file is damaged");
    else
        r = fn(user, &record, err);
    if (r < 0)
        return fl_error_wrap(err, "record %" PRIu64, record.revision);
    *ret_last = record.revision;
    return 0;
}

static int sqlite_load(struct fl_store_driver *base, fl_store_load_fn *fn, void *user,
                       uint64_t *ret_last, uint64_t *ret_compacted, struct fl_error *err)
{
    struct sqlite_driver *driver = downcast(base);
    sqlite3_stmt *rows = NULL;
    uint64_t last = driver->compacted;
    int r, rc;

    r = prepare(driver, &rows,
                "SELECT revision, previous, op, resource, ns, name, time_us, sum, data"
                " FROM record ORDER BY revision",
                err);
    while (r == 0 && (rc = sqlite3_step(rows)) != SQLITE_DONE) {
        if (rc == SQLITE_ROW)
            r = load_row(rows, fn, user, &last, err);
        else
            r = fail(driver, rc, "load", err);
    }
    (void)sqlite3_finalize(rows);
    if (r < 0)
        return fl_error_wrap(err, "load %s", driver->path);
    *ret_last = last > driver->compacted ? last : driver->compacted;
    *ret_compacted = driver->compacted;
    return 0;
}

static void bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
    (void)sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
}

static int insert(struct sqlite_driver *driver, const struct fl_store_record *record,
                  struct fl_error *err)
{
    sqlite3_stmt *stmt = driver->insert;

    (void)sqlite3_bind_int64(stmt, 1, (int64_t)record->revision);
    (void)sqlite3_bind_int64(stmt, 2, (int64_t)record->previous);
    (void)sqlite3_bind_int(stmt, 3, (int)record->op);
    bind_text(stmt, 4, record->resource);
    bind_text(stmt, 5, record->ns);
    bind_text(stmt, 6, record->name);
    (void)sqlite3_bind_int64(stmt, 7, record->time_us);
    (void)sqlite3_bind_int64(stmt, 8, sum_record(record));
    (void)sqlite3_bind_blob64(stmt, 9, record->data, record->len, SQLITE_STATIC);
    return step(driver, stmt, "write to", err);
}

static int sqlite_commit(struct fl_store_driver *base, const struct fl_store_record *records,
                         size_t count, struct fl_error *err)
{
    struct sqlite_driver *driver = downcast(base);
    int r;

    r = step(driver, driver->begin, "write to", err);
    for (size_t i = 0; i < count && r == 0; i++)
        r = insert(driver, &records[i], err);
    if (r == 0)
        r = step(driver, driver->commit, "write to", err);
    if (r < 0)
        rollback(driver);
    return r;
}

struct compact_row {
    int64_t revision, previous;
    int op;
};

static int scan_rows(struct sqlite_driver *driver, uint64_t revision, struct compact_row *rows,
                     size_t *ret_count, struct fl_error *err)
{
    sqlite3_stmt *stmt = driver->scan;
    size_t count = 0;
    int rc;

    (void)sqlite3_bind_int64(stmt, 1, (int64_t)driver->compacted);
    (void)sqlite3_bind_int64(stmt, 2, (int64_t)revision);
    (void)sqlite3_bind_int(stmt, 3, COMPACT_ROWS);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && count < COMPACT_ROWS)
        rows[count++] =
            (struct compact_row){sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1),
                                 sqlite3_column_int(stmt, 2)};
    rc = rc == SQLITE_DONE ? 0 : fail(driver, rc, "compact", err);
    (void)sqlite3_reset(stmt);
    *ret_count = count;
    return rc;
}

static int run_with(struct sqlite_driver *driver, sqlite3_stmt *stmt, int64_t number,
                    struct fl_error *err)
{
    (void)sqlite3_bind_int64(stmt, 1, number);
    return step(driver, stmt, "compact", err);
}

static int drop_superseded(struct sqlite_driver *driver, const struct compact_row *rows,
                           size_t count, int64_t up_to, struct fl_error *err)
{
    int r = step(driver, driver->begin, "compact", err);

    for (size_t i = 0; i < count && r == 0; i++) {
        if (rows[i].previous)
            r = run_with(driver, driver->drop, rows[i].previous, err);
        if (r == 0 && rows[i].op == FL_STORE_DELETE)
            r = run_with(driver, driver->drop, rows[i].revision, err);
    }
    if (r == 0)
        r = run_with(driver, driver->set_compacted, up_to, err);
    if (r == 0)
        r = step(driver, driver->commit, "compact", err);
    if (r < 0)
        rollback(driver);
    return r;
}

static int sqlite_compact(struct fl_store_driver *base, uint64_t revision, struct fl_error *err)
{
    struct sqlite_driver *driver = downcast(base);
    struct compact_row rows[COMPACT_ROWS];
    uint64_t up_to = revision;
    size_t count;
    int r;

    if (revision <= driver->compacted)
        return 0;
    r = scan_rows(driver, revision, rows, &count, err);
    if (r < 0)
        return r;
    if (count == COMPACT_ROWS)
        up_to = (uint64_t)rows[count - 1].revision;
    r = drop_superseded(driver, rows, count, (int64_t)up_to, err);
    if (r < 0)
        return r;
    driver->compacted = up_to;
    return up_to < revision;
}

const struct fl_store_driver_ops fl_store_sqlite_ops = {
    .name = "sqlite",
    .blocking = true,
    .open = sqlite_open,
    .close = sqlite_close,
    .load = sqlite_load,
    .commit = sqlite_commit,
    .compact = sqlite_compact,
};
