/* Models on their way between the content store, roots and elsewhere: a few threads that do one
 * transfer at a time each, and what is known of all. Part of the driver `http`.
 *
 * A transfer is begun by the first ask and told of by the later ones; its end is told once. Any
 * thread; `ended` is called from the transfers' threads, without a lock. */
#ifndef FL_RECONCILERS_FEDERATION_TRANSFERS_H
#define FL_RECONCILERS_FEDERATION_TRANSFERS_H

#include "lib/blobs.h"
#include "reconcilers/federation/federation.h"

struct fl_transfers;

enum fl_transfer_kind { FL_TRANSFER_PUT = 1, FL_TRANSFER_GET, FL_TRANSFER_IMPORT };

struct fl_transfer_order {
    enum fl_transfer_kind kind;
    struct fl_federation_at at; /* of an import: ns and name only */
    const char *what;           /* digest, or uri */
    int64_t size;               /* most bytes; 0: the bound of the options */
};

struct fl_transfers_options {
    const struct fl_env *env;
    struct fl_blobs *content; /* lent */
    int64_t max_bytes;        /* of a model; 0: 8 GiB */
    const char *ca_file;      /* of imports by https; NULL: the system's */
    /* `failed` 0: it is done. */
    void (*ended)(void *user, const struct fl_transfer_order *order, int failed);
    void *user;
};
int fl_transfers_create(const struct fl_transfers_options *options,
                        struct fl_transfers **ret_transfers, struct fl_error *err);
/* Breaks off what is under way and waits for the threads. */
void fl_transfers_destroy(struct fl_transfers *transfers);
FL_DEFINE_CLEANUP(struct fl_transfers, fl_transfers_destroy)

void fl_transfers_ask(struct fl_transfers *transfers, const struct fl_transfer_order *order,
                      struct fl_arena *arena, struct fl_transfer *ret_transfer);
/* Those from and to this federation's root are dropped, and broken off. */
void fl_transfers_forget(struct fl_transfers *transfers, const char *project_uid);

#endif
