#define FL_ALLOW_BANNED
#include "lib/log.h"

#include "lib/buf.h"
#include "lib/env.h"
#include "lib/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES ((size_t)16 * 1024)

struct fl_log {
    struct fl_log *parent;
    int fd;
    enum fl_log_level level;
    bool json;
    size_t field_count;
    struct fl_log_field fields[];
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

bool fl_log_level_from_name(const char *name, enum fl_log_level *ret_level)
{
    for (size_t i = 0; i < FL_COUNT_OF(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum fl_log_level)i;
            return true;
        }
    }
    return false;
}

struct fl_log *fl_log_create(int fd, enum fl_log_level level, bool json)
{
    struct fl_log *log = fl_calloc(1, sizeof(*log));

    log->fd = fd;
    log->level = level;
    log->json = json;
    return log;
}

struct fl_log *fl_log_child(struct fl_log *parent, const struct fl_log_field *fields, size_t count)
{
    struct fl_log *log;

    if (!parent)
        return NULL;
    log = fl_calloc(1, sizeof(*log) + count * sizeof(log->fields[0]));
    log->parent = parent;
    log->fd = parent->fd;
    log->level = parent->level;
    log->json = parent->json;
    log->field_count = count;
    for (size_t i = 0; i < count; i++) {
        log->fields[i] = fields[i];
        log->fields[i].key = fl_strdup(fields[i].key);
        log->fields[i].str = fields[i].str ? fl_strdup(fields[i].str) : NULL;
    }
    return log;
}

void fl_log_destroy(struct fl_log *log)
{
    if (!log)
        return;
    for (size_t i = 0; i < log->field_count; i++) {
        free((char *)log->fields[i].key);
        free((char *)log->fields[i].str);
    }
    free(log);
}

static bool needs_quotes(const char *text)
{
    if (!*text)
        return true;
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || *text == '"' || *text == '=' || *text == '\\' ||
            (unsigned char)*text >= 0x7F)
            return true;
    return false;
}

static void put_field(struct fl_buf *line, bool json, const struct fl_log_field *field)
{
    const char *text = fl_str_or(field->str, "");

    if (json) {
        fl_buf_putc(line, ',');
        fl_buf_json_string(line, field->key, strlen(field->key));
        fl_buf_putc(line, ':');
    } else {
        fl_buf_printf(line, " %s=", field->key);
    }
    if (field->type == FL_LOG_INT)
        fl_buf_printf(line, "%lld", (long long)field->num);
    else if (field->type == FL_LOG_BOOL)
        fl_buf_puts(line, field->num ? "true" : "false");
    else if (json || needs_quotes(text))
        fl_buf_json_string(line, text, strlen(text));
    else
        fl_buf_puts(line, text);
}

static void put_fields_of(struct fl_buf *line, const struct fl_log *log)
{
    if (log->parent)
        put_fields_of(line, log->parent);
    for (size_t i = 0; i < log->field_count; i++)
        put_field(line, log->json, &log->fields[i]);
}

static void write_line(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a log that cannot be written must not stop the work */
        data += n;
        len -= (size_t)n;
    }
}

void fl_log_write(struct fl_log *log, enum fl_log_level level, const char *message,
                  const struct fl_log_field *fields, size_t count)
{
    struct fl_buf line;
    char when[FL_TIME_SIZE];
    struct timespec now = {0};

    if (!log || level < log->level)
        return;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    fl_time_format_micro(now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000, when);
    fl_buf_init(&line, LINE_MAX_BYTES);
    if (log->json)
        fl_buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":", when,
                      level_names[level]);
    else
        fl_buf_printf(&line, "time=%s level=%s msg=", when, level_names[level]);
    fl_buf_json_string(&line, message, strlen(message));
    put_fields_of(&line, log);
    for (size_t i = 0; i < count; i++)
        put_field(&line, log->json, &fields[i]);
    if (line.overflow) {
        line.overflow = false; /* too long to print: say so instead of half a line */
        line.len = 0;
        fl_buf_puts(&line, log->json ? "{\"level\":\"warn\",\"msg\":\"log line too long\""
                                     : "level=warn msg=\"log line too long\"");
    }
    fl_buf_puts(&line, log->json ? "}\n" : "\n");
    write_line(log->fd, line.data, line.len);
    fl_buf_finish(&line);
}
