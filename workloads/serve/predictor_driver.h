/* What makes predictions: the table that a server of models is blind behind.
 *
 * A driver makes something of a model's file that answers rows. Drivers: native.c (networks of this
 * program's own trainers), program.c (programs of somebody's, behind a socket). A call may take its
 * time and may fail, as it is made on threads unless warming up has shown that it is quick. */
#ifndef FL_WORKLOADS_SERVE_PREDICTOR_DRIVER_H
#define FL_WORKLOADS_SERVE_PREDICTOR_DRIVER_H

#include "lib/env.h"
#include "lib/error.h"
#include "workloads/serve/request.h"

struct fl_trainer_program;

struct fl_predictor_source {
    const void *data; /* the model's file; lent for the call */
    size_t len;
    unsigned seats;   /* calls of predict at the same time, at most */
    size_t max_batch; /* rows of most calls; more may come */
    /* For drivers that need one; lent for as long as anything is served. */
    const struct fl_trainer_program *program;
    const struct fl_env *env;
};

struct fl_predictor_ops {
    const char *name;
    bool waits; /* predict waits for somebody else: it is never run on a loop */
    /* must: whether this file is the driver's. */
    bool (*knows)(const void *data, size_t len);
    /* must: any thread. NOT_FOUND where the model does not say what it is, INVALID where it is not
     * what it says. What is returned answers without loading anything further. */
    int (*load)(const struct fl_predictor_source *source, void **ret_state, struct fl_error *err);
    /* must: both lent and unchanged until destroy. */
    const struct fl_signature *(*signature)(const void *state);
    const char *(*platform)(const void *state); /* "flops_mlp": for people */
    /* must: any thread, never twice at a time with one seat (0 … seats - 1). All rows are finite.
     * On failure none was answered, and another call may fare better. */
    int (*predict)(void *state, unsigned seat, const float *rows, size_t count, float *ret_answers,
                   struct fl_error *err);
    /* may: how often what predicts had to be started again. Any thread. */
    uint64_t (*restarts)(const void *state);
    /* must: no call is under way; of half-made things too. */
    void (*destroy)(void *state);
};

extern const struct fl_predictor_ops fl_native_predictor;

#endif
