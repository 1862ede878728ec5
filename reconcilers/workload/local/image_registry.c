#include "reconcilers/workload/local/image_registry.h"

#include "lib/str.h"

#define DEFAULT_TAG "latest"

static const char *own_host(const struct fl_image_registries *registries)
{
    const char *at = registries->url ? strstr(registries->url, "://") : NULL;

    return at ? at + 3 : NULL;
}

static bool is_loopback(const char *host)
{
    return fl_streq(host, "localhost") || fl_str_has_prefix(host, "localhost:") ||
           fl_str_has_prefix(host, "127.") || fl_str_has_prefix(host, "[::1]");
}

static int choose(const struct fl_image_registries *registries,
                  const struct fl_image_request *request, struct fl_arena *arena,
                  struct fl_registry_options *options, struct fl_error *err)
{
    const char *host = request->reference.registry, *own = own_host(registries);

    if (!host && !own)
        return fl_error_set(err, FL_E_INVALID,
                            "it names no registry, and the control plane has none");
    options->env = registries->env;
    options->host = host ? host : own;
    options->total_ms = request->timeout_ms;
    if (!host || fl_streq(host, own)) {
        options->ca_pem = registries->ca_pem;
        options->plain_http = fl_str_has_prefix(registries->url, "http://");
        options->bearer_token =
            registries->token(registries->user, request->reference.repository, arena);
        return 0;
    }
    options->plain_http = is_loopback(host);
    options->username = request->username;
    options->password = request->password;
    return 0;
}

static int pull(void *user, const struct fl_image_request *request, struct fl_blobs *blobs,
                const struct fl_registry_progress *progress, struct fl_arena *arena,
                struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const struct fl_image_registries *registries = user;
    FL_CLEANUP(fl_registry_closep) struct fl_registry *registry = NULL;
    struct fl_image_reference reference = request->reference;
    struct fl_registry_options options = {0};
    int r = choose(registries, request, arena, &options, err);

    if (!reference.tag && !reference.digest)
        reference.tag = DEFAULT_TAG;
    if (r == 0)
        r = fl_registry_open(&options, &registry, err);
    return r < 0
               ? r
               : fl_registry_pull(registry, &reference, request->platforms, request->platform_count,
                                  blobs, progress, arena, ret_taken, err);
}

struct fl_image_source fl_image_registries_source(struct fl_image_registries *registries)
{
    return (struct fl_image_source){pull, registries};
}
