/* Federations over HTTP: one thread with a loop for all of them, and a few for models
 * (transfers.h). What is known is behind one lock; connections belong to the loop. */
#include "reconcilers/federation/federation_http_internal.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define REFUSED_MS 1000
#define ROUNDS_MAX 64 /* known of one federation */
#define SYSTEM     "flops-system"

static int64_t now_ms(const struct driver *driver)
{
    return fl_monotonic_ms(driver->options.env);
}

static void federation_free(void *value)
{
    struct federation *federation = value;
    struct round *round;

    while ((round = TAILQ_FIRST(&federation->rounds)))
        fl_http_round_free(round);
    fl_timer_destroy(federation->again);
    fl_http_client_destroy(federation->client);
    fl_arena_destroy(federation->status_arena);
    fl_bytes_unref(federation->children);
    free(federation->uid);
    free(federation->ns);
    free(federation->name);
    free(federation->address);
    free(federation->token);
    free(federation->ca);
    free(federation);
}

/* --- any thread ----------------------------------------------------------------------------- */

static bool replace(char **text, const char *with)
{
    if (fl_streq(*text, with) || (!*text && !with))
        return false;
    free(*text);
    *text = with ? fl_strdup(with) : NULL;
    return true;
}

/* With the lock. */
static void stir(struct federation *federation)
{
    if (federation->dirty)
        return;
    federation->dirty = true;
    fl_loop_post(federation->driver->loop, fl_http_on_told, federation->driver);
}

/* With the lock. One that is being forgotten is there again only when that is done. */
static int federation_of(struct driver *driver, const struct fl_federation_at *at,
                         struct federation **ret_federation, struct fl_error *err)
{
    struct federation *federation = fl_map_get(driver->federations, at->project_uid);

    if (federation && federation->forgotten)
        return fl_error_set(err, FL_E_CONFLICT, "the federation is just being forgotten");
    if (!federation) {
        federation = fl_calloc(1, sizeof(*federation));
        federation->driver = driver;
        federation->uid = fl_strdup(at->project_uid);
        TAILQ_INIT(&federation->rounds);
        fl_map_put(driver->federations, at->project_uid, federation);
    }
    (void)replace(&federation->ns, at->ns);
    (void)replace(&federation->name, at->name);
    federation->moved |= replace(&federation->address, at->address);
    federation->moved |= replace(&federation->token, at->token);
    federation->moved |= replace(&federation->ca, at->ca);
    if (federation->moved)
        stir(federation);
    *ret_federation = federation;
    return 0;
}

static const char *why_down(const struct federation *federation, struct fl_arena *arena)
{
    char since[FL_TIME_SIZE];

    fl_time_format(federation->down_us, since);
    return fl_arena_printf(arena, "%s cannot be reached since %s: %s", federation->address, since,
                           federation->down);
}

static int status(struct fl_federation_driver *self, const struct fl_federation_at *at,
                  struct fl_arena *arena, struct fl_federation_status *ret_status,
                  struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    *ret_status = (struct fl_federation_status){.known = FL_FEDERATION_UNKNOWN};
    if (federation->down_us && !federation->moved) {
        ret_status->known = FL_FEDERATION_UNREACHABLE;
        ret_status->message = why_down(federation, arena);
    } else if (federation->has_status && !federation->moved) {
        ret_status->known = FL_FEDERATION_KNOWN;
        fl_message_copy(arena, &fl_form_status, &federation->status, &ret_status->status);
    }
    return 0;
}

/* With the lock. The oldest that is over goes where there are too many. */
static struct round *round_of(struct federation *federation, int64_t number)
{
    struct round *round, *old = NULL;

    TAILQ_FOREACH(round, &federation->rounds, all) {
        if (round->number == number)
            return round;
        if (!old && fl_http_round_is_over(round) && !round->watch && !round->put && !round->abort)
            old = round;
    }
    if (federation->round_count >= ROUNDS_MAX && old)
        fl_http_round_free(old);
    round = fl_calloc(1, sizeof(*round));
    round->federation = federation;
    round->number = number;
    round->known = FL_FEDERATION_UNKNOWN;
    TAILQ_INSERT_TAIL(&federation->rounds, round, all);
    federation->round_count++;
    return round;
}

static void show_round(const struct round *round, struct fl_arena *arena,
                       struct fl_federation_round *shown)
{
    const struct federation *federation = round->federation;

    shown->known = round->known;
    shown->starting = round->order_state == ORDER_WANTED || round->order_state == ORDER_SENT;
    if (round->refusal.code != 0) {
        shown->refused = round->refusal.code;
        shown->message = fl_arena_strdup(arena, round->refusal.msg);
    }
    if (round->known == FL_FEDERATION_KNOWN)
        fl_message_copy(arena, &fl_form_round_report, &round->report, &shown->report);
    if (federation->down_us && !federation->moved && !fl_http_round_is_over(round)) {
        shown->known = FL_FEDERATION_UNREACHABLE;
        shown->message = why_down(federation, arena);
    } else if (round->ask && fl_http_round_is_over(round)) {
        shown->known = FL_FEDERATION_UNKNOWN;
    }
}

static int observe_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                         int64_t number, struct fl_arena *arena,
                         struct fl_federation_round *ret_round, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    struct round *round;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    round = round_of(federation, number);
    *ret_round = (struct fl_federation_round){0};
    show_round(round, arena, ret_round);
    if (!round->followed || round->known == FL_FEDERATION_ABSENT) {
        round->followed = round->ask = true;
        stir(federation);
    }
    return 0;
}

static bool is_same_order(const struct round *round, const struct fl_bytes *text)
{
    return round->order && text->len == round->order->len &&
           memcmp(round->order->data, text->data, text->len) == 0;
}

static bool is_new_order(const struct round *round, const struct fl_bytes *text)
{
    const struct driver *driver = round->federation->driver;

    if (!is_same_order(round, text))
        return true;
    switch (round->order_state) {
    case ORDER_NONE:
        return true;
    case ORDER_REFUSED:
        return now_ms(driver) - round->refused_ms >= REFUSED_MS;
    case ORDER_TAKEN:
        return round->known == FL_FEDERATION_ABSENT;
    default:
        return false;
    }
}

static int start_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       const struct fl_round_order *order, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_round_order, order);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct federation *federation;
    struct round *round;
    struct fl_round_order again;
    int r = fl_message_decode(arena, &fl_form_round_order, text->data, text->len, &again, err);

    if (r < 0)
        return fl_error_set(err, FL_E_INVALID, "round %" PRId64 ": %s", order->round,
                            err ? fl_arena_strdup(arena, err->msg) : "");
    FL_LOCKED(driver->lock);
    r = federation_of(driver, at, &federation, err);
    if (r < 0)
        return r;
    round = round_of(federation, order->round);
    round->followed = true;
    if (!is_new_order(round, text))
        return 0;
    if (!is_same_order(round, text)) /* else the refusal stands until there is another answer */
        round->refusal = (struct fl_error){0};
    fl_bytes_unref(round->order);
    round->order = FL_TAKE(text);
    round->order_state = ORDER_WANTED;
    round->abort_wanted = false;
    stir(federation);
    return 0;
}

static int abort_round(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       int64_t number, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    struct round *round;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    round = round_of(federation, number);
    if (fl_http_round_is_over(round) || round->abort_wanted)
        return 0;
    round->abort_wanted = round->followed = true;
    if (round->order_state == ORDER_WANTED)
        round->order_state = ORDER_NONE;
    stir(federation);
    return 0;
}

static void ask_transfer(struct driver *driver, enum fl_transfer_kind kind,
                         const struct fl_federation_at *at, const char *what, int64_t size,
                         struct fl_arena *arena, struct fl_transfer *transfer)
{
    const struct fl_transfer_order order = {.kind = kind, .at = *at, .what = what, .size = size};

    fl_transfers_ask(driver->transfers, &order, arena, transfer);
}

/* What it made last it has. */
static bool root_has(const struct federation *federation, const char *digest)
{
    return federation->has_status && !federation->distrust && !federation->moved &&
           federation->down_us == 0 && fl_streq(federation->status.model, digest);
}

static int put_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, struct fl_arena *arena, struct fl_transfer *ret_transfer,
                     struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;
    bool there;
    int r;

    fl_lock_take(driver->lock);
    r = federation_of(driver, at, &federation, err);
    there = r == 0 && root_has(federation, digest);
    fl_lock_release(driver->lock);
    if (r < 0)
        return r;
    if (there)
        *ret_transfer = (struct fl_transfer){.state = FL_TRANSFER_DONE, .digest = digest};
    else
        ask_transfer(driver, FL_TRANSFER_PUT, at, digest, 0, arena, ret_transfer);
    return 0;
}

static int get_model(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, int64_t size, struct fl_arena *arena,
                     struct fl_transfer *ret_transfer, struct fl_error *err)
{
    (void)err;
    ask_transfer((struct driver *)self, FL_TRANSFER_GET, at, digest, size, arena, ret_transfer);
    return 0;
}

static int import_model(struct fl_federation_driver *self, const char *uri, const char *ns,
                        const char *project, struct fl_arena *arena,
                        struct fl_transfer *ret_transfer, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    const struct fl_federation_at at = {.ns = ns, .name = project};

    (void)err;
    if (fl_str_has_prefix(uri, "file:") && !driver->options.files_everywhere &&
        !fl_streq(ns, SYSTEM))
        *ret_transfer = (struct fl_transfer){
            .state = FL_TRANSFER_FAILED,
            .failed = FL_E_FORBIDDEN,
            .message = "files of the control plane's machine are for projects of namespace " SYSTEM
                       "; put the model into the content store and name its digest"};
    else
        ask_transfer(driver, FL_TRANSFER_IMPORT, &at, uri, 0, arena, ret_transfer);
    return 0;
}

static int children(struct fl_federation_driver *self, const struct fl_federation_at *at,
                    const struct fl_children *wanted, struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *text = fl_message_encode(&fl_form_children, wanted);
    struct federation *federation;
    FL_LOCKED(driver->lock);
    int r = federation_of(driver, at, &federation, err);

    if (r < 0)
        return r;
    if (federation->children && federation->children->len == text->len &&
        memcmp(federation->children->data, text->data, text->len) == 0)
        return 0;
    fl_bytes_unref(federation->children);
    federation->children = FL_TAKE(text);
    federation->children_told = false;
    stir(federation);
    return 0;
}

static void forget(struct fl_federation_driver *self, const char *project_uid)
{
    struct driver *driver = (struct driver *)self;
    struct federation *federation;

    fl_transfers_forget(driver->transfers, project_uid);
    FL_LOCKED(driver->lock);
    federation = fl_map_get(driver->federations, project_uid);
    if (!federation || federation->forgotten)
        return;
    federation->forgotten = true;
    fl_loop_post(driver->loop, fl_http_on_told, driver);
}

/* A model that the root should have and has not: it has begun anew. */
static void transfer_ended(void *user, const struct fl_transfer_order *order, int failed)
{
    struct driver *driver = user;
    struct federation *federation;

    if (order->kind != FL_TRANSFER_IMPORT) {
        FL_LOCKED(driver->lock);
        federation = fl_map_get(driver->federations, order->at.project_uid);
        if (federation && failed == FL_E_NOT_FOUND && order->kind == FL_TRANSFER_GET) {
            fl_http_doubt_all(federation);
            stir(federation);
        } else if (federation && failed == 0 && order->kind == FL_TRANSFER_PUT) {
            federation->distrust = false;
        }
    }
    fl_http_tell(driver, order->at.ns, order->at.name);
}

/* --- a life --------------------------------------------------------------------------------- */

static void run(void *user)
{
    struct driver *driver = user;

    fl_loop_run(driver->loop);
}

static void stop(void *user)
{
    struct driver *driver = user;

    fl_lock_take(driver->lock);
    driver->stopping = true;
    fl_lock_release(driver->lock);
    fl_loop_stop(driver->loop);
}

static void hang_up_all(struct driver *driver)
{
    void *cursor = NULL, *value;

    while (fl_map_next(driver->federations, &cursor, NULL, &value))
        fl_http_hang_up(value);
}

static void destroy(struct fl_federation_driver *self)
{
    struct driver *driver = (struct driver *)self;

    fl_transfers_destroy(driver->transfers);
    if (driver->thread) {
        fl_loop_post(driver->loop, stop, driver);
        fl_thread_join(driver->thread);
    }
    hang_up_all(driver);
    fl_http_async_destroy(driver->calls);
    fl_map_destroy(driver->federations);
    fl_loop_destroy(driver->loop);
    fl_lock_destroy(driver->lock);
    free(driver);
}

static const struct fl_federation_ops ops = {
    .name = "http",
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

static int open_parts(struct driver *driver, struct fl_error *err)
{
    const struct fl_transfers_options transfers = {.env = driver->options.env,
                                                   .content = driver->options.content,
                                                   .max_bytes = driver->options.max_model_bytes,
                                                   .ca_file = driver->options.import_ca,
                                                   .ended = transfer_ended,
                                                   .user = driver};
    struct fl_http_async_options calls = {0};
    int r = fl_loop_create(&driver->loop, err);

    calls.loop = driver->loop;
    if (r == 0)
        r = fl_http_async_create(&calls, &driver->calls, err);
    if (r == 0)
        r = fl_transfers_create(&transfers, &driver->transfers, err);
    if (r == 0)
        r = fl_thread_start("flops-rounds", run, driver, &driver->thread, err);
    return r;
}

int fl_federation_http_create(const struct fl_federation_http_options *options,
                              struct fl_federation_driver **ret_driver, struct fl_error *err)
{
    struct driver *driver = fl_calloc(1, sizeof(*driver));
    int r;

    *driver = (struct driver){.base.ops = &ops, .options = *options};
    driver->lock = fl_lock_create();
    driver->federations = fl_map_create(federation_free);
    r = open_parts(driver, err);
    if (r < 0) {
        destroy(&driver->base);
        return r;
    }
    *ret_driver = &driver->base;
    return 0;
}
