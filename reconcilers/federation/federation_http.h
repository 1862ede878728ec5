/* The real driver of federations: roots over HTTP. */
#ifndef FL_RECONCILERS_FEDERATION_HTTP_H
#define FL_RECONCILERS_FEDERATION_HTTP_H

#include "lib/blobs.h"
#include "reconcilers/federation/federation.h"

struct fl_federation_http_options {
    const struct fl_env *env;
    struct fl_blobs *content; /* lent */
    int64_t max_model_bytes;  /* 0: 8 GiB */
    const char *import_ca;    /* file with the authorities for imports by https; NULL: the system's;
                                 lent */
    /* Models from file:/// in every namespace, not only flops-system: whoever may write FLProjects
     * can then make models of what the control plane may read. */
    bool files_everywhere;
    fl_federation_changed_fn *changed;
    void *user;
};
int fl_federation_http_create(const struct fl_federation_http_options *options,
                              struct fl_federation_driver **ret_driver, struct fl_error *err);

#endif
