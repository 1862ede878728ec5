/* One question and its answer, whatever the program does meanwhile. */
#include "workloads/trainer/host_internal.h"

#include "lib/process.h"
#include "lib/str.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TICK_MS         50 /* between looks at cancellation and memory */
#define MEMORY_EVERY_MS 500
#define KILL_TIMEOUT_MS (30 * 1000) /* the kernel's work */
#define TRACEBACK_MAX   ((size_t)64 * 1024)

struct waiting {
    const struct fl_host_question *question;
    struct fl_outgoing outgoing, cancel;
    bool sent, cancelling, cancel_sent;
    int64_t asked_ms, heard_ms, cancelled_ms, weighed_ms;
    uint32_t id;
};

/* Output */

static void finish_line(struct fl_host *host)
{
    host->line[host->line_len] = '\0';
    if (host->line_len > 0) {
        size_t len = fl_utf8_cut(host->line, host->line_len, sizeof(host->last_line) - 1);

        memcpy(host->last_line, host->line, len);
        host->last_line[len] = '\0';
    }
    if (host->limits.output)
        host->limits.output(host->limits.user, host->line);
    host->line_len = 0;
}

/* A NUL would end the line for those who read it; a line too long is cut in pieces. */
static void take_output(struct fl_host *host, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n' || host->line_len + 1 == sizeof(host->line))
            finish_line(host);
        if (data[i] != '\n')
            host->line[host->line_len++] = data[i] ? data[i] : ' ';
    }
}

/* What is there, and not without end: a program that only writes must not keep us from all else. */
static void read_output(struct fl_host *host)
{
    char data[4096];
    size_t len = 1;

    for (int i = 0; i < 16 && len > 0 && host->output >= 0; i++) {
        if (fl_pipe_read(host->output, data, sizeof(data), &len) > 0) {
            fl_fd_closep(&host->output);
            host->output = -1;
            break;
        }
        take_output(host, data, len);
    }
}

/* Failures */

static int note_failure(struct fl_host *host, const char *reason, int code, struct fl_error *err,
                        const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static int note_failure(struct fl_host *host, const char *reason, int code, struct fl_error *err,
                        const char *fmt, ...)
{
    struct fl_trainer_failure *failure = &host->failure;
    va_list ap;

    (void)snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
    va_start(ap, fmt);
    (void)vsnprintf(failure->message, sizeof(failure->message), fmt, ap);
    va_end(ap);
    return fl_error_set(err, code, "%s: %s", failure->reason, failure->message);
}

/* " (its last line: …)" */
static const char *last_words(const struct fl_host *host, char out[320])
{
    out[0] = '\0';
    if (host->last_line[0])
        (void)snprintf(out, 320, "; the last line it wrote: %s", host->last_line);
    return out;
}

/* Gone, with all that it started; false where the kernel could not end it. */
static bool end_process(struct fl_host *host, struct fl_process_end *ret_end)
{
    struct fl_channel_wait wait = {.fd = host->process};
    bool ended = true;

    fl_process_signal_group(host->process, SIGKILL);
    while (ended && !fl_process_take_end(host->process, ret_end))
        ended = fl_channel_wait(&wait, 1, KILL_TIMEOUT_MS) > 0;
    read_output(host);
    if (host->line_len > 0)
        finish_line(host);
    host->dead = true;
    return ended;
}

static int kill_for(struct fl_host *host, const char *reason, int code, struct fl_error *err,
                    const char *what)
{
    struct fl_process_end end;
    char words[320];

    (void)end_process(host, &end);
    return note_failure(host, reason, code, err, "%s%s", what, last_words(host, words));
}

/* It has ended, or closed its socket and is about to. The group is killed after its own end is
 * known, so that this is told and not the kill. */
static int report_end(struct fl_host *host, struct fl_error *err)
{
    struct fl_channel_wait wait = {.fd = host->process};
    struct fl_process_end end = {0};
    char words[320], name[FL_SIGNAL_NAME_SIZE];

    if (fl_channel_wait(&wait, 1, host->limits.cancel_timeout_ms) == 0)
        return kill_for(host, FL_TRAINER_PROTOCOL, FL_E_INTERNAL, err,
                        "it closed its connection and went on");
    (void)end_process(host, &end);
    if (end.signum == 0)
        return note_failure(host, FL_TRAINER_EXITED, FL_E_UNAVAILABLE, err,
                            "it exited with status %d%s", end.status, last_words(host, words));
    fl_signal_name(end.signum, name);
    return note_failure(host, FL_TRAINER_CRASHED, FL_E_UNAVAILABLE, err, "it was ended by %s%s%s",
                        name, end.signum == SIGKILL ? " (was the machine out of memory?)" : "",
                        last_words(host, words));
}

/* Its own error. What follows from model, data and seed comes again when it is tried again, so it
 * is not; memory may be there the next time. */

static int code_of(const char *reason)
{
    static const struct {
        const char *reason;
        int code;
    } codes[] = {{"Cancelled", FL_E_CONFLICT},
                 {"OutOfMemory", FL_E_UNAVAILABLE},
                 {"Unsupported", FL_E_NOT_ACCEPTABLE}};

    for (size_t i = 0; i < FL_COUNT_OF(codes); i++)
        if (strcmp(reason, codes[i].reason) == 0)
            return codes[i].code;
    return FL_E_INVALID;
}

static bool is_word(const char *text)
{
    size_t len = text ? strlen(text) : 0;

    for (size_t i = 0; i < len; i++)
        if (!((text[i] >= 'A' && text[i] <= 'Z') || (text[i] >= 'a' && text[i] <= 'z') ||
              (i > 0 && text[i] >= '0' && text[i] <= '9')))
            return false;
    return len > 0 && len < sizeof(((struct fl_trainer_failure *)NULL)->reason);
}

/* As if it had written them. */
static void tell_lines(const struct fl_host *host, const char *text)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    for (const char *rest = text; host->limits.output && rest && *rest;)
        host->limits.output(host->limits.user, fl_str_next(arena, &rest, '\n'));
}

static int report_error(struct fl_host *host, const struct fl_frame *frame, struct fl_error *err)
{
    const char *reason = fl_json_str(frame->head, "reason");
    const char *message = fl_str_or(fl_json_str(frame->head, "message"), "it said no more");
    const char *traceback = fl_json_str(frame->head, "traceback");

    if (traceback) {
        host->failure.traceback =
            fl_strndup(traceback, fl_utf8_cut(traceback, strlen(traceback), TRACEBACK_MAX));
        tell_lines(host, host->failure.traceback);
    }
    if (!is_word(reason))
        reason = "TrainerFailed";
    return note_failure(
        host, reason, code_of(reason), err, "%.*s",
        (int)fl_utf8_cut(message, strlen(message), sizeof(host->failure.message) - 1), message);
}

/* Waiting */

static void on_progress(const struct waiting *waiting, const struct fl_frame *frame)
{
    const struct fl_fit_options *options = waiting->question->options;
    int64_t done = fl_json_int(frame->head, "done", 0), all = fl_json_int(frame->head, "of", 0);

    if (options && options->progress && done >= 0 && all >= done)
        options->progress(options->user, done, all);
}

/* 1: the answer; 0: something else. */
static int take_frame(struct fl_host *host, struct waiting *waiting, struct fl_frame *frame,
                      struct fl_error *err)
{
    char what[128];

    waiting->heard_ms = fl_monotonic_ms(&host->env);
    if (frame->id == waiting->id && waiting->sent) {
        if (frame->type == FL_FRAME_RESULT || frame->type == FL_FRAME_ERROR)
            return 1;
        if (frame->type == FL_FRAME_PROGRESS) {
            on_progress(waiting, frame);
            fl_frame_finish(frame);
            return 0;
        }
    }
    (void)snprintf(what, sizeof(what), "it sent %s for request %" PRIu32 ", which was not awaited",
                   fl_frame_type_name(frame->type), frame->id);
    fl_frame_finish(frame);
    return kill_for(host, FL_TRAINER_PROTOCOL, FL_E_INTERNAL, err, what);
}

static int receive(struct fl_host *host, struct waiting *waiting, struct fl_frame *ret_frame,
                   struct fl_error *err)
{
    struct fl_error why = {0};
    int r;

    while ((r = fl_link_pull(&host->link, ret_frame, &why)) > 0) {
        r = take_frame(host, waiting, ret_frame, err);
        if (r != 0)
            return r;
    }
    if (r == FL_E_UNAVAILABLE)
        return report_end(host, err);
    return r < 0 ? kill_for(host, FL_TRAINER_PROTOCOL, FL_E_INTERNAL, err, why.msg) : 0;
}

/* A socket that has ended is told by receive, which knows more. */
static void transmit(struct fl_host *host, struct waiting *waiting)
{
    if (!waiting->sent)
        waiting->sent = fl_link_push(&host->link, &waiting->outgoing, NULL) != 0;
    if (waiting->sent && waiting->cancelling && !waiting->cancel_sent)
        waiting->cancel_sent = fl_link_push(&host->link, &waiting->cancel, NULL) != 0;
}

static bool is_unwanted(const struct fl_host *host, const struct fl_host_question *question)
{
    const struct fl_fit_options *options = question->options;

    if (options)
        return options->cancelled && options->cancelled(options->user);
    return (question->type == FL_FRAME_INIT || question->type == FL_FRAME_EVALUATE) &&
           host->limits.cancelled && host->limits.cancelled(host->limits.user);
}

static void look_for_cancel(struct fl_host *host, struct waiting *waiting)
{
    json_t *head;

    if (waiting->cancelling || !is_unwanted(host, waiting->question))
        return;
    head = json_object();
    (void)json_object_set_new(head, "id", json_integer(waiting->id));
    waiting->cancelling = true;
    waiting->cancelled_ms = fl_monotonic_ms(&host->env);
    waiting->cancel_sent = fl_link_prepare(&host->link, FL_FRAME_CANCEL, ++host->last_id, head,
                                           NULL, &waiting->cancel, NULL) < 0;
}

static int check_memory(struct fl_host *host, struct waiting *waiting, int64_t now,
                        struct fl_error *err)
{
    uint64_t used, max = host->limits.max_memory_bytes;
    char what[128];

    if (max == 0 || now - waiting->weighed_ms < MEMORY_EVERY_MS)
        return 0;
    waiting->weighed_ms = now;
    used = fl_process_memory(host->process);
    if (used <= max)
        return 0;
    (void)snprintf(what, sizeof(what), "it used %" PRIu64 " MiB of memory, more than %" PRIu64,
                   used >> 20, max >> 20);
    return kill_for(host, FL_TRAINER_TOO_BIG, FL_E_UNAVAILABLE, err, what);
}

/* Starting has a deadline of its own. */
static bool is_too_slow(const struct fl_host *host, const struct waiting *waiting, int64_t now)
{
    return host->limits.work_timeout_ms > 0 && waiting->question->type != FL_FRAME_HELLO &&
           now - waiting->asked_ms > host->limits.work_timeout_ms;
}

static int check_deadlines(struct fl_host *host, struct waiting *waiting, struct fl_error *err)
{
    int64_t now = fl_monotonic_ms(&host->env);
    char what[128];

    if (waiting->cancelling && now - waiting->cancelled_ms > host->limits.cancel_timeout_ms)
        return kill_for(host, FL_TRAINER_WOULD_NOT_STOP, FL_E_CONFLICT, err,
                        "it was cancelled and did not stop in time");
    if (now - waiting->heard_ms > waiting->question->timeout_ms) {
        (void)snprintf(what, sizeof(what), "it said nothing for %" PRId64 " ms while asked to %s",
                       now - waiting->heard_ms, fl_frame_type_name(waiting->question->type));
        return kill_for(host, FL_TRAINER_HUNG, FL_E_UNAVAILABLE, err, what);
    }
    if (is_too_slow(host, waiting, now)) {
        (void)snprintf(what, sizeof(what), "it worked for %" PRId64 " ms when asked to %s",
                       now - waiting->asked_ms, fl_frame_type_name(waiting->question->type));
        return kill_for(host, FL_TRAINER_TOO_SLOW, FL_E_UNAVAILABLE, err, what);
    }
    return check_memory(host, waiting, now, err);
}

static void sleep_until_something(const struct fl_host *host, const struct waiting *waiting)
{
    bool pending = !waiting->sent || (waiting->cancelling && !waiting->cancel_sent);
    struct fl_channel_wait waits[] = {
        {.fd = host->socket}, {.fd = host->output}, {.fd = pending ? host->socket : -1, true}};

    (void)fl_channel_wait(waits, FL_COUNT_OF(waits), TICK_MS);
}

static int await_answer(struct fl_host *host, struct waiting *waiting, struct fl_frame *ret_frame,
                        struct fl_error *err)
{
    int r = 0;

    waiting->asked_ms = waiting->heard_ms = waiting->weighed_ms = fl_monotonic_ms(&host->env);
    while (r == 0) {
        transmit(host, waiting);
        sleep_until_something(host, waiting);
        read_output(host);
        look_for_cancel(host, waiting);
        r = receive(host, waiting, ret_frame, err);
        if (r == 0)
            r = check_deadlines(host, waiting, err);
    }
    return r < 0 ? r : 0;
}

void fl_host_clear_failure(struct fl_host *host)
{
    free(host->failure.traceback);
    host->failure = (struct fl_trainer_failure){.reason = ""};
}

int fl_host_ask(struct fl_host *host, const struct fl_host_question *question,
                struct fl_frame *ret_frame, struct fl_error *err)
{
    struct waiting waiting = {.question = question,
                              .outgoing = {.fd = -1},
                              .cancel = {.fd = -1},
                              .id = host->last_id + 1};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    int r;

    if (host->dead) {
        json_decref(question->head);
        return fl_error_set(err, FL_E_UNAVAILABLE, "the trainer has ended: %s: %s",
                            host->failure.reason, host->failure.message);
    }
    fl_host_clear_failure(host);
    host->last_id++;
    r = fl_link_prepare(&host->link, question->type, waiting.id, question->head, question->body,
                        &waiting.outgoing, err);
    if (r == 0)
        r = await_answer(host, &waiting, &frame, err);
    fl_outgoing_finish(&waiting.outgoing);
    fl_outgoing_finish(&waiting.cancel);
    if (r < 0)
        return r;
    if (frame.type == FL_FRAME_ERROR)
        return report_error(host, &frame, err);
    *ret_frame = frame;
    frame = (struct fl_frame){.fd = -1};
    return 0;
}

int fl_host_bad_result(struct fl_host *host, const struct fl_error *why, struct fl_error *err)
{
    return note_failure(host, FL_TRAINER_BAD_RESULT, FL_E_INVALID, err, "%s", why->msg);
}

int fl_host_refuse(struct fl_host *host, struct fl_error *err, const char *what)
{
    return kill_for(host, FL_TRAINER_PROTOCOL, FL_E_INTERNAL, err, what);
}

void fl_host_kill(struct fl_host *host)
{
    struct fl_process_end end;

    (void)end_process(host, &end);
}
