#include "workloads/trainer/host.h"

#include "lib/process.h"
#include "lib/str.h"
#include "workloads/trainer/link.h"
#include "workloads/trainer/messages.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define TICK_MS            50 /* between looks at cancellation and memory */
#define MEMORY_EVERY_MS    500
#define START_TIMEOUT_MS   (2 * 60 * 1000)
#define SILENCE_TIMEOUT_MS (5 * 60 * 1000)
#define CANCEL_TIMEOUT_MS  (10 * 1000)
#define KILL_TIMEOUT_MS    (30 * 1000) /* the kernel's work */
#define LINE_MAX_BYTES     4096
#define TRACEBACK_MAX      ((size_t)64 * 1024)
#define CAN_MAX            16

struct host {
    struct fl_trainer base;
    struct fl_trainer_ops ops; /* with the program's name */
    struct fl_env env;
    struct fl_trainer_program limits; /* without its texts */
    struct fl_link link;
    int socket, output, process;
    uint32_t last_id;
    bool dead;
    int64_t examples;
    json_t *hello;
    char line[LINE_MAX_BYTES]; /* under way */
    size_t line_len;
    char last_line[256];
    struct fl_trainer_failure failure;
};

/* What is asked, and what is to be done while waiting for the answer. */
struct question {
    unsigned type;
    json_t *head; /* stolen */
    const struct fl_body *body;
    int64_t timeout_ms;                   /* of silence */
    const struct fl_fit_options *options; /* of a fit, else NULL */
};

struct waiting {
    const struct question *question;
    struct fl_outgoing outgoing, cancel;
    bool sent, cancelling, cancel_sent;
    int64_t heard_ms, cancelled_ms, weighed_ms;
    uint32_t id;
};

/* Output */

static void finish_line(struct host *host)
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
static void take_output(struct host *host, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n' || host->line_len + 1 == sizeof(host->line))
            finish_line(host);
        if (data[i] != '\n')
            host->line[host->line_len++] = data[i] ? data[i] : ' ';
    }
}

/* What is there, and not without end: a program that only writes must not keep us from all else. */
static void read_output(struct host *host)
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

static int note_failure(struct host *host, const char *reason, int code, struct fl_error *err,
                        const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static int note_failure(struct host *host, const char *reason, int code, struct fl_error *err,
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
static const char *last_words(const struct host *host, char out[320])
{
    out[0] = '\0';
    if (host->last_line[0])
        (void)snprintf(out, 320, "; the last line it wrote: %s", host->last_line);
    return out;
}

/* Gone, with all that it started; false where the kernel could not end it. */
static bool end_process(struct host *host, struct fl_process_end *ret_end)
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

static int kill_for(struct host *host, const char *reason, int code, struct fl_error *err,
                    const char *what)
{
    struct fl_process_end end;
    char words[320];

    (void)end_process(host, &end);
    return note_failure(host, reason, code, err, "%s%s", what, last_words(host, words));
}

/* It has ended, or closed its socket and is about to. The group is killed after its own end is
 * known, so that this is told and not the kill. */
static int report_end(struct host *host, struct fl_error *err)
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

/* Its own error */

static int code_of(const char *reason)
{
    static const struct {
        const char *reason;
        int code;
    } codes[] = {{"Cancelled", FL_E_CONFLICT},
                 {"Invalid", FL_E_INVALID},
                 {"Unsupported", FL_E_NOT_ACCEPTABLE}};

    for (size_t i = 0; i < FL_COUNT_OF(codes); i++)
        if (strcmp(reason, codes[i].reason) == 0)
            return codes[i].code;
    return FL_E_INTERNAL;
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

static int report_error(struct host *host, const struct fl_frame *frame, struct fl_error *err)
{
    const char *reason = fl_json_str(frame->head, "reason");
    const char *message = fl_str_or(fl_json_str(frame->head, "message"), "it said no more");
    const char *traceback = fl_json_str(frame->head, "traceback");

    if (traceback)
        host->failure.traceback =
            fl_strndup(traceback, fl_utf8_cut(traceback, strlen(traceback), TRACEBACK_MAX));
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
static int take_frame(struct host *host, struct waiting *waiting, struct fl_frame *frame,
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

static int receive(struct host *host, struct waiting *waiting, struct fl_frame *ret_frame,
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
static void transmit(struct host *host, struct waiting *waiting)
{
    if (!waiting->sent)
        waiting->sent = fl_link_push(&host->link, &waiting->outgoing, NULL) != 0;
    if (waiting->sent && waiting->cancelling && !waiting->cancel_sent)
        waiting->cancel_sent = fl_link_push(&host->link, &waiting->cancel, NULL) != 0;
}

static void look_for_cancel(struct host *host, struct waiting *waiting)
{
    const struct fl_fit_options *options = waiting->question->options;
    json_t *head;

    if (waiting->cancelling || !options || !options->cancelled ||
        !options->cancelled(options->user))
        return;
    head = json_object();
    (void)json_object_set_new(head, "id", json_integer(waiting->id));
    waiting->cancelling = true;
    waiting->cancelled_ms = fl_monotonic_ms(&host->env);
    waiting->cancel_sent = fl_link_prepare(&host->link, FL_FRAME_CANCEL, ++host->last_id, head,
                                           NULL, &waiting->cancel, NULL) < 0;
}

static int check_memory(struct host *host, struct waiting *waiting, int64_t now,
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

static int check_deadlines(struct host *host, struct waiting *waiting, struct fl_error *err)
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
    return check_memory(host, waiting, now, err);
}

static void sleep_until_something(const struct host *host, const struct waiting *waiting)
{
    bool pending = !waiting->sent || (waiting->cancelling && !waiting->cancel_sent);
    struct fl_channel_wait waits[] = {
        {.fd = host->socket}, {.fd = host->output}, {.fd = pending ? host->socket : -1, true}};

    (void)fl_channel_wait(waits, FL_COUNT_OF(waits), TICK_MS);
}

static int await_answer(struct host *host, struct waiting *waiting, struct fl_frame *ret_frame,
                        struct fl_error *err)
{
    int r = 0;

    waiting->heard_ms = waiting->weighed_ms = fl_monotonic_ms(&host->env);
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

static void clear_failure(struct host *host)
{
    free(host->failure.traceback);
    host->failure = (struct fl_trainer_failure){.reason = ""};
}

/* The RESULT (the caller's). */
static int ask(struct host *host, const struct question *question, struct fl_frame *ret_frame,
               struct fl_error *err)
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
    clear_failure(host);
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

/* A result that makes no sense says that the program is wrong, not that it is gone. */
static int bad_result(struct host *host, const struct fl_error *why, struct fl_error *err)
{
    return note_failure(host, FL_TRAINER_BAD_RESULT, FL_E_INVALID, err, "%s", why->msg);
}

/* The table */

static int create_unneeded(const json_t *options, const struct fl_dataset *data,
                           struct fl_trainer **ret_trainer, struct fl_error *err)
{
    (void)options, (void)data, (void)ret_trainer;
    return fl_error_set(err, FL_E_INTERNAL, "a program is started, not created");
}

static void stop(struct host *host)
{
    const struct question question = {.type = FL_FRAME_STOP,
                                      .timeout_ms = host->limits.cancel_timeout_ms};
    struct fl_channel_wait wait = {.fd = host->process};
    struct fl_frame frame = {.fd = -1};
    struct fl_process_end end;

    if (ask(host, &question, &frame, NULL) == 0)
        (void)fl_channel_wait(&wait, 1, host->limits.cancel_timeout_ms);
    fl_frame_finish(&frame);
    if (!host->dead)
        (void)end_process(host, &end);
}

static void destroy(struct fl_trainer *self)
{
    struct host *host = (struct host *)self;

    if (!host)
        return;
    if (!host->dead && host->process >= 0)
        stop(host);
    fl_fd_closep(&host->socket);
    fl_fd_closep(&host->output);
    fl_fd_closep(&host->process);
    fl_link_finish(&host->link);
    clear_failure(host);
    json_decref(host->hello);
    free(host);
}

static int init(struct fl_trainer *self, uint64_t seed, struct fl_model **ret_model,
                struct fl_error *err)
{
    struct host *host = (struct host *)self;
    const struct question question = {.type = FL_FRAME_INIT,
                                      .head = fl_seed_to_head(seed),
                                      .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_error why = {0};
    int r = ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    r = fl_link_model(&host->link, &frame, &model, &why);
    if (r == 0)
        r = fl_model_check_finite(model, &why);
    if (r < 0)
        return bad_result(host, &why, err);
    *ret_model = FL_TAKE(model);
    return 0;
}

static int take_trained(const struct host *host, const struct fl_frame *frame,
                        const struct fl_model *base, struct fl_fit_result *result,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = fl_link_model(&host->link, frame, &model, err);

    if (r == 0)
        r = fl_model_check_like(base, model, err);
    if (r == 0)
        r = fl_model_check_finite(model, err);
    if (r == 0)
        r = fl_fit_result_from_head(frame->head, result, err);
    if (r == 0)
        result->model = FL_TAKE(model);
    return r;
}

static int fit(struct fl_trainer *self, const struct fl_model *base,
               const struct fl_fit_options *options, struct fl_fit_result *ret_result,
               struct fl_error *err)
{
    struct host *host = (struct host *)self;
    const struct fl_body body = {.model = base};
    const struct question question = {.type = FL_FRAME_FIT,
                                      .head = fl_fit_to_head(options),
                                      .body = &body,
                                      .timeout_ms = host->limits.silence_timeout_ms,
                                      .options = options};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r = ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    r = take_trained(host, &frame, base, ret_result, &why);
    return r < 0 ? bad_result(host, &why, err) : 0;
}

static int evaluate(struct fl_trainer *self, const struct fl_model *model,
                    struct fl_evaluation *ret_evaluation, struct fl_error *err)
{
    struct host *host = (struct host *)self;
    const struct fl_body body = {.model = model};
    const struct question question = {
        .type = FL_FRAME_EVALUATE, .body = &body, .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r = ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    r = fl_evaluation_from_head(frame.head, ret_evaluation, &why);
    return r < 0 ? bad_result(host, &why, err) : 0;
}

/* Starting */

static int start_process(struct host *host, const struct fl_trainer_program *program,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int theirs = -1, written = -1;
    struct fl_process_start start = {.argv = program->argv, .env = program->environ, .fd_count = 1};
    int channel[2], output[2], r;

    r = fl_channel_pair(channel, err);
    if (r < 0)
        return r;
    host->socket = channel[0];
    theirs = channel[1];
    r = fl_pipe_create(output, err);
    if (r < 0)
        return r;
    host->output = output[0];
    written = output[1];
    start.fds = &theirs;
    start.output = written;
    return fl_process_start(&start, &host->process, err);
}

static int say_hello(struct host *host, struct fl_error *err)
{
    json_t *head = json_pack("{s:i, s:b, s:I}", "version", FL_TRAINER_VERSION, "descriptors", 1,
                             "maxBodyBytes", (json_int_t)host->limits.max_model_bytes);
    const struct question question = {
        .type = FL_FRAME_HELLO, .head = head, .timeout_ms = host->limits.start_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    int64_t body_max;
    int r = ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    if (fl_json_int(frame.head, "version", 0) != FL_TRAINER_VERSION)
        return kill_for(host, FL_TRAINER_PROTOCOL, FL_E_INTERNAL, err,
                        "it answered hello with another version than 1");
    host->hello = json_incref(frame.head);
    host->examples = fl_json_int(frame.head, "examples", 0);
    host->ops.name = fl_str_or(fl_json_str(frame.head, "name"), "trainer");
    host->link.descriptors = fl_json_bool(frame.head, "descriptors", false);
    body_max = fl_json_int(frame.head, "maxBodyBytes", 0);
    if (body_max > 0 && (uint64_t)body_max < host->link.body_max)
        host->link.body_max = (uint64_t)body_max;
    return 0;
}

static int64_t or_default(int64_t value, int64_t fallback)
{
    return value > 0 ? value : fallback;
}

static struct host *make(const struct fl_trainer_program *program, const struct fl_env *env)
{
    struct host *host = fl_calloc(1, sizeof(*host));

    host->ops = (struct fl_trainer_ops){.name = "trainer",
                                        .create = create_unneeded,
                                        .destroy = destroy,
                                        .init = init,
                                        .fit = fit,
                                        .evaluate = evaluate};
    host->base.ops = &host->ops;
    host->env = *env;
    host->limits = *program;
    host->limits.argv = host->limits.environ = NULL;
    host->limits.start_timeout_ms = or_default(program->start_timeout_ms, START_TIMEOUT_MS);
    host->limits.silence_timeout_ms = or_default(program->silence_timeout_ms, SILENCE_TIMEOUT_MS);
    host->limits.cancel_timeout_ms = or_default(program->cancel_timeout_ms, CANCEL_TIMEOUT_MS);
    if (host->limits.max_model_bytes == 0)
        host->limits.max_model_bytes = FL_TRAINER_BODY_MAX;
    host->socket = host->output = host->process = -1;
    return host;
}

static void destroy_host(struct host **host)
{
    destroy(*host ? &(*host)->base : NULL);
}

int fl_trainer_start(const struct fl_trainer_program *program, const struct fl_env *env,
                     struct fl_trainer **ret_trainer, struct fl_error *err)
{
    FL_CLEANUP(destroy_host) struct host *host = make(program, env);
    int r = start_process(host, program, err);

    if (r < 0)
        return fl_error_wrap(err, FL_TRAINER_NOT_STARTED);
    fl_link_init(&host->link, host->socket, host->limits.max_model_bytes);
    r = say_hello(host, err);
    if (r < 0)
        return fl_error_wrap(err, FL_TRAINER_NOT_STARTED);
    *ret_trainer = &FL_TAKE(host)->base;
    return 0;
}

/* Of a trainer made here */

bool fl_trainer_has_ended(const struct fl_trainer *trainer)
{
    return ((const struct host *)trainer)->dead;
}

const struct fl_trainer_failure *fl_trainer_last_failure(const struct fl_trainer *trainer)
{
    return &((const struct host *)trainer)->failure;
}

const char *fl_trainer_name(const struct fl_trainer *trainer)
{
    return ((const struct host *)trainer)->ops.name;
}

int64_t fl_trainer_examples(const struct fl_trainer *trainer)
{
    return ((const struct host *)trainer)->examples;
}

bool fl_trainer_can(const struct fl_trainer *trainer, const char *request)
{
    const json_t *can = json_object_get(((const struct host *)trainer)->hello, "can");

    for (size_t i = 0; i < json_array_size(can) && i < CAN_MAX; i++)
        if (fl_streq(json_string_value(json_array_get(can, i)), request))
            return true;
    return false;
}

static int take_bytes(const struct fl_frame *frame, struct fl_bytes **ret_bytes,
                      struct fl_error *err)
{
    size_t size = (size_t)frame->body_size;
    void *map;
    int r;

    if (frame->fd < 0) {
        *ret_bytes = fl_bytes_new(frame->body ? frame->body : "", size);
        return 0;
    }
    r = fl_sealed_check(frame->fd, frame->body_size, err);
    if (r < 0)
        return r;
    map = size > 0 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, frame->fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        return fl_error_set(err, FL_E_INVALID, "what it exported cannot be mapped");
    *ret_bytes = fl_bytes_new(map, size);
    (void)munmap(map, size);
    return 0;
}

int fl_trainer_export(struct fl_trainer *trainer, const struct fl_model *model, const char *format,
                      struct fl_bytes **ret_bytes, struct fl_error *err)
{
    struct host *host = (struct host *)trainer;
    json_t *head = json_object();
    const struct fl_body body = {.model = model};
    const struct question question = {.type = FL_FRAME_EXPORT,
                                      .head = head,
                                      .body = &body,
                                      .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r;

    fl_json_set_str(head, "format", format);
    r = ask(host, &question, &frame, err);
    if (r < 0)
        return r;
    r = take_bytes(&frame, ret_bytes, &why);
    return r < 0 ? bad_result(host, &why, err) : 0;
}
