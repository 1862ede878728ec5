/* Predictions by a program of somebody's: processes that speak the trainer protocol
 * (workloads/trainer/protocol.h), one for each thread that predicts.
 *
 * All are started while the model is loaded, and gone when it is destroyed. One that crashes, hangs
 * or says nonsense costs its batch (a batch whose process was found dead is tried once more), and
 * is started again for the next one; where that fails, too, after a growing delay, at most 5 s. An
 * error of its own is INTERNAL, all else UNAVAILABLE. */
#ifndef FL_WORKLOADS_SERVE_PROGRAM_H
#define FL_WORKLOADS_SERVE_PROGRAM_H

#include "workloads/serve/predictor_driver.h"

extern const struct fl_predictor_ops fl_program_predictor;

#endif
