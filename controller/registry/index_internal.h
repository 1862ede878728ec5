/* Statements and transactions, for the parts of the index. */
#ifndef FL_CONTROLLER_REGISTRY_INDEX_INTERNAL_H
#define FL_CONTROLLER_REGISTRY_INDEX_INTERNAL_H

#include "controller/registry/index.h"
#include "lib/thread.h"

#include <sqlite3.h>

struct fl_index_connection {
    sqlite3 *db;
    struct fl_lock *lock; /* held while a statement is in use, and for a whole transaction */
    const char *path;
};

struct fl_repos_index {
    const struct fl_env *env;
    char *path;
    struct fl_index_connection writer, reader;
};

/* A parameter of a statement, which must not outlive its text: FL_TEXT(NULL) is null. */
struct fl_index_value {
    const char *text;
    int64_t number;
    bool is_number;
};
#define FL_TEXT(value)   ((struct fl_index_value){.text = (value)})
#define FL_NUMBER(value) ((struct fl_index_value){.number = (value), .is_number = true})

static inline void fl_index_finishp(sqlite3_stmt **stmt)
{
    (void)sqlite3_finalize(*stmt);
}
#define FL_STATEMENT FL_CLEANUP(fl_index_finishp) sqlite3_stmt *

int fl_index_prepare(struct fl_index_connection *connection, sqlite3_stmt **ret_stmt,
                     struct fl_error *err, const char *sql, const struct fl_index_value *values,
                     size_t count);
/* 1: a row, 0: there are no more. */
int fl_index_step(struct fl_index_connection *connection, sqlite3_stmt *stmt, struct fl_error *err);
/* All of a statement that gives no rows; returns how many rows it changed. */
int fl_index_run(struct fl_index_connection *connection, struct fl_error *err, const char *sql,
                 const struct fl_index_value *values, size_t count);
/* The number in the first row. 1: there is one; 0: none, and *ret_number is as it was. */
int fl_index_number(struct fl_index_connection *connection, int64_t *ret_number,
                    struct fl_error *err, const char *sql, const struct fl_index_value *values,
                    size_t count);

#define FL_INDEX_VALUES_(...)                                                                      \
    (const struct fl_index_value[]){__VA_ARGS__},                                                  \
        sizeof((const struct fl_index_value[]){__VA_ARGS__}) / sizeof(struct fl_index_value)
#define FL_PREPARE(connection, stmt, err, sql, ...)                                                \
    fl_index_prepare(connection, stmt, err, sql, FL_INDEX_VALUES_(__VA_ARGS__))
#define FL_RUN(connection, err, sql, ...)                                                          \
    fl_index_run(connection, err, sql, FL_INDEX_VALUES_(__VA_ARGS__))
#define FL_FIND(connection, number, err, sql, ...)                                                 \
    fl_index_number(connection, number, err, sql, FL_INDEX_VALUES_(__VA_ARGS__))

/* With the writer's lock. `end` commits where `r` is 0 or more, and undoes all where it is not, or
 * where the disk does not take it. */
int fl_index_begin(struct fl_repos_index *index, struct fl_error *err);
int fl_index_end(struct fl_repos_index *index, int r, struct fl_error *err);

/* A column's text, "" for null; good until the next step. */
const char *fl_index_text(sqlite3_stmt *stmt, int column);
/* A column's text in the arena; NULL for null. */
const char *fl_index_take_text(struct fl_arena *arena, sqlite3_stmt *stmt, int column);

#endif
