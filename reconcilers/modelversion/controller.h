/* Adding the ModelVersion kind to a manager. */
#ifndef FL_RECONCILERS_MODELVERSION_CONTROLLER_H
#define FL_RECONCILERS_MODELVERSION_CONTROLLER_H

#include "controller/content/content.h"
#include "controller/runtime/manager.h"

struct fl_modelversion_controller;

/* Before the manager's start. `contents` is lent. Destroyed after the manager. */
int fl_modelversion_controller_create(struct fl_manager *manager, struct fl_contents *contents,
                                      struct fl_modelversion_controller **ret_controller,
                                      struct fl_error *err);
void fl_modelversion_controller_destroy(struct fl_modelversion_controller *controller);
FL_DEFINE_CLEANUP(struct fl_modelversion_controller, fl_modelversion_controller_destroy)

#endif
