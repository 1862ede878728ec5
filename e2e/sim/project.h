/* FLProjects in the simulation: what users and the outside (project.c) share with oracles
 * (project_oracles.c). */
#ifndef FL_E2E_SIM_PROJECT_H
#define FL_E2E_SIM_PROJECT_H

#include "e2e/sim/sim.h"
#include "lib/blobs.h"
#include "reconcilers/federation/federation_fake.h"
#include "reconcilers/workload/orchestrator_fake.h"

#define PROJECT_NS    "default"
#define PROJECT_NAMES 2

extern const struct fl_gvr project_projects, project_rounds, project_models, project_workloads,
    project_orchestrators;
extern const char *const project_names[PROJECT_NAMES];

struct project_place {
    struct sim *sim;
    struct fl_fake_world *world;
    struct fl_fake_roots *roots;
    struct fl_blobs *content; /* of this run: made when the first process joins */
    char folder[64];
    unsigned ends_left, fails_left, hand_made;
    bool lost;            /* a root has lost its disk */
    enum sim_fault fault; /* of the driver's call under way */
};

bool project_converged(struct sim *sim, struct fl_buf *why);

#endif
