/* Output, as far as a root tells it: the last lines of a living instance, as they came with the
 * last list. They are not followed: a reader has what was there when it began. */
#include "lib/str.h"
#include "reconcilers/workload/oakestra/internal.h"

struct fl_log_reader {
    char *text;
    size_t at, len;
};

static const char *last_lines(const char *text, int64_t lines)
{
    const char *at = text + strlen(text);

    if (lines < 0)
        return text;
    if (at > text && at[-1] == '\n')
        at--;
    while (at > text && (at[-1] != '\n' || --lines > 0))
        at--;
    return lines > 0 || at == text ? text : at;
}

int oak_log_open(struct fl_orchestrator_driver *self, const struct fl_log_query *query,
                 void (*more)(void *user), void *user, struct fl_log_reader **ret_reader,
                 struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    struct fl_log_reader *reader;
    const struct oak_run *run;
    FL_LOCKED(oak->lock);

    (void)more;
    (void)user;
    run = oak_run_find(oak, query->id.workload_uid, query->id.index);
    if (!run)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no such instance");
    if (query->previous)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "an Oakestra root keeps no output of runs that are gone");
    if (!run->logs)
        return fl_error_set(err, FL_E_NOT_FOUND, "the root has told no output of it yet");
    reader = fl_calloc(1, sizeof(*reader));
    reader->text =
        fl_strdup(query->tail_lines == 0 ? "" : last_lines(run->logs, query->tail_lines));
    reader->len = strlen(reader->text);
    *ret_reader = reader;
    return 0;
}

int64_t oak_log_read(struct fl_log_reader *reader, void *out, size_t size, bool *ret_ended,
                     struct fl_error *err)
{
    size_t len = reader->len - reader->at < size ? reader->len - reader->at : size;

    (void)err;
    memcpy(out, reader->text + reader->at, len);
    reader->at += len;
    *ret_ended = reader->at == reader->len;
    return (int64_t)len;
}

void oak_log_close(struct fl_log_reader *reader)
{
    free(reader->text);
    free(reader);
}
