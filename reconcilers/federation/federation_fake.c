/* A control plane's door to the fake's roots. */
#include "reconcilers/federation/federation_fake_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MS   2 /* until a question is answered */
#define TRANSFER_MS 5 /* until a model is there */
#define REFUSED_MS  1000

/* --- what the driver knows ------------------------------------------------------------------ */

static void seen_round_free(void *value)
{
    struct seen_round *round = value;

    fl_arena_destroy(round->arena);
    fl_bytes_unref(round->order);
    free(round->uid);
    free(round);
}

static void seen_status_free(void *value)
{
    struct seen_status *status = value;

    free(status->ns);
    free(status->name);
    free(status);
}

static void move_free(void *value)
{
    struct move *move = value;

    free(move->uid);
    free(move->what);
    free(move->ns);
    free(move->name);
    free(move);
}

static void errand_free(struct driver *driver, struct errand *errand)
{
    TAILQ_REMOVE(&driver->errands, errand, all);
    free(errand->uid);
    free(errand->key);
    free(errand);
}

static void send_out(struct driver *driver, enum errand_kind kind, const char *uid, int64_t round,
                     const char *key, int64_t span_ms)
{
    struct errand *errand;

    TAILQ_FOREACH(errand, &driver->errands, all)
        if (errand->kind == kind && fl_streq(errand->uid, uid) && errand->round == round &&
            (!key || fl_streq(errand->key, key)))
            return;
    errand = fl_calloc(1, sizeof(*errand));
    errand->kind = kind;
    errand->uid = fl_strdup(uid);
    errand->round = round;
    errand->key = key ? fl_strdup(key) : NULL;
    errand->due_ms = fl_fake_now_ms(driver->roots) + span_ms;
    TAILQ_INSERT_TAIL(&driver->errands, errand, all);
}

static void tell(struct driver *driver, const char *uid)
{
    const struct seen_status *status = uid ? fl_map_get(driver->statuses, uid) : NULL;

    if (!driver->dead && driver->changed && status)
        driver->changed(driver->user, status->ns, status->name);
}

/* Something happened there: it is seen a moment later. */
void fl_fake_driver_follow(struct root *root)
{
    struct driver *driver = root->roots->driver;
    void *cursor = NULL, *value;

    if (!driver || driver->dead || !fl_map_get(driver->statuses, root->uid))
        return;
    send_out(driver, ERRAND_LOOK, root->uid, 0, NULL, ANSWER_MS);
    while (fl_map_next(driver->rounds, &cursor, NULL, &value)) {
        const struct seen_round *round = value;

        if (fl_streq(round->uid, root->uid) && round->followed)
            send_out(driver, ERRAND_WATCH, root->uid, round->number, NULL, ANSWER_MS);
    }
}

static void look(struct driver *driver, const char *uid)
{
    struct seen_status *seen = fl_map_get(driver->statuses, uid);
    const struct root *root = fl_fake_root_of(driver->roots, uid);

    if (!seen)
        return;
    seen->known = driver->roots->reachable ? FL_FEDERATION_KNOWN : FL_FEDERATION_UNREACHABLE;
    if (!driver->roots->reachable)
        return;
    fl_message_init(&fl_form_status, &seen->status);
    seen->status.protocol = FL_PROTOCOL_VERSION;
    seen->status.aggregator = "root";
    seen->status.life = root->life;
    seen->status.members = seen->status.available = seen->status.learners = root->members;
    seen->status.round = root->arena ? root->report.round : 0;
    seen->status.committed = root->committed;
    (void)snprintf(seen->model, sizeof(seen->model), "%s", root->model);
    seen->status.model = *seen->model ? seen->model : NULL;
    seen->status.version = root->status_version;
}

static void watch(struct driver *driver, struct seen_round *round)
{
    const struct root *root = fl_fake_root_of(driver->roots, round->uid);

    if (!driver->roots->reachable) {
        if (round->known != FL_FEDERATION_KNOWN || !fl_fake_is_over(&round->report))
            round->known = FL_FEDERATION_UNREACHABLE;
        return;
    }
    if (!root->arena || root->report.round < round->number) {
        round->known = FL_FEDERATION_ABSENT;
        return;
    }
    if (root->report.round > round->number) {
        round->known = FL_FEDERATION_PAST;
        return;
    }
    fl_arena_destroy(round->arena);
    round->arena = fl_arena_create();
    fl_message_copy(round->arena, &fl_form_round_report, &root->report, &round->report);
    round->known = FL_FEDERATION_KNOWN;
}

static void give_order(struct driver *driver, struct seen_round *round)
{
    struct root *root = fl_fake_root_of(driver->roots, round->uid);
    struct fl_error err = {0};

    if (!driver->roots->reachable) { /* it goes on trying */
        send_out(driver, ERRAND_START, round->uid, round->number, NULL, 1000);
        return;
    }
    round->starting = false;
    round->refused = fl_fake_root_start(root, round->order, &err);
    if (round->refused) {
        round->refused_ms = fl_fake_now_ms(driver->roots);
        (void)snprintf(round->message, sizeof(round->message), "%.150s", err.msg);
    }
    watch(driver, round);
}

void fl_fake_driver_doubt(struct driver *driver, const char *uid)
{
    void *cursor = NULL, *value;

    while (fl_map_next(driver->rounds, &cursor, NULL, &value)) {
        struct seen_round *round = value;

        if (!fl_streq(round->uid, uid))
            continue;
        round->known = FL_FEDERATION_UNKNOWN;
        send_out(driver, ERRAND_WATCH, uid, round->number, NULL, ANSWER_MS);
    }
    send_out(driver, ERRAND_LOOK, uid, 0, NULL, ANSWER_MS);
}

static int put(struct driver *driver, struct move *move)
{
    struct root *root = fl_fake_root_of(driver->roots, move->uid);
    struct fl_blob_map map;
    struct model *model;
    int r = fl_blobs_map(driver->content, move->what, &map, NULL);

    if (fl_map_get(root->models, move->what))
        return 0;
    if (r < 0)
        return FL_E_NOT_FOUND;
    model = fl_calloc(1, sizeof(*model));
    (void)snprintf(model->digest, sizeof(model->digest), "%s", move->what);
    model->bytes = fl_bytes_new(map.data, map.size);
    fl_map_put(root->models, move->what, model);
    move->size = (int64_t)map.size;
    fl_blob_unmap(&map);
    return 0;
}

static int get(struct driver *driver, struct move *move)
{
    const struct model *model =
        fl_map_get(fl_fake_root_of(driver->roots, move->uid)->models, move->what);

    if (!model) {
        fl_fake_driver_doubt(driver, move->uid);
        return FL_E_NOT_FOUND;
    }
    move->size = (int64_t)model->bytes->len;
    return fl_blobs_put(driver->content, model->bytes->data, model->bytes->len, false, move->digest,
                        NULL);
}

static int import(struct driver *driver, struct move *move)
{
    struct fl_bytes *bytes = fl_map_get(driver->roots->uris, move->what);

    if (!bytes)
        return FL_E_NOT_FOUND;
    move->size = (int64_t)bytes->len;
    return fl_blobs_put(driver->content, bytes->data, bytes->len, false, move->digest, NULL);
}

static void carry(struct driver *driver, struct move *move)
{
    driver->roots->counts.transfers++;
    move->over = true;
    if (move->kind == MOVE_IMPORT)
        move->failed = import(driver, move);
    else if (!driver->roots->reachable)
        move->failed = FL_E_UNAVAILABLE;
    else
        move->failed = move->kind == MOVE_PUT ? put(driver, move) : get(driver, move);
    if (!driver->dead && driver->changed)
        driver->changed(driver->user, move->ns, move->name);
}

static struct seen_round *seen_of(const struct driver *driver, const char *uid, int64_t number)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s %" PRId64, uid, number);

    return fl_map_get(driver->rounds, key);
}

/* What callers can see of it: news is another one. */
struct sight {
    enum fl_federation_known round, status;
    int64_t round_version, status_version;
    int refused;
    bool starting;
};

static struct sight sight_of(const struct driver *driver, const struct seen_round *round,
                             const char *uid)
{
    const struct seen_status *status = fl_map_get(driver->statuses, uid);
    struct sight sight = {0};

    if (status) {
        sight.status = status->known;
        sight.status_version = status->status.version;
    }
    if (round) {
        sight.round = round->known;
        sight.round_version = round->report.version;
        sight.refused = round->refused;
        sight.starting = round->starting;
    }
    return sight;
}

static void run_errand(struct driver *driver, const struct errand *errand)
{
    struct seen_round *round = seen_of(driver, errand->uid, errand->round);
    const struct sight before = sight_of(driver, round, errand->uid);
    struct sight after;
    struct move *move = errand->key ? fl_map_get(driver->moves, errand->key) : NULL;

    switch (errand->kind) {
    case ERRAND_LOOK:
        look(driver, errand->uid);
        break;
    case ERRAND_WATCH:
        if (round)
            watch(driver, round);
        break;
    case ERRAND_START:
        if (round && round->starting)
            give_order(driver, round);
        break;
    case ERRAND_ABORT:
        if (driver->roots->reachable)
            fl_fake_root_abort(fl_fake_root_of(driver->roots, errand->uid), errand->round);
        if (round)
            watch(driver, round);
        break;
    case ERRAND_MOVE:
        if (move)
            carry(driver, move);
        return;
    }
    after = sight_of(driver, round, errand->uid);
    if (before.round != after.round || before.status != after.status ||
        before.round_version != after.round_version ||
        before.status_version != after.status_version || before.refused != after.refused ||
        before.starting != after.starting)
        tell(driver, errand->uid);
}

static struct errand *due_errand(struct driver *driver)
{
    const int64_t now = fl_fake_now_ms(driver->roots);
    struct errand *errand;

    TAILQ_FOREACH(errand, &driver->errands, all)
        if (errand->due_ms <= now)
            return errand;
    return NULL;
}

size_t fl_fake_driver_run(struct driver *driver)
{
    struct errand *errand;
    size_t count = 0;

    while (!driver->dead && (errand = due_errand(driver))) {
        struct errand copy = *errand;

        TAILQ_REMOVE(&driver->errands, errand, all);
        run_errand(driver, &copy);
        free(copy.uid);
        free(copy.key);
        free(errand);
        count++;
    }
    return count;
}

/* --- the driver's table --------------------------------------------------------------------- */

/* 0: go on; 1: it says yes and does nothing. */
static int meet(struct driver *driver, enum fl_fake_federation_op op, bool after,
                struct fl_error *err)
{
    struct fl_fake_roots *roots = driver->roots;
    enum fl_fake_federation_fault fault = FL_FAKE_FEDERATION_GOOD;

    if (!driver->dead && roots->fault)
        fault = roots->fault(roots->fault_user, op, after);
    if (fault == FL_FAKE_FEDERATION_CRASH)
        driver->dead = true;
    if (driver->dead || fault == FL_FAKE_FEDERATION_ERROR)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the driver fails");
    return fault == FL_FAKE_FEDERATION_FORGET;
}

static struct seen_status *know(struct driver *driver, const struct fl_federation_at *at)
{
    struct seen_status *status = fl_map_get(driver->statuses, at->project_uid);

    if (status)
        return status;
    status = fl_calloc(1, sizeof(*status));
    status->ns = fl_strdup(at->ns);
    status->name = fl_strdup(at->name);
    status->known = FL_FEDERATION_UNKNOWN;
    fl_map_put(driver->statuses, at->project_uid, status);
    (void)fl_fake_root_of(driver->roots, at->project_uid);
    send_out(driver, ERRAND_LOOK, at->project_uid, 0, NULL, ANSWER_MS);
    return status;
}

static int status(struct fl_federation_driver *self, const struct fl_federation_at *at,
                  struct fl_arena *arena, struct fl_federation_status *ret_status,
                  struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    const struct seen_status *seen;
    int r = meet(driver, FL_FAKE_FEDERATION_STATUS, false, err);

    if (r < 0)
        return r;
    seen = know(driver, at);
    *ret_status = (struct fl_federation_status){.known = seen->known};
    if (seen->known == FL_FEDERATION_UNREACHABLE)
        ret_status->message = "it cannot be reached";
    if (seen->known == FL_FEDERATION_KNOWN)
        fl_message_copy(arena, &fl_form_status, &seen->status, &ret_status->status);
    return meet(driver, FL_FAKE_FEDERATION_STATUS, true, err) < 0 ? FL_E_UNAVAILABLE : 0;
}

static struct seen_round *round_of(struct driver *driver, const struct fl_federation_at *at,
                                   int64_t number)
{
    struct seen_round *round = seen_of(driver, at->project_uid, number);
    FL_CLEANUP(fl_freep) char *key = NULL;

    (void)know(driver, at);
    if (round)
        return round;
    key = fl_asprintf("%s %" PRId64, at->project_uid, number);
    round = fl_calloc(1, sizeof(*round));
    round->uid = fl_strdup(at->project_uid);
    round->number = number;
    round->known = FL_FEDERATION_UNKNOWN;
    fl_map_put(driver->rounds, key, round);
    return round;
}

static bool is_same(const struct seen_round *round, const struct fl_bytes *text)
{
    return round->order && round->order->len == text->len &&
           memcmp(round->order->data, text->data, text->len) == 0;
}

static bool is_new(const struct driver *driver, const struct seen_round *round,
                   const struct fl_bytes *text)
{
    if (!is_same(round, text))
        return true;
    if (round->starting)
        return false;
    if (round->refused)
        return fl_fake_now_ms(driver->roots) - round->refused_ms >= REFUSED_MS;
    return round->known == FL_FEDERATION_ABSENT;
}

static int start_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       const struct fl_round_order *order, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_round_order, order);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_order again;
    struct seen_round *round;
    int r = fl_message_decode(arena, &fl_form_round_order, text->data, text->len, &again, NULL);

    if (r < 0)
        return fl_error_set(err, FL_E_INVALID, "round %" PRId64 ": out of bounds", order->round);
    r = meet(driver, FL_FAKE_FEDERATION_START, false, err);
    if (r != 0)
        return r < 0 ? r : 0;
    round = round_of(driver, at, order->round);
    round->followed = true;
    if (is_new(driver, round, text)) {
        round->refused = is_same(round, text) ? round->refused : 0;
        fl_bytes_unref(round->order);
        round->order = FL_TAKE(text);
        round->starting = true;
        send_out(driver, ERRAND_START, at->project_uid, order->round, NULL, ANSWER_MS);
    }
    return meet(driver, FL_FAKE_FEDERATION_START, true, err) < 0 ? FL_E_UNAVAILABLE : 0;
}

static int observe_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                         int64_t number, struct fl_arena *arena,
                         struct fl_federation_round *ret_round, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct seen_round *round;
    int r = meet(driver, FL_FAKE_FEDERATION_OBSERVE, false, err);

    if (r < 0)
        return r;
    round = round_of(driver, at, number);
    *ret_round = (struct fl_federation_round){
        .known = round->known, .starting = round->starting, .refused = round->refused};
    if (round->refused)
        ret_round->message = fl_arena_strdup(arena, round->message);
    if (round->known == FL_FEDERATION_UNREACHABLE)
        ret_round->message = "it cannot be reached";
    if (round->known == FL_FEDERATION_KNOWN)
        fl_message_copy(arena, &fl_form_round_report, &round->report, &ret_round->report);
    if (!round->followed || round->known == FL_FEDERATION_ABSENT)
        send_out(driver, ERRAND_WATCH, at->project_uid, number, NULL, ANSWER_MS);
    round->followed = true;
    return meet(driver, FL_FAKE_FEDERATION_OBSERVE, true, err) < 0 ? FL_E_UNAVAILABLE : 0;
}

static int abort_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       int64_t number, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct seen_round *round;
    int r = meet(driver, FL_FAKE_FEDERATION_ABORT, false, err);

    if (r != 0)
        return r < 0 ? r : 0;
    round = round_of(driver, at, number);
    round->starting = false;
    round->followed = true;
    send_out(driver, ERRAND_ABORT, at->project_uid, number, NULL, ANSWER_MS);
    return meet(driver, FL_FAKE_FEDERATION_ABORT, true, err) < 0 ? FL_E_UNAVAILABLE : 0;
}

static struct move *new_move(enum move_kind kind, const char *uid, const char *what, const char *ns,
                             const char *name)
{
    struct move *move = fl_calloc(1, sizeof(*move));

    move->kind = kind;
    move->uid = fl_strdup(fl_str_or(uid, ""));
    move->what = fl_strdup(what);
    move->ns = fl_strdup(fl_str_or(ns, ""));
    move->name = fl_strdup(fl_str_or(name, ""));
    (void)snprintf(move->digest, sizeof(move->digest), "%.71s", what);
    return move;
}

static bool is_here(struct driver *driver, const char *digest, struct fl_transfer *transfer)
{
    struct fl_blob_map map;

    if (fl_blobs_map(driver->content, digest, &map, NULL) < 0)
        return false;
    *transfer = (struct fl_transfer){.state = FL_TRANSFER_DONE,
                                     .done = (int64_t)map.size,
                                     .all = (int64_t)map.size,
                                     .digest = digest};
    fl_blob_unmap(&map);
    return true;
}

static void show_move(const struct move *move, struct fl_arena *arena, struct fl_transfer *transfer)
{
    if (move->failed < 0)
        *transfer = (struct fl_transfer){.state = FL_TRANSFER_FAILED,
                                         .failed = move->failed,
                                         .message = "it is not there, or cannot be reached"};
    else
        *transfer = (struct fl_transfer){.state = FL_TRANSFER_DONE,
                                         .done = move->size,
                                         .all = move->size,
                                         .digest = fl_arena_strdup(arena, move->digest)};
}

static void ask_move(struct driver *driver, enum move_kind kind, const char *uid, const char *what,
                     const char *ns, const char *name, struct fl_arena *arena,
                     struct fl_transfer *transfer)
{
    const char *key = fl_arena_printf(arena, "%d %s %s", (int)kind, fl_str_or(uid, ""), what);
    struct move *move = fl_map_get(driver->moves, key);

    if (kind == MOVE_GET && is_here(driver, what, transfer))
        return;
    *transfer = (struct fl_transfer){.state = FL_TRANSFER_RUNNING};
    if (!move) {
        fl_map_put(driver->moves, key, new_move(kind, uid, what, ns, name));
        send_out(driver, ERRAND_MOVE, fl_str_or(uid, ""), 0, key, TRANSFER_MS);
    } else if (move->over) {
        show_move(move, arena, transfer);
        fl_map_remove(driver->moves, key);
    }
}

static int move_model(struct fl_federation_driver *self, enum fl_fake_federation_op op,
                      enum move_kind kind, const struct fl_federation_at *at, const char *what,
                      struct fl_arena *arena, struct fl_transfer *transfer, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    int r = meet(driver, op, false, err);

    if (r < 0)
        return r;
    (void)know(driver, at);
    ask_move(driver, kind, at->project_uid, what, at->ns, at->name, arena, transfer);
    return meet(driver, op, true, err) < 0 ? FL_E_UNAVAILABLE : 0;
}

static int put_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, struct fl_arena *arena, struct fl_transfer *ret_transfer,
                     struct fl_error *err)
{
    return move_model(self, FL_FAKE_FEDERATION_PUT, MOVE_PUT, at, digest, arena, ret_transfer, err);
}

static int get_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, int64_t size, struct fl_arena *arena,
                     struct fl_transfer *ret_transfer, struct fl_error *err)
{
    (void)size;
    return move_model(self, FL_FAKE_FEDERATION_GET, MOVE_GET, at, digest, arena, ret_transfer, err);
}

static int import_model(struct fl_federation_driver *self, const char *uri, const char *ns,
                        const char *project, struct fl_arena *arena,
                        struct fl_transfer *ret_transfer, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    int r = meet(driver, FL_FAKE_FEDERATION_IMPORT, false, err);

    if (r < 0)
        return r;
    ask_move(driver, MOVE_IMPORT, NULL, uri, ns, project, arena, ret_transfer);
    return meet(driver, FL_FAKE_FEDERATION_IMPORT, true, err) < 0 ? FL_E_UNAVAILABLE : 0;
}

static int children(struct fl_federation_driver *self, const struct fl_federation_at *at,
                    const struct fl_children *wanted, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    int r = meet(driver, FL_FAKE_FEDERATION_CHILDREN, false, err);

    (void)wanted;
    if (r < 0)
        return r;
    (void)know(driver, at);
    return meet(driver, FL_FAKE_FEDERATION_CHILDREN, true, err) < 0 ? FL_E_UNAVAILABLE : 0;
}

static void forget(struct fl_federation_driver *self, const char *project_uid)
{
    struct driver *driver = (struct driver *)self;
    struct errand *errand = TAILQ_FIRST(&driver->errands);
    void *cursor = NULL, *value;
    const char *key;

    while (errand) {
        struct errand *next = TAILQ_NEXT(errand, all);

        if (fl_streq(errand->uid, project_uid))
            errand_free(driver, errand);
        errand = next;
    }
    while (fl_map_next(driver->rounds, &cursor, &key, &value))
        if (fl_streq(((struct seen_round *)value)->uid, project_uid))
            fl_map_remove(driver->rounds, key);
    cursor = NULL;
    while (fl_map_next(driver->moves, &cursor, &key, &value))
        if (fl_streq(((struct move *)value)->uid, project_uid))
            fl_map_remove(driver->moves, key);
    fl_map_remove(driver->statuses, project_uid);
}

static void destroy(struct fl_federation_driver *self)
{
    struct driver *driver = (struct driver *)self;
    struct errand *errand;

    while ((errand = TAILQ_FIRST(&driver->errands)))
        errand_free(driver, errand);
    if (driver->roots->driver == driver)
        driver->roots->driver = NULL;
    fl_map_destroy(driver->rounds);
    fl_map_destroy(driver->statuses);
    fl_map_destroy(driver->moves);
    free(driver);
}

static const struct fl_federation_ops ops = {
    .name = "fake",
    .destroy = destroy,
    .status = status,
    .start_round = start_round,
    .observe_round = observe_round,
    .abort_round = abort_round,
    .put_model = put_model,
    .get_model = get_model,
    .import_model = import_model,
    .children = children,
    .forget = forget,
};

struct fl_federation_driver *fl_federation_fake_create(struct fl_fake_roots *roots,
                                                       struct fl_blobs *content,
                                                       fl_federation_changed_fn *changed,
                                                       void *user)
{
    struct driver *driver = fl_calloc(1, sizeof(*driver));

    *driver = (struct driver){
        .base.ops = &ops, .roots = roots, .content = content, .changed = changed, .user = user};
    TAILQ_INIT(&driver->errands);
    driver->rounds = fl_map_create(seen_round_free);
    driver->statuses = fl_map_create(seen_status_free);
    driver->moves = fl_map_create(move_free);
    roots->driver = driver;
    return &driver->base;
}
