/* Structured logging: a constant message and typed key-values, one line an event.
 *
 * logfmt for people, JSON lines for machines. A child logger carries fields of its own, so that
 * nobody repeats them. Libraries return errors and log at debug only; decisions are logged where
 * they are made. Never pass a secret. Safe from any thread: one write per line.
 *
 *     fl_log_info(log, "object created", FL_STR("kind", kind), FL_INT("revision", rv));      */
#ifndef FL_LIB_LOG_H
#define FL_LIB_LOG_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fl_log_level { FL_LOG_DEBUG, FL_LOG_INFO, FL_LOG_WARN, FL_LOG_ERROR };

struct fl_log_field {
    const char *key;
    enum { FL_LOG_STR, FL_LOG_INT, FL_LOG_BOOL } type;
    const char *str; /* NULL prints as empty */
    int64_t num;
};

#define FL_STR(k, v)  ((struct fl_log_field){.key = (k), .type = FL_LOG_STR, .str = (v)})
#define FL_INT(k, v)  ((struct fl_log_field){.key = (k), .type = FL_LOG_INT, .num = (v)})
#define FL_BOOL(k, v) ((struct fl_log_field){.key = (k), .type = FL_LOG_BOOL, .num = (v)})

struct fl_log;

/* Writes to `fd`, which stays the caller's. */
struct fl_log *fl_log_create(int fd, enum fl_log_level level, bool json);
/* A logger with more fields; the parent must outlive it. Strings are copied. */
struct fl_log *fl_log_child(struct fl_log *parent, const struct fl_log_field *fields, size_t count);
void fl_log_destroy(struct fl_log *log);
bool fl_log_level_from_name(const char *name, enum fl_log_level *ret_level);

/* `log` may be NULL: nothing is written. */
void fl_log_write(struct fl_log *log, enum fl_log_level level, const char *message,
                  const struct fl_log_field *fields, size_t count);

/* The leading dummy element makes a call without fields valid C. */
#define FL_LOG_(log, level, message, ...)                                                          \
    fl_log_write(                                                                                  \
        log, level, message, (struct fl_log_field[]){{0}, ##__VA_ARGS__} + 1,                      \
        sizeof((struct fl_log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct fl_log_field) - 1)
#define fl_log_debug(log, message, ...) FL_LOG_(log, FL_LOG_DEBUG, message, ##__VA_ARGS__)
#define fl_log_info(log, message, ...)  FL_LOG_(log, FL_LOG_INFO, message, ##__VA_ARGS__)
#define fl_log_warn(log, message, ...)  FL_LOG_(log, FL_LOG_WARN, message, ##__VA_ARGS__)
#define fl_log_error(log, message, ...) FL_LOG_(log, FL_LOG_ERROR, message, ##__VA_ARGS__)

#endif
