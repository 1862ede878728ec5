#include "controller/apiserver/audit.h"

#include "lib/buf.h"
#include "lib/log.h"
#include "lib/rotating_file.h"
#include "lib/str.h"

#include <stdlib.h>

#define ROTATE_BYTES   ((size_t)100 * 1024 * 1024)
#define KEPT_FILES     5
#define TEXT_MAX_BYTES ((size_t)1024)

struct fl_audit {
    const struct fl_env *env;
    struct fl_rotating_file *file;
    uint64_t lost;
};

int fl_audit_open(const struct fl_env *env, const char *path, struct fl_audit **ret_audit,
                  struct fl_error *err)
{
    struct fl_audit *audit = fl_calloc(1, sizeof(*audit));
    int r = fl_rotating_file_open(path, ROTATE_BYTES, KEPT_FILES, &audit->file, err);

    audit->env = env;
    if (r < 0) {
        free(audit);
        return fl_error_wrap(err, "audit log");
    }
    *ret_audit = audit;
    return 0;
}

void fl_audit_close(struct fl_audit *audit)
{
    if (!audit)
        return;
    fl_rotating_file_close(audit->file);
    free(audit);
}

static void put_text(struct fl_buf *line, const char *value)
{
    size_t len = strlen(value);

    fl_buf_json_string(line, value, len > TEXT_MAX_BYTES ? TEXT_MAX_BYTES : len);
}

static void put(struct fl_buf *line, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    fl_buf_printf(line, ",\"%s\":", key);
    put_text(line, value);
}

static void put_user(struct fl_buf *line, const struct fl_user *user)
{
    if (!user)
        return;
    put(line, "user", user->name);
    put(line, "impersonator", user->impersonator);
    fl_buf_puts(line, ",\"groups\":[");
    for (size_t i = 0; i < user->group_count; i++) {
        if (i)
            fl_buf_putc(line, ',');
        put_text(line, user->groups[i]);
    }
    fl_buf_putc(line, ']');
}

char *fl_audit_begin(struct fl_audit *audit, const struct fl_audit_entry *entry)
{
    char now[FL_TIME_SIZE];
    struct fl_buf line;

    if (!audit)
        return NULL;
    fl_buf_init(&line, 0);
    fl_time_format_micro(fl_realtime_us(audit->env), now);
    fl_buf_printf(&line, "{\"time\":\"%s\"", now);
    put(&line, "auditID", entry->id);
    put_user(&line, entry->access->user);
    put(&line, "verb", entry->access->verb);
    put(&line, "group", entry->access->group);
    put(&line, "resource", entry->access->resource);
    put(&line, "subresource", entry->access->subresource);
    put(&line, "namespace", entry->access->ns);
    put(&line, "name", entry->access->name);
    put(&line, "path", entry->target);
    put(&line, "source", entry->source);
    put(&line, "userAgent", entry->user_agent);
    if (entry->dry_run)
        fl_buf_puts(&line, ",\"dryRun\":true");
    return fl_buf_steal(&line);
}

void fl_audit_end(struct fl_audit *audit, char *text, int status, const char *reason,
                  int64_t duration_ms)
{
    struct fl_error err = {0};
    struct fl_buf line;

    if (!audit || !text) {
        free(text);
        return;
    }
    fl_buf_init(&line, 0);
    fl_buf_puts(&line, text);
    put(&line, "reason", reason);
    fl_buf_printf(&line, ",\"code\":%d,\"durationMs\":%lld}\n", status, (long long)duration_ms);
    if (fl_rotating_file_write(audit->file, line.data, line.len, &err) < 0 &&
        audit->lost++ % 1000 == 0)
        fl_log_error(audit->env->log, "audit entry lost", FL_STR("error", err.msg),
                     FL_INT("lost", (int64_t)audit->lost));
    fl_buf_finish(&line);
    free(text);
}
