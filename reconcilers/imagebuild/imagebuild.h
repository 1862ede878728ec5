/* The reconciler of ImageBuild: one image from one frozen commit, built once.
 *
 * An attempt runs at the builder (builder.h) under a key of the object's uid and the attempt's
 * number. Attempts that fail for a cause that may pass are tried again after a delay, at most
 * spec.retryLimit times; what is wrong with the code or the request ends the build at once. A
 * restart of the control plane begins the attempt anew, which finds the layers that were made; what
 * was given up stays so until the object is edited. What was built stays as it is: what an
 * ImageBuild says of its result never changes.
 *
 * The image goes to spec.registry or, without one, to the control plane's own, under the name
 * spec.image or NAMESPACE/NAME-OF-THE-REPOSITORY, with the commit and spec.tags as tags. In the
 * control plane's own, an image's name begins with its namespace: who may make ImageBuilds in one
 * namespace has no say in what another's are called. */
#ifndef FL_RECONCILERS_IMAGEBUILD_H
#define FL_RECONCILERS_IMAGEBUILD_H

#include "controller/runtime/manager.h"
#include "controller/runtime/reconcile.h"
#include "reconcilers/imagebuild/builder.h"

extern const struct fl_kind_ops fl_imagebuild_ops;

/* What of a build does not depend on the object: folder, programs, adapter, versions, environment.
 */
struct fl_imagebuild_options {
    const struct fl_build *common; /* lent */
    /* The control plane's own registry: fills in where it is and with what it is written to, for
     * one repository; texts in the arena. */
    int (*own_registry)(void *user, const char *repository, struct fl_arena *arena,
                        struct fl_build *build, struct fl_error *err);
    /* The file of a model of the content store, by its digest. */
    int (*model)(void *user, const char *digest, struct fl_arena *arena, const char **ret_path,
                 struct fl_error *err);
    void *user;
};
struct fl_imagebuild_controller;
/* Order: create; make the builder with fl_imagebuild_changed and this as its user; attach; …; stop
 * the manager, destroy the builder, then this. */
struct fl_imagebuild_controller *
fl_imagebuild_controller_create(const struct fl_imagebuild_options *options);
int fl_imagebuild_controller_attach(struct fl_imagebuild_controller *controller,
                                    struct fl_manager *manager, struct fl_builder *builder,
                                    struct fl_error *err);
void fl_imagebuild_controller_destroy(struct fl_imagebuild_controller *controller);
void fl_imagebuild_changed(void *user, const char *key);

/* "scikit-mnist" of "https://host/team/scikit-mnist.git": what an image is called after. Arena. */
const char *fl_imagebuild_name_of(struct fl_arena *arena, const char *url);

#endif
