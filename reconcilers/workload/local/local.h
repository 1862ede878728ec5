/* The orchestrator `local`: this machine, in processes, and in containers where crun or runc is
 * installed.
 *
 * Each run is held by a shim (lib/shim.h) that outlives the control plane, so a restart finds what
 * runs and what ended meanwhile. What a driver must remember is in a folder for each instance below
 * `data_dir`/local; one driver at a time uses it. The driver has a thread of its own, which hears
 * the shims and probes what runs; its functions take one lock and wait for no program. */
#ifndef FL_RECONCILERS_LOCAL_H
#define FL_RECONCILERS_LOCAL_H

#include "lib/cgroup.h"
#include "reconcilers/workload/local/images.h"
#include "reconcilers/workload/orchestrator_driver.h"

struct fl_local_options {
    const struct fl_env *env; /* lent; of real time */
    const char *data_dir;     /* absolute */
    const char *program;      /* absolute path of `flops` */
    const char *shim;         /* the shim's program; NULL: `flops-shim` beside `program`, else
                                 `program shim` */
    const char *version;      /* of `flops`, shown as the orchestrator's; may be NULL */
    const char *cgroup_root;  /* NULL: the machine's; "-": do without control groups */
    const struct fl_image_source *images; /* lent; NULL: only images that are there */
    const char *first;                    /* flops-init; NULL: the one beside `program` */
    bool no_images;                       /* processes only */
    bool no_overlay;                      /* each container has a copy of its image */
    int64_t hung_ms; /* past its grace period: then a shim that does not obey is killed; 0: 30 s */
    fl_run_changed_fn *changed; /* may be NULL */
    void *changed_user;
};

/* Adopts what is there. Destroying the driver leaves alone what runs. */
int fl_local_create(const struct fl_local_options *options,
                    struct fl_orchestrator_driver **ret_driver, struct fl_error *err);

/* What limits are made of here, for people and for tests that need them; never NULL. */
const char *fl_local_limits(const struct fl_orchestrator_driver *driver);

/* NULL: images are not run here. The driver's as long as it lives. */
struct fl_images *fl_local_images(const struct fl_orchestrator_driver *driver);

/* As fl_orchestrator_make_fn; `user` is a struct fl_local_options, whose `changed` is not used. */
int fl_local_make(void *user, const char *name, fl_run_changed_fn *changed, void *changed_user,
                  struct fl_orchestrator_driver **ret_driver, struct fl_error *err);

#endif
