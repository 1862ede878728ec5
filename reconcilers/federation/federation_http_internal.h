/* What the files of the driver `http` share.
 *
 * federation_http.c       what callers ask and want, any thread; a life of the driver
 * federation_http_loop.c  what is asked of roots, and what they answer: the loop's */
#ifndef FL_RECONCILERS_FEDERATION_HTTP_INTERNAL_H
#define FL_RECONCILERS_FEDERATION_HTTP_INTERNAL_H

#include "lib/http_async.h"
#include "lib/map.h"
#include "lib/thread.h"
#include "reconcilers/federation/federation_http.h"
#include "reconcilers/federation/transfers.h"

#include <sys/queue.h>

struct driver {
    struct fl_federation_driver base;
    struct fl_federation_http_options options;
    struct fl_loop *loop;
    struct fl_thread *thread;
    struct fl_http_async *calls;
    struct fl_transfers *transfers;
    struct fl_lock *lock; /* all that follows */
    struct fl_map *federations;
    bool stopping;
};

enum order_state { ORDER_NONE = 0, ORDER_WANTED, ORDER_SENT, ORDER_TAKEN, ORDER_REFUSED };

struct round {
    TAILQ_ENTRY(round) all;
    struct federation *federation;
    int64_t number;
    enum fl_federation_known known;
    struct fl_arena *arena; /* of the report */
    struct fl_round_report report;
    struct fl_bytes *order;
    enum order_state order_state;
    int64_t refused_ms;
    struct fl_error refusal;
    bool followed, ask; /* ask: what is known may not be so any more */
    bool abort_wanted;
    struct fl_http_async_request *watch, *put, *abort; /* the loop's */
};

struct federation {
    struct driver *driver;
    char *uid, *ns, *name, *address, *token, *ca;
    bool moved, dirty, forgotten;
    /* What is known. */
    bool has_status;
    struct fl_arena *status_arena;
    struct fl_status status;
    int64_t down_us; /* since when it cannot be reached (real time); 0: it can */
    char down[FL_ERROR_TEXT_MAX];
    bool distrust; /* it may lack models that it says to have */
    TAILQ_HEAD(rounds, round) rounds;
    size_t round_count;
    struct fl_bytes *children;
    bool children_told;
    /* The loop's. */
    struct fl_http_client *client;
    struct fl_http_async_request *glance, *tell_children;
    struct fl_timer *again;
    int64_t pause_ms;
    bool pausing;
};

/* With the lock. */
bool fl_http_round_is_over(const struct round *round);
void fl_http_round_free(struct round *round);
/* What is known of its rounds may be so no more: all is asked for again. */
void fl_http_doubt_all(struct federation *federation);

/* Without the lock. */
void fl_http_tell(struct driver *driver, const char *ns, const char *name);

/* On the loop. */
void fl_http_on_told(
    void *driver); /* looks after each federation that is dirty, moved, forgotten */
void fl_http_hang_up(struct federation *federation);

#endif
