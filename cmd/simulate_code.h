/* The training code of a folder, for `flops simulate DIR`: how it is started, and where its
 * learners' data lies meanwhile. */
#ifndef FL_CMD_SIMULATE_CODE_H
#define FL_CMD_SIMULATE_CODE_H

#include "lib/env.h"
#include "lib/interrupt.h"
#include "workloads/simulate/simulate.h"

struct fl_code_options {
    const char *folder; /* NULL: a native trainer */
    const char *entrypoint, *python;
    int64_t timeout_ms; /* without a sign of work */
    bool stateful, quiet;
};

struct fl_code {
    struct fl_simulated_code code;
    char *data; /* folder, below $TMPDIR; NULL: none; in the arena */
};

/* INVALID says what is missing. Texts are in the arena; `env` is lent. */
int fl_code_prepare(const struct fl_code_options *options, const struct fl_env *env,
                    struct fl_arena *arena, struct fl_code *ret_code, struct fl_error *err);
/* The folder for data, and how much of the machine each of `jobs` programs takes, which are known
 * when all options are. `interrupt` is lent. */
int fl_code_begin(struct fl_code *code, struct fl_arena *arena, size_t jobs, int64_t deadline_ms,
                  struct fl_interrupt *interrupt, struct fl_error *err);
void fl_code_finish(struct fl_code *code);

#endif
