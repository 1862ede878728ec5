/* A life of the program, and what the core asks for. */
#include "workloads/aggregator/aggregator_internal.h"

#include "lib/file.h"
#include "lib/log.h"
#include "lib/process.h"
#include "lib/str.h"
#include "workloads/aggregator/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define JOURNAL_MAX ((size_t)1 << 30)

int64_t program_now_ms(const struct fl_aggregator *aggregator)
{
    return fl_monotonic_ms(aggregator->program.env);
}

void program_step(const struct fl_aggregator *aggregator, enum fl_step step)
{
    fl_step(aggregator->program.env, step);
}

const char *program_id_text(uint64_t id, char text[ID_SIZE])
{
    (void)snprintf(text, ID_SIZE, "%" PRIu64, id);
    return text;
}

/* --- folding --- */

static void folded(void *user, const struct fl_fold_result *result)
{
    struct fl_aggregator *aggregator = user;
    const int64_t now = program_now_ms(aggregator);

    if (result->kind == FL_AGGREGATOR_BEGIN) {
        fl_aggregator_begun(aggregator->core, now, result->ticket, result->err);
    } else if (result->kind == FL_AGGREGATOR_FOLD) {
        program_step(aggregator, FL_STEP_FOLDED);
        program_discard(aggregator, result->upload);
        fl_aggregator_folded(aggregator->core, now, result->ticket, result->reason, result->err);
    } else if (result->kind == FL_AGGREGATOR_ADOPT) {
        if (!result->err)
            program_hold(aggregator, result->finished.model, HELD_BY_CORE);
        fl_aggregator_adopted(aggregator->core, now, result->ticket, result->err);
    } else {
        program_step(aggregator, FL_STEP_FINISHED);
        if (!result->err) {
            program_hold(aggregator, result->finished.model, HELD_BY_CORE);
            program_hold(aggregator, result->finished.state, HELD_BY_CORE);
        }
        fl_aggregator_finished(aggregator->core, now, result->ticket, &result->finished,
                               result->err);
    }
    program_pump(aggregator);
}

static void fold(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    struct fl_bulk_upload upload = {.path = ""};
    char text[ID_SIZE];

    program_step(aggregator, FL_STEP_FOLDING);
    (void)fl_bulk_server_find(aggregator->bulk, program_id_text(action->upload, text), &upload,
                              NULL);
    fl_folding_do(aggregator->folding, action, upload.path);
}

/* --- the journal --- */

static void unref(struct fl_aggregator *aggregator)
{
    if (--aggregator->refs > 0)
        return;
    fl_fd_closep(&aggregator->journal);
    fl_bytes_unref(aggregator->replacement);
    free(aggregator->journal_path);
    free(aggregator);
}

static void sync_journal(void *user)
{
    struct fl_aggregator *aggregator = user;

    if (fdatasync(aggregator->journal) != 0)
        (void)fl_error_errno(&aggregator->failed, errno, "sync the journal");
}

/* The old one or the new is there, whole, whatever happens. */
static void replace_file(void *user)
{
    struct fl_aggregator *aggregator = user;
    const struct fl_bytes *text = aggregator->replacement;

    if (fl_file_write(aggregator->journal_path, text->data, text->len, 0600, &aggregator->failed) <
        0)
        return;
    fl_fd_closep(&aggregator->journal);
    aggregator->journal = open(aggregator->journal_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (aggregator->journal < 0)
        (void)fl_error_errno(&aggregator->failed, errno, "open %s", aggregator->journal_path);
}

/* What cannot be written down must not be told: nothing more is, and the program ends. */
static void journal_failed(struct fl_aggregator *aggregator)
{
    fl_log_error(aggregator->program.env->log, "the journal cannot be written",
                 FL_STR("error", aggregator->failed.msg));
    aggregator->program.stopped(aggregator->program.user);
}

static void journal_synced(void *user)
{
    struct fl_aggregator *aggregator = user;

    fl_bytes_unref(FL_TAKE(aggregator->replacement));
    if (!aggregator->closed && aggregator->failed.code) {
        journal_failed(aggregator); /* syncing stays: no further action */
    } else if (!aggregator->closed) {
        program_step(aggregator, aggregator->written);
        aggregator->syncing = false;
        program_pump(aggregator);
    }
    unref(aggregator);
}

static int append(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* No action is taken until the worker has done it. */
static void make_durable(struct fl_aggregator *aggregator, fl_loop_fn *work)
{
    aggregator->syncing = true;
    aggregator->refs++;
    if (!aggregator->failed.code && fl_loop_offload(aggregator->program.loop, work, journal_synced,
                                                    aggregator, &aggregator->failed) == 0)
        return;
    aggregator->refs--;
    journal_failed(aggregator); /* syncing stays: no further action */
}

/* Of a record: that of which it is not written yet; the two after it follow. */
static enum fl_step step_of_record(int kind)
{
    static const enum fl_step steps[] = {[FL_RECORD_START] = FL_STEP_START_UNWRITTEN,
                                         [FL_RECORD_SPEC] = FL_STEP_SPEC_UNWRITTEN,
                                         [FL_RECORD_ATTEMPT] = FL_STEP_ATTEMPT_UNWRITTEN,
                                         [FL_RECORD_ACCEPT] = FL_STEP_ACCEPT_UNWRITTEN,
                                         [FL_RECORD_COMMIT] = FL_STEP_COMMIT_UNWRITTEN,
                                         [FL_RECORD_EVALUATE] = FL_STEP_EVALUATE_UNWRITTEN,
                                         [FL_RECORD_FAIL] = FL_STEP_FAIL_UNWRITTEN,
                                         [FL_RECORD_STOP] = FL_STEP_STOP_UNWRITTEN,
                                         /* it completes the spec */
                                         [FL_RECORD_BASE] = FL_STEP_SPEC_UNWRITTEN};

    return steps[kind];
}

static void write_journal(struct fl_aggregator *aggregator,
                          const struct fl_aggregator_action *action)
{
    const struct fl_bytes *line = action->body;
    const enum fl_step step = step_of_record(action->record);
    int r;

    program_step(aggregator, step);
    r = append(aggregator->journal, line->data, line->len);
    if (r < 0)
        (void)fl_error_errno(&aggregator->failed, -r, "append to the journal");
    program_step(aggregator, step + 1);
    aggregator->written = step + 2;
    make_durable(aggregator, sync_journal);
}

static void replace_journal(struct fl_aggregator *aggregator, struct fl_bytes *text)
{
    program_step(aggregator, FL_STEP_SHORTER_UNWRITTEN);
    aggregator->replacement = fl_bytes_ref(text);
    aggregator->written = FL_STEP_SHORTER_WRITTEN;
    make_durable(aggregator, replace_file);
}

static void cut_journal(struct fl_aggregator *aggregator, int64_t size)
{
    if (ftruncate(aggregator->journal, size) != 0) {
        (void)fl_error_errno(&aggregator->failed, errno, "cut the journal");
        aggregator->syncing = true;
        journal_failed(aggregator);
    }
}

static void members_changed(struct fl_aggregator *aggregator,
                            const struct fl_aggregator_action *action)
{
    if (!aggregator->learner)
        return;
    fl_learner_declare(aggregator->learner, program_now_ms(aggregator), action->examples,
                       action->learners);
    fl_uplink_pump(aggregator->uplink);
}

/* --- actions --- */

static void take(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    switch (action->kind) {
    case FL_AGGREGATOR_REPLY:
        program_reply(aggregator, action);
        break;
    case FL_AGGREGATOR_JOURNAL:
        write_journal(aggregator, action);
        break;
    case FL_AGGREGATOR_JOURNAL_REPLACE:
        replace_journal(aggregator, action->body);
        break;
    case FL_AGGREGATOR_CUT:
        cut_journal(aggregator, action->size);
        break;
    case FL_AGGREGATOR_EXPECT:
        program_expect(aggregator, action);
        break;
    case FL_AGGREGATOR_DISCARD:
        program_discard(aggregator, action->upload);
        break;
    case FL_AGGREGATOR_FOLD:
    case FL_AGGREGATOR_ADOPT:
        fold(aggregator, action);
        break;
    case FL_AGGREGATOR_FINISH:
    case FL_AGGREGATOR_PARTIAL:
        program_step(aggregator, FL_STEP_FINISHING);
        fl_folding_do(aggregator->folding, action, NULL);
        break;
    case FL_AGGREGATOR_BEGIN:
    case FL_AGGREGATOR_ABANDON:
        fl_folding_do(aggregator->folding, action, NULL);
        break;
    case FL_AGGREGATOR_RELEASE:
        program_release(aggregator, action->model, HELD_BY_CORE);
        break;
    case FL_AGGREGATOR_SWEEP:
        program_sweep(aggregator);
        break;
    case FL_AGGREGATOR_PARENT_RESULT:
        program_parent_result(aggregator, &action->parent);
        break;
    case FL_AGGREGATOR_MEMBERS:
        members_changed(aggregator, action);
        break;
    case FL_AGGREGATOR_STOPPED:
        aggregator->program.stopped(aggregator->program.user);
    }
}

/* Events that come from within (an upload that is forgotten, a task from above) only add actions;
 * the outer call takes them in their order. */
void program_pump(struct fl_aggregator *aggregator)
{
    const struct fl_aggregator_action *action;
    int64_t due, now;

    if (aggregator->pumping || aggregator->closed)
        return;
    aggregator->pumping = true;
    while (!aggregator->syncing && (action = fl_aggregator_next(aggregator->core)))
        take(aggregator, action);
    aggregator->pumping = false;
    due = fl_aggregator_deadline(aggregator->core);
    now = program_now_ms(aggregator);
    if (due == INT64_MAX)
        fl_timer_cancel(aggregator->timer);
    else
        fl_timer_arm(aggregator->timer, due > now ? due - now : 0);
}

static void on_timer(void *user)
{
    struct fl_aggregator *aggregator = user;

    fl_aggregator_tick(aggregator->core, program_now_ms(aggregator));
    program_pump(aggregator);
}

/* --- opening --- */

static int open_folders(struct fl_aggregator *aggregator, struct fl_error *err)
{
    const char *folder = aggregator->program.folder;
    FL_CLEANUP(fl_freep) char *models = fl_asprintf("%s/models", folder);
    const struct fl_blobs_options blobs = {
        .env = aggregator->program.env, .path = models, .checks = true};
    int r;

    aggregator->uploads_dir = fl_asprintf("%s/uploads", folder);
    aggregator->spill_dir = fl_asprintf("%s/spill", folder);
    aggregator->kept_path = fl_asprintf("%s/kept.json", folder);
    r = fl_blobs_open(&blobs, &aggregator->blobs, err); /* and so locks the folder */
    if (r == 0)
        r = fl_dir_remove(aggregator->spill_dir, err);
    if (r == 0)
        r = fl_dir_remove(aggregator->uploads_dir, err); /* their offers come again */
    return r < 0 ? r : fl_dir_ensure(aggregator->spill_dir, 0700, err);
}

static int open_journal(struct fl_aggregator *aggregator, struct fl_bytes **ret_text,
                        struct fl_error *err)
{
    const char *path = aggregator->journal_path =
        fl_asprintf("%s/journal", aggregator->program.folder);
    int r;

    /* Made so that its name is durable too. */
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        r = fl_file_write(path, "", 0, 0600, err);
        if (r < 0)
            return r;
    }
    r = fl_file_read(path, JOURNAL_MAX, ret_text, err);
    if (r < 0)
        return r;
    aggregator->journal = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    return aggregator->journal < 0 ? fl_error_errno(err, errno, "open %s", path) : 0;
}

static int make_core(struct fl_aggregator *aggregator, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_aggregator_options options = aggregator->program.core;
    int r = open_journal(aggregator, &text, err);

    options.has_parent = aggregator->program.parent != NULL;
    options.parent = aggregator->program.parent;
    if (r == 0)
        r = fl_aggregator_create(&options, program_now_ms(aggregator), text->data, text->len,
                                 &aggregator->core, err);
    return r;
}

static int open_folding(struct fl_aggregator *aggregator, struct fl_error *err)
{
    const struct fl_folding_options options = {.env = aggregator->program.env,
                                               .loop = aggregator->program.loop,
                                               .blobs = aggregator->blobs,
                                               .spill_dir = aggregator->spill_dir,
                                               .folded = folded,
                                               .user = aggregator};

    return fl_folding_create(&options, &aggregator->folding, err);
}

static int open_all(struct fl_aggregator *aggregator, struct fl_error *err)
{
    int r = open_folders(aggregator, err);

    if (r == 0)
        r = make_core(aggregator, err);
    if (r == 0)
        r = open_folding(aggregator, err);
    if (r == 0)
        r = program_open_bulk(aggregator, err);
    if (r == 0)
        r = program_open_parent(aggregator, err);
    return r < 0 ? r : program_open_http(aggregator, err);
}

int fl_aggregator_open(const struct fl_aggregator_program *program,
                       struct fl_aggregator **ret_aggregator, struct fl_error *err)
{
    FL_CLEANUP(fl_aggregator_closep)
    struct fl_aggregator *aggregator = fl_calloc(1, sizeof(*aggregator));
    int r;

    assert(program->env && program->loop && program->folder && program->stopped);

    aggregator->program = *program;
    aggregator->refs = 1;
    aggregator->journal = -1;
    aggregator->asked = fl_map_create(program_asked_destroy);
    aggregator->expected = fl_map_create(program_expected_destroy);
    aggregator->held = fl_map_create(NULL);
    aggregator->timer = fl_timer_create(program->loop, on_timer, aggregator);
    r = open_all(aggregator, err);
    if (r < 0)
        return r;
    program_pump(aggregator);
    if (aggregator->uplink)
        fl_uplink_pump(aggregator->uplink);
    *ret_aggregator = FL_TAKE(aggregator);
    return 0;
}

/* The journal's descriptor may be with a worker just now: it is closed with the last reference. */
void fl_aggregator_close(struct fl_aggregator *aggregator)
{
    if (!aggregator)
        return;
    aggregator->pumping = true; /* nothing is taken any more */
    fl_map_destroy(aggregator->asked);
    fl_uplink_destroy(aggregator->uplink);
    fl_http_server_destroy(aggregator->http);
    fl_bulk_server_destroy(aggregator->bulk);
    fl_folding_destroy(aggregator->folding);
    fl_timer_destroy(aggregator->timer);
    fl_learner_destroy(aggregator->learner);
    fl_aggregator_destroy(aggregator->core);
    fl_blobs_close(aggregator->blobs);
    fl_map_destroy(aggregator->expected);
    fl_map_destroy(aggregator->held);
    free(aggregator->uploads_dir);
    free(aggregator->spill_dir);
    free(aggregator->kept_path);
    aggregator->closed = true;
    unref(aggregator);
}

uint16_t fl_aggregator_port(const struct fl_aggregator *aggregator)
{
    return fl_http_server_port(aggregator->http);
}
