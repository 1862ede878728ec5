#include "workloads/trainer/guest.h"

#include "lib/str.h"
#include "workloads/trainer/link.h"
#include "workloads/trainer/messages.h"

#define LISTEN_MS   20 /* between looks for a cancellation while training */
#define PROGRESS_MS 250
#define WAIT_MS     (60 * 1000)

struct guest {
    struct fl_link link;
    const struct fl_env *env;
    struct fl_trainer *trainer; /* NULL: it could not be made, because of `why` */
    const struct fl_error *why;
    int64_t examples;
    struct fl_frame queued; /* came while a request was worked on; type 0: none */
    uint32_t id;            /* of the request being worked on */
    bool cancelled, gone;
    int64_t listened_ms, told_ms;
};

/* Waits as long as the learner needs to read: it looks after us, not we after it. */
static int send_frame(struct guest *guest, unsigned type, json_t *head, const struct fl_body *body,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_outgoing_finish) struct fl_outgoing outgoing = {.fd = -1};
    int r = fl_link_prepare(&guest->link, type, guest->id, head, body, &outgoing, err);

    if (r < 0)
        return r;
    while ((r = fl_link_push(&guest->link, &outgoing, err)) == 0) {
        struct fl_channel_wait wait = {.fd = guest->link.fd, .write = true};

        (void)fl_channel_wait(&wait, 1, WAIT_MS);
    }
    return r < 0 ? r : 0;
}

/* Answers */

static int answer_error(struct guest *guest, const char *reason, const char *message,
                        struct fl_error *err)
{
    json_t *head = json_object();

    fl_json_set_str(head, "reason", reason);
    fl_json_set_str(head, "message", message);
    return send_frame(guest, FL_FRAME_ERROR, head, NULL, err);
}

static int answer_failure(struct guest *guest, const struct fl_error *why, struct fl_error *err)
{
    const char *reason = guest->cancelled ? "Cancelled" : fl_error_reason(why->code);

    return answer_error(guest, reason, why->msg, err);
}

static int answer_result(struct guest *guest, json_t *head, const struct fl_model *model,
                         struct fl_error *err)
{
    const struct fl_body body = {.model = model};
    struct fl_error why = {0};
    int r = send_frame(guest, FL_FRAME_RESULT, head, model ? &body : NULL, &why);

    if (r == FL_E_TOO_LARGE)
        return answer_failure(guest, &why, err);
    return r < 0 ? fl_error_set(err, r, "%s", why.msg) : 0;
}

/* While training */

/* A cancellation of another request is one that came too late. */
static void take_early(struct guest *guest, struct fl_frame *frame)
{
    if (frame->type != FL_FRAME_CANCEL) {
        guest->queued = *frame;
        return;
    }
    if (fl_json_int(frame->head, "id", -1) == (int64_t)guest->id)
        guest->cancelled = true;
    fl_frame_finish(frame);
}

static bool is_cancelled(void *user)
{
    struct guest *guest = user;
    int64_t now = fl_monotonic_ms(guest->env);
    struct fl_frame frame = {.fd = -1};
    int r;

    if (now - guest->listened_ms < LISTEN_MS || guest->queued.type != 0)
        return guest->cancelled || guest->gone;
    guest->listened_ms = now;
    r = fl_link_pull(&guest->link, &frame, NULL);
    if (r > 0)
        take_early(guest, &frame);
    if (r < 0)
        guest->gone = true;
    return guest->cancelled || guest->gone;
}

static void tell_progress(void *user, int64_t done_steps, int64_t all_steps)
{
    struct guest *guest = user;
    int64_t now = fl_monotonic_ms(guest->env);
    json_t *head;

    if (now - guest->told_ms < PROGRESS_MS || guest->gone)
        return;
    guest->told_ms = now;
    head = json_object();
    (void)json_object_set_new(head, "done", json_integer(done_steps));
    (void)json_object_set_new(head, "of", json_integer(all_steps));
    if (send_frame(guest, FL_FRAME_PROGRESS, head, NULL, NULL) < 0)
        guest->gone = true;
}

/* Requests. Each has the request's frame and answers it; < 0: the socket is of no use any more. */

static int on_hello(struct guest *guest, const struct fl_frame *frame, struct fl_error *err)
{
    int64_t body_max = fl_json_int(frame->head, "maxBodyBytes", 0);
    json_t *head;

    if (guest->why)
        return answer_failure(guest, guest->why, err);
    if (fl_json_int(frame->head, "version", 0) < FL_TRAINER_VERSION)
        return answer_error(guest, "Unsupported", "this trainer speaks version 1", err);
    guest->link.descriptors = fl_json_bool(frame->head, "descriptors", false);
    if (body_max > 0 && (uint64_t)body_max < guest->link.body_max)
        guest->link.body_max = (uint64_t)body_max;
    head = json_pack("{s:i, s:s, s:b, s:I, s:[s,s,s], s:I}", "version", FL_TRAINER_VERSION, "name",
                     guest->trainer->ops->name, "descriptors", 1, "maxBodyBytes",
                     (json_int_t)FL_TRAINER_BODY_MAX, "can", "init", "fit", "evaluate", "examples",
                     (json_int_t)guest->examples);
    return answer_result(guest, head, NULL, err);
}

static int on_init(struct guest *guest, const struct fl_frame *frame, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_error why = {0};
    uint64_t seed;
    int r;

    r = fl_seed_from_head(frame->head, &seed, &why);
    if (r == 0)
        r = guest->trainer->ops->init(guest->trainer, seed, &model, &why);
    return r < 0 ? answer_failure(guest, &why, err) : answer_result(guest, NULL, model, err);
}

static int on_fit(struct guest *guest, const struct fl_frame *frame, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    FL_JSON metrics = NULL;
    struct fl_fit_options options;
    struct fl_fit_result result = {0};
    struct fl_error why = {0};
    int r;

    r = fl_fit_from_head(frame->head, &options, &why);
    if (r == 0)
        r = fl_link_model(&guest->link, frame, &base, &why);
    if (r < 0)
        return answer_failure(guest, &why, err);
    options.cancelled = is_cancelled;
    options.progress = tell_progress;
    options.user = guest;
    r = guest->trainer->ops->fit(guest->trainer, base, &options, &result, &why);
    if (r < 0)
        return answer_failure(guest, &why, err);
    model = result.model;
    metrics = result.metrics;
    return answer_result(guest, fl_fit_result_to_head(&result), model, err);
}

static int on_evaluate(struct guest *guest, const struct fl_frame *frame, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    FL_JSON metrics = NULL;
    struct fl_evaluation evaluation = {0};
    struct fl_error why = {0};
    int r;

    r = fl_link_model(&guest->link, frame, &model, &why);
    if (r == 0)
        r = guest->trainer->ops->evaluate(guest->trainer, model, &evaluation, &why);
    if (r < 0)
        return answer_failure(guest, &why, err);
    metrics = evaluation.metrics;
    return answer_result(guest, fl_evaluation_to_head(&evaluation), NULL, err);
}

static int on_request(struct guest *guest, const struct fl_frame *frame, struct fl_error *err)
{
    guest->id = frame->id;
    guest->cancelled = false;
    guest->told_ms = fl_monotonic_ms(guest->env);
    if (guest->why && frame->type != FL_FRAME_STOP)
        return answer_failure(guest, guest->why, err);
    switch (frame->type) {
    case FL_FRAME_HELLO:
        return on_hello(guest, frame, err);
    case FL_FRAME_INIT:
        return on_init(guest, frame, err);
    case FL_FRAME_FIT:
        return on_fit(guest, frame, err);
    case FL_FRAME_EVALUATE:
        return on_evaluate(guest, frame, err);
    case FL_FRAME_EXPORT:
        return answer_error(guest, "Unsupported", "this trainer exports nothing", err);
    case FL_FRAME_LOAD:
    case FL_FRAME_PREDICT:
        return answer_error(guest, "Unsupported",
                            "what a builtin trainer made is served without it", err);
    case FL_FRAME_LEARNER:
        return answer_error(guest, "Unsupported", "this trainer serves one learner", err);
    case FL_FRAME_CANCEL: /* of what is answered already */
        return 0;
    case FL_FRAME_STOP:
        return answer_result(guest, NULL, NULL, err);
    default:
        return fl_error_set(err, FL_E_INVALID, "a learner does not send %s",
                            fl_frame_type_name(frame->type));
    }
}

/* 1: a frame; 0: the other side is gone. */
static int next_frame(struct guest *guest, struct fl_frame *ret_frame, struct fl_error *err)
{
    int r = 0;

    if (guest->queued.type != 0) {
        *ret_frame = guest->queued;
        guest->queued = (struct fl_frame){.fd = -1};
        return 1;
    }
    while (r == 0 && !guest->gone) {
        struct fl_channel_wait wait = {.fd = guest->link.fd};

        r = fl_link_pull(&guest->link, ret_frame, err);
        if (r == 0)
            (void)fl_channel_wait(&wait, 1, WAIT_MS);
    }
    return r == FL_E_UNAVAILABLE ? 0 : r;
}

static int serve(struct guest *guest, struct fl_error *err)
{
    for (;;) {
        FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
        int r = next_frame(guest, &frame, err);

        if (r <= 0)
            return r;
        r = on_request(guest, &frame, err);
        if (r == FL_E_UNAVAILABLE || (r == 0 && frame.type == FL_FRAME_STOP))
            return 0;
        if (r < 0)
            return r;
    }
}

static int run(struct guest *guest, int fd, struct fl_error *err)
{
    int r = fl_channel_adopt(fd, err);

    if (r < 0)
        return fl_error_wrap(err, "a trainer is started by a learner, which gives it a socket");
    fl_link_init(&guest->link, fd, FL_TRAINER_BODY_MAX);
    r = serve(guest, err);
    fl_frame_finish(&guest->queued);
    fl_link_finish(&guest->link);
    return r;
}

int fl_trainer_serve(int fd, const struct fl_env *env, struct fl_trainer *trainer, int64_t examples,
                     struct fl_error *err)
{
    struct guest guest = {
        .env = env, .trainer = trainer, .examples = examples, .queued = {.fd = -1}};

    return run(&guest, fd, err);
}

void fl_trainer_refuse(int fd, const struct fl_env *env, const struct fl_error *why)
{
    struct guest guest = {.env = env, .why = why, .queued = {.fd = -1}};

    (void)run(&guest, fd, NULL);
}
