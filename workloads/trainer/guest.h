/* The trainer's side of the trainer protocol: any fl_trainer, behind a socket.
 *
 * Blocks; one thread. The clock of `env` paces progress, no more than that. */
#ifndef FL_WORKLOADS_TRAINER_GUEST_H
#define FL_WORKLOADS_TRAINER_GUEST_H

#include "lib/env.h"
#include "workloads/trainer/trainer.h"

/* Answers requests on the socket (lent) until it is told to stop or the other side is gone: 0.
 * INVALID where the other side breaks the protocol. */
int fl_trainer_serve(int fd, const struct fl_env *env, struct fl_trainer *trainer, int64_t examples,
                     struct fl_error *err);
/* Answers the first request with this error: for a trainer that could not be made. */
void fl_trainer_refuse(int fd, const struct fl_env *env, const struct fl_error *why);

#endif
