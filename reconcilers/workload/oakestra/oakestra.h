/* The orchestrator `oakestra`: an Oakestra root, which deploys containers in its clusters.
 *
 * A Workload is one application on the root, and each run of an instance is one service in it with
 * one instance: so a run has an environment and an address of its own, is replaced under a name
 * that was never used, and is deleted by itself. Names follow from the Workload's uid and from who
 * we are, so what a crash left behind is found again, adopted or removed, and strangers' services
 * on the same root are never touched.
 *
 * The root's answers are not believed: 200 means "received". A thread of the driver's own makes all
 * calls, one at a time, and does the next thing only when a list that was asked for after the last
 * one shows what became of it (core.h decides, as a pure function). What a run was told is on disk
 * below `data_dir`/oakestra/NAME before anything is sent; values of Secrets are not.
 *
 * While the root does not answer, nothing that runs counts as ended. The driver's functions take
 * one lock and wait for nobody. */
#ifndef FL_RECONCILERS_OAKESTRA_H
#define FL_RECONCILERS_OAKESTRA_H

#include "reconcilers/workload/orchestrator_driver.h"

/* Of the Secret that the Orchestrator names; in the arena. `organization` may be NULL. */
struct fl_oakestra_credentials {
    const char *username, *password, *organization;
};
typedef int fl_oakestra_credentials_fn(void *user, const struct fl_orchestrator_spec *spec,
                                       struct fl_arena *arena,
                                       struct fl_oakestra_credentials *ret_credentials,
                                       struct fl_error *err);

struct fl_oakestra_options {
    const struct fl_env *env; /* lent; of real time */
    const char *data_dir;     /* absolute */
    const char *name;         /* of the Orchestrator */
    const char *identity;     /* of this control plane, the same for its whole life */
    /* Called by the driver's thread each time it logs in, so that a new password is found. */
    fl_oakestra_credentials_fn *credentials;
    void *credentials_user;
    int64_t follow_ms;          /* after a call, until it is looked for what became of it; 0: 250 */
    fl_run_changed_fn *changed; /* may be NULL */
    void *changed_user;
};

/* Reads the records. Destroying the driver leaves alone what runs. */
int fl_oakestra_create(const struct fl_oakestra_options *options,
                       struct fl_orchestrator_driver **ret_driver, struct fl_error *err);

/* What it asked of the root since it began; for tests and benchmarks. */
struct fl_oakestra_counts {
    int64_t logins, lists, clusters, changes, failures;
};
struct fl_oakestra_counts fl_oakestra_counts(struct fl_orchestrator_driver *driver);

#endif
