#include "controller/apiserver/audit.h"

#include "lib/buf.h"
#include "lib/log.h"
#include "lib/rotating_file.h"
#include "lib/str.h"

#include <stdlib.h>

#define ROTATE_BYTES ((size_t)100 * 1024 * 1024)
#define KEPT_FILES 5
#define LINE_MAX_BYTES ((size_t)16 * 1024)

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

static void put(struct fl_buf *line, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    fl_buf_printf(line, ",\"%s\":", key);
    fl_buf_json_string(line, value, strlen(value));
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
        fl_buf_json_string(line, user->groups[i], strlen(user->groups[i]));
    }
    fl_buf_putc(line, ']');
}

static void put_entry(struct fl_buf *line, const struct fl_env *env,
                      const struct fl_audit_entry *entry)
{
    char now[FL_TIME_SIZE];

    fl_time_format_micro(fl_realtime_us(env), now);
    fl_buf_printf(line, "{\"time\":\"%s\"", now);
    put(line, "auditID", entry->id);
    put_user(line, entry->access->user);
    put(line, "verb", entry->access->verb);
    put(line, "group", entry->access->group);
    put(line, "resource", entry->access->resource);
    put(line, "subresource", entry->access->subresource);
    put(line, "namespace", entry->access->ns);
    put(line, "name", entry->access->name);
    put(line, "path", entry->target);
    put(line, "source", entry->source);
    put(line, "userAgent", entry->user_agent);
    put(line, "reason", entry->reason);
    if (entry->dry_run)
        fl_buf_puts(line, ",\"dryRun\":true");
    fl_buf_printf(line, ",\"code\":%d,\"durationMs\":%lld}\n", entry->status,
                  (long long)entry->duration_ms);
}

void fl_audit_write(struct fl_audit *audit, const struct fl_audit_entry *entry)
{
    struct fl_error err = {0};
    struct fl_buf line;

    if (!audit)
        return;
    fl_buf_init(&line, LINE_MAX_BYTES);
    put_entry(&line, audit->env, entry);
    if (line.overflow || fl_rotating_file_write(audit->file, line.data, line.len, &err) < 0) {
        if (audit->lost++ % 1000 == 0)
            fl_log_error(audit->env->log, "audit entry lost", FL_STR("error", err.msg),
                         FL_INT("lost", (int64_t)audit->lost));
    }
    fl_buf_finish(&line);
}
