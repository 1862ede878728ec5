/* What the files of the aggregator's program share.
 *
 * aggregator.c        a life of the program, the journal's file, what the core asks for
 * aggregator_serve.c  what comes in by HTTP
 * aggregator_above.c  below a parent: its tasks and ours */
#ifndef FL_WORKLOADS_AGGREGATOR_INTERNAL_H
#define FL_WORKLOADS_AGGREGATOR_INTERNAL_H

#include "lib/map.h"
#include "workloads/aggregator/aggregator.h"
#include "workloads/aggregator/folding.h"
#include "workloads/learner/uplink.h"
#include "workloads/steps/steps.h"
#include "workloads/transfer/bulk_server.h"

#define ID_SIZE 24

/* Who still needs a blob. */
enum { HELD_BY_CORE = 1, HELD_BY_UPLINK = 2 };

struct expected {
    uint64_t id;
    char *learner, *digest;
    int64_t size;
};

struct asked { /* a control request without an answer yet */
    struct fl_aggregator *aggregator;
    uint64_t id;
    struct fl_http_request *http;
    enum fl_step unanswered;
};

struct fl_aggregator {
    struct fl_aggregator_program program;
    struct fl_blobs *blobs;
    char *uploads_dir, *spill_dir, *kept_path, *journal_path;
    int journal;
    struct fl_bytes *replacement; /* of the journal, being written by a worker */
    bool syncing;         /* the journal, on a worker: no action is taken until it is done */
    enum fl_step written; /* then */
    bool pumping, closed;
    int refs;               /* posted or offloaded, and not yet back */
    struct fl_error failed; /* of the journal: the end */

    struct fl_aggregator_core *core;
    struct fl_timer *timer;
    struct fl_http_server *http;
    struct fl_bulk_server *bulk;
    struct fl_folding *folding;
    struct fl_map *asked;    /* id -> struct asked */
    struct fl_map *expected; /* id -> struct expected */
    uint64_t next_id;

    /* below a parent */
    struct fl_learner_core *learner;
    struct fl_uplink *uplink;
    bool leaving;        /* the parent: not the end of training */
    struct fl_map *held; /* digest -> bits of who holds it */
    uint64_t parent_ticket;
};

/* aggregator.c */
int64_t program_now_ms(const struct fl_aggregator *aggregator);
void program_step(const struct fl_aggregator *aggregator, enum fl_step step);
const char *program_id_text(uint64_t id, char text[ID_SIZE]);
void program_pump(struct fl_aggregator *aggregator);

/* aggregator_serve.c */
void program_asked_destroy(void *user);
void program_reply(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action);
void program_expected_destroy(void *user);
void program_expect(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action);
void program_discard(struct fl_aggregator *aggregator, uint64_t upload);
int program_open_bulk(struct fl_aggregator *aggregator, struct fl_error *err);
int program_open_http(struct fl_aggregator *aggregator, struct fl_error *err);

/* aggregator_above.c */
void program_hold(struct fl_aggregator *aggregator, const char *digest, uintptr_t who);
void program_sweep(struct fl_aggregator *aggregator);
void program_release(struct fl_aggregator *aggregator, const char *digest, uintptr_t who);
void program_parent_result(struct fl_aggregator *aggregator, const struct fl_parent_result *result);
int program_open_parent(struct fl_aggregator *aggregator, struct fl_error *err);

#endif
