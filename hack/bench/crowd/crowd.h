/* Many learners in one process: what `flops learner` is, but for its threads and its folder.
 *
 * Each member has an identity, a learner core (workloads/learner/learner_core.h) and connections of
 * its own, one for the long poll, one for other requests, one for downloads and one for uploads.
 * All are on one loop; digests, training and echoing are done by the loop's workers. Models are in
 * memory. For benchmarks: what fails ends the program. Loop thread. */
#ifndef FL_BENCH_CROWD_H
#define FL_BENCH_CROWD_H

#include "hack/bench/crowd/http.h"
#include "lib/env.h"
#include "workloads/trainer/trainer.h"

struct crowd {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct sockaddr_in server;
    const char *address; /* "http://127.0.0.1:7070" */
    bool frugal;         /* requests other than polls close their connection */
    size_t ended;        /* members that were told that training is over */
    size_t count;
};

struct member;

/* `trainer` NULL: it echoes, handing back what it was given but for the first float (so that no two
 * updates are the same bytes). It is the member's. */
struct member *member_create(struct crowd *crowd, const char *name, struct fl_trainer *trainer,
                             int64_t examples);
void member_destroy(struct member *member);

#endif
