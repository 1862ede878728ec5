/* The InferenceServer kind: a model served over HTTP under one stable address.
 *
 * It owns a Workload for each revision that serves (`flops serve`, or the user's image; a model of
 * somebody's own code in that code's image), one with the router before them (`flops router`), and
 * Secrets with what they need. A pass finds the model that is wanted, looks at servers and router,
 * decides (plan.h), acts, and tells what it sees. */
#ifndef FL_RECONCILERS_INFERENCESERVER_H
#define FL_RECONCILERS_INFERENCESERVER_H

/* Annotation: the image of this program that router and servers run in, "NAME@sha256:…". Unset: the
 * program of the node. */
#define FL_SERVING_PROGRAM_IMAGE "flops.dev/program-image"

#include "controller/runtime/manager.h"
#include "reconcilers/inferenceserver/router_driver.h"

struct fl_inferenceserver_controller;

/* How a server gets a model from the content store. Texts in the arena. */
struct fl_content_grant {
    const char *url;    /* of the content */
    const char *token;  /* a bearer token that opens this content and nothing else; may be NULL */
    const char *ca_pem; /* of the server's certificate; may be NULL */
};
typedef int fl_content_grant_fn(void *user, const char *digest, struct fl_arena *arena,
                                struct fl_content_grant *ret_grant, struct fl_error *err);

/* Whether a model of the content store does not say what it is, so that the code it was trained by
 * has to predict. */
typedef bool fl_content_needs_code_fn(void *user, const char *digest);

struct fl_inferenceserver_options {
    struct fl_router_driver *routers; /* lent */
    fl_content_grant_fn *grant;
    fl_content_needs_code_fn *needs_code; /* NULL: none does */
    void *user;
};

/* Adds the kind to the manager, before its start. Destroyed after the manager. */
int fl_inferenceserver_controller_create(struct fl_manager *manager,
                                         const struct fl_inferenceserver_options *options,
                                         struct fl_inferenceserver_controller **ret_controller,
                                         struct fl_error *err);
void fl_inferenceserver_controller_destroy(struct fl_inferenceserver_controller *controller);
FL_DEFINE_CLEANUP(struct fl_inferenceserver_controller, fl_inferenceserver_controller_destroy)
/* As fl_router_changed_fn; `user` is a struct fl_inferenceserver_controller. */
void fl_inferenceserver_router_changed(void *user, const char *ns, const char *name);

#endif
