/* The FLRound kind: one federated round, from its number to its model.
 *
 * A pass finds the project and its root, the round's number, its turn (lower ones first, one at a
 * time) and its base model; says to the root what is to be done, once; follows what the root
 * reports; and when that is committed brings the model into the content store, makes the
 * ModelVersion and only then says Succeeded. It is woken by the driver and by what it looked at,
 * and polls nothing. Nothing is remembered but when progress was last told (a loss costs a write).
 *
 * Safe against a crash anywhere: the root takes an order once, a model has one name, a
 * ModelVersion's name follows from project and round. A round is committed by the root or not at
 * all; one that has failed there is Stalled, and begun anew with a higher run (written down before)
 * only when the project's spec or the annotation flops.dev/reconcile has changed since. Deleted in
 * mid-round it is aborted at the root, which is waited for no longer than half a minute. */
#ifndef FL_RECONCILERS_FLROUND_H
#define FL_RECONCILERS_FLROUND_H

#include "lib/error.h"
#include "lib/mem.h"

struct fl_manager;
struct fl_federation_driver;
struct fl_flround_controller;

/* Adds the kind to the manager, before its start. `federation` is lent. Destroyed after the
 * manager. */
int fl_flround_controller_create(struct fl_manager *manager,
                                 struct fl_federation_driver *federation,
                                 struct fl_flround_controller **ret_controller,
                                 struct fl_error *err);
void fl_flround_controller_destroy(struct fl_flround_controller *controller);
FL_DEFINE_CLEANUP(struct fl_flround_controller, fl_flround_controller_destroy)

/* For the federation's driver: something about this project's root changed. Any thread. */
void fl_flround_changed(struct fl_flround_controller *controller, const char *ns,
                        const char *project);

#endif
