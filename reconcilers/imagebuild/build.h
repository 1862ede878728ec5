/* One build, from what is asked for to an image in a registry (or in a folder): fetch, check,
 * compose, push, and what is attached to the image (attest/attest.h). What was built before is not
 * built again. The same for `flops build` and for ImageBuild objects, which run it in a process
 * of their own (build_child.h).
 *
 * Stages, in order, as hooks hear of them: Fetch, Check, Build (of a Containerfile), Resolve, Base,
 * Dependencies, Program, Code, Model, Push. Blocking; one build a state folder at a time (CONFLICT
 * otherwise). */
#ifndef FL_RECONCILERS_BUILD_H
#define FL_RECONCILERS_BUILD_H

#include "controller/source/source.h"
#include "lib/oci/registry.h"
#include "reconcilers/imagebuild/attest/attest.h"
#include "reconcilers/imagebuild/compose/compose.h"

#define FL_BUILD_PLATFORMS_MAX 8
#define FL_BUILD_TAGS_MAX      17

/* Texts are the caller's and may be NULL where nothing is said. Secrets among them are told nobody
 * but whom they are for. */
struct fl_build {
    const struct fl_env *env;
    const char *folder; /* state: what is kept from build to build; made where it is not there */
    int64_t kept_bytes; /* most of it that is content; 0: 20 GiB */
    enum fl_imagebuild_target target;
    enum fl_imagebuild_backend backend;
    enum fl_imagebuild_lock_policy lock_policy;
    const char *containerfile;
    const char
        *base_image; /* to start from; pulled with the registry's credentials, if it is there */
    const char *const *args; /* of a Containerfile: "NAME=value", ended by NULL */
    const char *platforms[FL_BUILD_PLATFORMS_MAX];
    size_t platform_count;

    /* The code of a learner: a folder of this machine, or a commit. */
    const char *code;
    const char *url, *commit, *path;
    const char *username, *password, *identity, *known_hosts, *ca_pem;
    int64_t fetch_timeout_ms; /* 0: 2 min */
    const char *data_dir;     /* no file:// URL may lead into it */

    const char *model;    /* of an inference server: a file */
    const char *programs; /* folder with PLATFORM/flops (linux-arm64/flops) of other platforms */
    const char *program;  /* of this machine's platform */
    const char *adapter;
    const char *version;         /* of this program */
    const char *builder_version; /* what the user calls it; part of the key */
    const char *signing_key;     /* a file (attest/sign.h); NULL: the image is not signed */
    const char *log_file;        /* to which the process that builds writes; NULL: none */
    bool anew;                   /* also where the same was built before */

    /* Where the image goes: a registry or an OCI layout's folder. */
    const char *layout;
    const char *registry, *repository; /* "host:port", "team/name" */
    const char *registry_username, *registry_password, *registry_ca_pem;
    bool registry_plain_http, registry_insecure;
    const char *tags[FL_BUILD_TAGS_MAX];
    size_t tag_count;

    /* Of a build in a process of its own (builder.h): what it may use, all its programs together,
     * as far as the machine's control groups allow; and the group's name. 0, NULL: no bounds. */
    int64_t cpu_milli, memory_bytes;
    const char *group;

    const char *apt_sources;
    const char *const *packages_env; /* as fl_packages_options' extra_env */
    int64_t timeout_ms;              /* of all; 0: 30 min */
    struct fl_compose_hooks hooks;
    void (*log)(void *user, const char *line); /* with hooks.user; may be NULL */
};

struct fl_built {
    const char *key; /* what the result follows from (build_kept.h) */
    bool is_kept;    /* it was built before */
    struct fl_composed composed;
    const char *commit;  /* NULL: of a folder */
    const char *backend; /* "Compose" or "Buildah" */
    struct fl_registry_pushed pushed;
    struct fl_attestations attestations; /* of an image that was pushed */
};
/* Texts are in the arena. `*ret_stage` (may be NULL) is the stage that failed. */
int fl_build_run(const struct fl_build *build, struct fl_arena *arena, struct fl_built *ret_built,
                 const char **ret_stage, struct fl_error *err);

#endif
