#include "hack/bench/crowd/crowd.h"

#include "lib/digest.h"
#include "lib/str.h"
#include "workloads/learner/learner_core.h"
#include "workloads/tensor/safetensors.h"
#include "workloads/transfer/bulk_parse.h"
#include "workloads/transfer/crc32c.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES ((int64_t)4 << 20)   /* as workloads/transfer/bulk_client.h */
#define CACHE_BYTES ((size_t)128 * 1024) /* are still there at a second look */
#define MODELS      4

enum lane { POLL, CALL, DOWNLOAD, UPLOAD, LANES };

struct model {
    char digest[FL_DIGEST_SIZE]; /* "": none */
    struct fl_bytes *bytes;
    struct fl_bytes *crcs; /* uint32_t of each chunk; NULL: it is not to be sent */
};

/* One request or transfer under way, and what it sends. */
struct errand {
    struct member *member;
    enum lane lane;
    struct bench_http *http;
    uint64_t ticket; /* 0: none */
    struct fl_bytes *body, *crcs;
    char digest[FL_DIGEST_SIZE];
    char path[256];
    int64_t offset;
};

/* What a worker does: one at a time for each member. */
struct lesson {
    struct member *member;
    struct fl_arena *arena;
    uint64_t ticket;
    bool download, cancelled; /* the first: only its digest is to be checked */
    struct fl_task task;
    struct fl_bytes *base, *update, *crcs;
    struct fl_offer offer;
    char digest[FL_DIGEST_SIZE];
    int result;
    struct fl_error err;
};

struct member {
    struct crowd *crowd;
    struct fl_learner_core *core;
    struct fl_timer *timer;
    struct fl_trainer *trainer;
    float mark; /* what an echo changes */
    struct errand errands[LANES];
    struct model models[MODELS];
    struct lesson *running, *waiting;
    bool pumping;
};

static void pump(struct member *member);

static void die(const struct member *member, const char *what, const struct fl_error *err)
{
    (void)fprintf(stderr, "crowd: %s: %s: %s\n", member ? "a learner" : "all", what, err->msg);
    exit(1);
}

static int64_t now_ms(const struct member *member)
{
    return fl_monotonic_ms(member->crowd->env);
}

/* --- models in memory --- */

static struct model *find_model(struct member *member, const char *digest)
{
    for (size_t i = 0; i < MODELS; i++)
        if (strcmp(member->models[i].digest, digest) == 0)
            return &member->models[i];
    return NULL;
}

static void forget_model(struct model *model)
{
    fl_bytes_unref(FL_TAKE(model->bytes));
    fl_bytes_unref(FL_TAKE(model->crcs));
    model->digest[0] = '\0';
}

static void keep_model(struct member *member, const char *digest, struct fl_bytes *bytes,
                       struct fl_bytes *crcs)
{
    struct model *model = find_model(member, digest);

    if (model)
        forget_model(model);
    else
        model = find_model(member, "");
    if (!model)
        die(member, "keeps too many models", &(struct fl_error){.msg = "none was released"});
    (void)snprintf(model->digest, sizeof(model->digest), "%s", digest);
    model->bytes = fl_bytes_ref(bytes);
    model->crcs = crcs ? fl_bytes_ref(crcs) : NULL;
}

/* --- lessons, on a worker --- */

static struct fl_bytes *file_of(const struct fl_model *model)
{
    size_t size;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = fl_safetensors_header(model, &size);
    struct fl_bytes *file = fl_bytes_new(NULL, size);

    memcpy(file->data, header->data, header->len);
    memcpy(file->data + header->len, model->data, model->size);
    return file;
}

/* In place: the base is fetched anew where it is wanted once more. */
static void echo(struct lesson *lesson)
{
    uint64_t header;

    lesson->update = fl_bytes_ref(lesson->base);
    memcpy(&header, lesson->update->data, sizeof(header));
    memcpy(lesson->update->data + sizeof(header) + header, &lesson->member->mark, sizeof(float));
    lesson->offer.examples = lesson->offer.steps = 1;
}

static void fit(struct lesson *lesson)
{
    struct fl_trainer *trainer = lesson->member->trainer;
    const struct fl_local_options *local = &lesson->task.local;
    const struct fl_fit_options options = {.epochs = local->epochs,
                                           .batch_size = local->batch_size,
                                           .learning_rate = local->learning_rate,
                                           .momentum = local->momentum,
                                           .proximal_mu = local->proximal_mu,
                                           .weight_decay = local->weight_decay,
                                           .seed = (uint64_t)lesson->task.seed};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    struct fl_fit_result result = {0};

    lesson->result =
        fl_safetensors_read(lesson->base->data, lesson->base->len, NULL, &base, &lesson->err);
    if (lesson->result == 0)
        lesson->result = trainer->ops->fit(trainer, base, &options, &result, &lesson->err);
    if (lesson->result < 0)
        return;
    lesson->offer.examples = result.examples;
    lesson->offer.steps = result.steps;
    lesson->offer.loss_before = result.loss_before;
    lesson->offer.loss = result.loss;
    lesson->update = file_of(result.model);
    fl_model_unref(result.model);
    json_decref(result.metrics);
}

/* The digest, and what the chunks will have to say of themselves, in one go. */
static void digest_of(const struct fl_bytes *bytes, enum fl_digest_kind kind,
                      char out[FL_DIGEST_SIZE], uint32_t *crcs)
{
    FL_CLEANUP(fl_hash_destroyp) struct fl_hash *hash = fl_hash_create(kind);

    for (size_t at = 0; at < bytes->len; at += CACHE_BYTES) {
        const size_t len = bytes->len - at < CACHE_BYTES ? bytes->len - at : CACHE_BYTES;
        uint32_t *crc = &crcs[at / CHUNK_BYTES];

        fl_hash_add(hash, bytes->data + at, len);
        *crc = fl_crc32c(at % CHUNK_BYTES ? *crc : 0, bytes->data + at, len);
    }
    fl_hash_end(hash, out);
}

static void learn(void *user)
{
    struct lesson *lesson = user;
    const struct fl_bytes *made = lesson->base;

    if (!lesson->download) {
        if (lesson->member->trainer)
            fit(lesson);
        else
            echo(lesson);
        made = lesson->update;
    }
    if (lesson->result < 0)
        return;
    lesson->crcs = fl_bytes_new(NULL, (made->len / CHUNK_BYTES + 1) * sizeof(uint32_t));
    digest_of(made, lesson->download ? FL_DIGEST_SHA256 : FL_DIGEST_XXH128, lesson->digest,
              (uint32_t *)lesson->crcs->data);
}

/* --- lessons, on the loop --- */

static void lesson_destroy(struct lesson *lesson)
{
    if (!lesson)
        return;
    fl_bytes_unref(lesson->base);
    fl_bytes_unref(lesson->update);
    fl_bytes_unref(lesson->crcs);
    fl_arena_destroy(lesson->arena);
    free(lesson);
}

static void tell_downloaded(struct member *member, uint64_t ticket, const char *name,
                            struct fl_bytes *model, bool is_whole)
{
    struct fl_error err = {0};

    if (is_whole)
        keep_model(member, name, model, NULL);
    else
        (void)fl_error_set(&err, FL_E_INVALID, "the model has another digest");
    fl_learner_downloaded(member->core, now_ms(member), ticket, is_whole ? NULL : &err);
}

static void tell_trained(struct member *member, struct lesson *lesson)
{
    if (lesson->result < 0)
        die(member, "training", &lesson->err);
    keep_model(member, lesson->digest, lesson->update, lesson->crcs);
    lesson->offer.digest = lesson->digest;
    lesson->offer.size = (int64_t)lesson->update->len;
    fl_learner_trained(member->core, now_ms(member), lesson->ticket, &lesson->offer);
}

static void begin_waiting(struct member *member);

static void learned(void *user)
{
    struct lesson *lesson = user;
    struct member *member = lesson->member;

    member->running = NULL;
    if (!lesson->cancelled && lesson->download)
        tell_downloaded(member, lesson->ticket, lesson->task.model, lesson->base,
                        strcmp(lesson->digest, lesson->task.model) == 0);
    else if (!lesson->cancelled)
        tell_trained(member, lesson);
    lesson_destroy(lesson);
    begin_waiting(member);
    pump(member);
}

static void begin_waiting(struct member *member)
{
    struct fl_error err = {0};

    if (member->running || !member->waiting)
        return;
    member->running = FL_TAKE(member->waiting);
    if (fl_loop_offload(member->crowd->loop, learn, learned, member->running, &err) < 0)
        die(member, "workers", &err);
}

static struct lesson *lesson_create(struct member *member, uint64_t ticket)
{
    struct lesson *lesson = fl_calloc(1, sizeof(*lesson));

    lesson->member = member;
    lesson->arena = fl_arena_create();
    lesson->ticket = ticket;
    fl_message_init(&fl_form_offer, &lesson->offer);
    lesson_destroy(member->waiting);
    member->waiting = lesson;
    return lesson;
}

static void begin_training(struct member *member, const struct fl_learner_action *action)
{
    struct model *base = find_model(member, action->task->model);
    struct lesson *lesson = lesson_create(member, action->ticket);

    assert(base);

    fl_message_copy(lesson->arena, &fl_form_task, action->task, &lesson->task);
    lesson->task.local.config = NULL;
    lesson->base = fl_bytes_ref(base->bytes);
    if (!member->trainer)
        forget_model(base);
    begin_waiting(member);
}

/* --- the network --- */

static void release_body(struct errand *errand)
{
    fl_bytes_unref(FL_TAKE(errand->body));
    fl_bytes_unref(FL_TAKE(errand->crcs));
}

static const char *path_of(const struct errand *errand)
{
    return errand->path;
}

static void send_chunk(struct errand *errand)
{
    const struct fl_bytes *update = errand->body;
    const int64_t left = (int64_t)update->len - errand->offset;
    const size_t len = (size_t)(left < CHUNK_BYTES ? left : CHUNK_BYTES);
    const char *data = update->data + errand->offset;
    char target[512], check[FL_BULK_CHECK_TEXT_SIZE], header[FL_BULK_CHECK_TEXT_SIZE + 16];

    fl_bulk_check_crc32c_text(((const uint32_t *)errand->crcs->data)[errand->offset / CHUNK_BYTES],
                              check);
    (void)snprintf(header, sizeof(header), "Content-Digest: %s", check);
    (void)snprintf(target, sizeof(target), "%s%coffset=%" PRId64 "&size=%zu&digest=%s",
                   path_of(errand), strchr(errand->path, '?') ? '&' : '?', errand->offset,
                   update->len, errand->digest);
    bench_http_send(errand->http, &(struct bench_request){"PUT", target, header, data, len});
}

static void took_chunk(struct errand *errand, const struct bench_answer *answer)
{
    struct member *member = errand->member;
    struct fl_error err = {0};
    uint64_t ticket;

    if (answer->status == 204 && answer->upload_offset > errand->offset) {
        errand->offset = answer->upload_offset;
        send_chunk(errand);
        return;
    }
    ticket = errand->ticket;
    errand->ticket = 0;
    release_body(errand);
    if (answer->status == 201) {
        fl_learner_uploaded(member->core, now_ms(member), ticket, NULL);
        return;
    }
    (void)fl_error_set(&err, FL_E_UNAVAILABLE, "status %d", answer->status);
    fl_learner_uploaded(member->core, now_ms(member), ticket, &err);
}

static void took_model(struct errand *errand, const struct bench_answer *answer)
{
    struct member *member = errand->member;
    const uint64_t ticket = errand->ticket;
    struct fl_error err = {0};
    struct lesson *lesson;

    errand->ticket = 0;
    if (answer->status != 200) {
        (void)fl_error_set(&err, FL_E_UNAVAILABLE, "status %d", answer->status);
        fl_learner_downloaded(member->core, now_ms(member), ticket, &err);
        return;
    }
    if (*answer->whole) {
        tell_downloaded(member, ticket, errand->digest, answer->body,
                        strcmp(answer->found, answer->whole) == 0);
        return;
    }
    lesson = lesson_create(member, ticket);
    lesson->download = true;
    lesson->task.model = fl_arena_strdup(lesson->arena, errand->digest);
    lesson->base = fl_bytes_ref(answer->body);
    begin_waiting(member);
}

static void took_answer(struct errand *errand, const struct bench_answer *answer)
{
    struct member *member = errand->member;
    const uint64_t ticket = errand->ticket;
    struct fl_error err = {0};

    errand->ticket = 0;
    release_body(errand);
    if (answer->status) {
        fl_learner_answered(member->core, now_ms(member), ticket, answer->status,
                            answer->body->data, answer->body->len);
        return;
    }
    (void)fl_error_set(&err, FL_E_UNAVAILABLE, "the connection broke");
    fl_learner_unanswered(member->core, now_ms(member), ticket, &err);
}

static void answered(void *user, const struct bench_answer *answer)
{
    struct errand *errand = user;
    struct member *member = errand->member;

    if (errand->lane == UPLOAD)
        took_chunk(errand, answer);
    else if (errand->lane == DOWNLOAD)
        took_model(errand, answer);
    else
        took_answer(errand, answer);
    if (errand->lane == CALL && member->crowd->frugal)
        bench_http_drop(errand->http);
    pump(member);
}

static struct errand *errand_of(struct member *member, enum lane lane, uint64_t ticket)
{
    struct errand *errand = &member->errands[lane];

    errand->ticket = ticket;
    if (!errand->http)
        errand->http =
            bench_http_create(member->crowd->loop, &member->crowd->server, answered, errand);
    return errand;
}

static void ask(struct member *member, enum lane lane, const struct fl_learner_action *action)
{
    struct errand *errand = errand_of(member, lane, action->ticket);

    assert(strcmp(action->address, member->crowd->address) == 0); /* nobody is moved here */
    errand->body = action->body ? fl_bytes_ref(action->body) : NULL;
    bench_http_send(errand->http,
                    &(struct bench_request){.method = action->method,
                                            .target = action->target,
                                            .body = errand->body ? errand->body->data : NULL,
                                            .body_len = errand->body ? errand->body->len : 0});
}

static void download(struct member *member, const struct fl_learner_action *action)
{
    struct errand *errand;

    if (find_model(member, action->digest)) {
        fl_learner_downloaded(member->core, now_ms(member), action->ticket, NULL);
        return;
    }
    errand = errand_of(member, DOWNLOAD, action->ticket);
    (void)snprintf(errand->digest, sizeof(errand->digest), "%s", action->digest);
    (void)snprintf(errand->path, sizeof(errand->path), "/v1/models/%s", action->digest);
    bench_http_send(errand->http, &(struct bench_request){.method = "GET", .target = errand->path});
}

static void upload(struct member *member, const struct fl_learner_action *action)
{
    struct errand *errand = errand_of(member, UPLOAD, action->ticket);
    const struct model *update = find_model(member, action->digest);

    assert(update && strlen(action->target) < sizeof(errand->path));

    (void)snprintf(errand->digest, sizeof(errand->digest), "%s", action->digest);
    (void)snprintf(errand->path, sizeof(errand->path), "%s", action->target);
    errand->body = fl_bytes_ref(update->bytes);
    errand->crcs = fl_bytes_ref(update->crcs);
    errand->offset = 0;
    send_chunk(errand);
}

static void cancel(struct member *member, uint64_t ticket)
{
    for (size_t i = 0; i < LANES; i++)
        if (member->errands[i].ticket == ticket) {
            bench_http_drop(member->errands[i].http);
            member->errands[i].ticket = 0;
            release_body(&member->errands[i]);
        }
    if (member->running && member->running->ticket == ticket)
        member->running->cancelled = true;
    if (member->waiting && member->waiting->ticket == ticket)
        lesson_destroy(FL_TAKE(member->waiting));
}

/* --- actions --- */

static void release(struct member *member, const char *digest)
{
    struct model *model = find_model(member, digest);

    if (model)
        forget_model(model);
}

static void ended(struct crowd *crowd)
{
    if (++crowd->ended == crowd->count)
        fl_loop_stop(crowd->loop);
}

static void act(struct member *member, const struct fl_learner_action *action)
{
    struct fl_error err = {0};

    switch (action->kind) {
    case FL_LEARNER_POLL:
        ask(member, POLL, action);
        break;
    case FL_LEARNER_CALL:
        ask(member, CALL, action);
        break;
    case FL_LEARNER_DOWNLOAD:
        download(member, action);
        break;
    case FL_LEARNER_UPLOAD:
        upload(member, action);
        break;
    case FL_LEARNER_TRAIN:
        begin_training(member, action);
        break;
    case FL_LEARNER_EVALUATE:
        (void)fl_error_set(&err, FL_E_METHOD_NOT_ALLOWED, "a bench does not evaluate so");
        fl_learner_failed(member->core, now_ms(member), action->ticket, "Unsupported", &err);
        break;
    case FL_LEARNER_CANCEL:
        cancel(member, action->ticket);
        break;
    case FL_LEARNER_KEEP:
        break; /* it has one life */
    case FL_LEARNER_RELEASE:
        release(member, action->digest);
        break;
    case FL_LEARNER_ENDED:
        ended(member->crowd);
    }
}

static void pump(struct member *member)
{
    const struct fl_learner_action *action;
    int64_t due, now;

    if (member->pumping)
        return;
    member->pumping = true;
    while ((action = fl_learner_next(member->core)))
        act(member, action);
    member->pumping = false;
    due = fl_learner_deadline(member->core);
    now = now_ms(member);
    if (due == INT64_MAX)
        fl_timer_cancel(member->timer);
    else
        fl_timer_arm(member->timer, due > now ? due - now : 0);
}

static void on_timer(void *user)
{
    struct member *member = user;

    fl_learner_tick(member->core, now_ms(member));
    pump(member);
}

struct member *member_create(struct crowd *crowd, const char *name, struct fl_trainer *trainer,
                             int64_t examples)
{
    struct member *member = fl_calloc(1, sizeof(*member));
    struct fl_learner_options options = {.address = crowd->address};
    struct fl_error err = {0};

    member->crowd = crowd;
    member->trainer = trainer;
    member->mark = (float)(crowd->count++ % 1000) / 1000;
    member->timer = fl_timer_create(crowd->loop, on_timer, member);
    for (int i = 0; i < LANES; i++) {
        member->errands[i].member = member;
        member->errands[i].lane = (enum lane)i;
    }
    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = options.join.name = name;
    options.join.examples = examples;
    crowd->env->random(crowd->env->user, &options.seed, sizeof(options.seed));
    if (fl_learner_create(&options, now_ms(member), &member->core, &err) < 0)
        die(member, "create", &err);
    pump(member);
    return member;
}

void member_destroy(struct member *member)
{
    for (int i = 0; i < LANES; i++) {
        bench_http_destroy(member->errands[i].http);
        release_body(&member->errands[i]);
    }
    for (size_t i = 0; i < MODELS; i++)
        forget_model(&member->models[i]);
    lesson_destroy(member->waiting);
    fl_timer_destroy(member->timer);
    fl_learner_destroy(member->core);
    if (member->trainer)
        member->trainer->ops->destroy(member->trainer);
    free(member);
}
