/* `flops build`: an image from a folder of code, here and now. */
#include "cmd/building.h"
#include "cmd/command.h"
#include "cmd/options.h"
#include "lib/log.h"
#include "lib/str.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char help[] =
    "Usage: flops build [DIR] [options]\n\n"
    "Makes the image that a project's learners run from the training code in DIR (default: the\n"
    "current folder), as an ImageBuild would: nothing of the code is run, no root is needed,\n"
    "unless there is a Containerfile, or a package must be compiled.\n\n"
    "What:\n"
    "      --git URL           instead of DIR: a repository, with --commit C and --path P\n"
    "      --target T          Learner (the default), Aggregator or InferenceServer\n"
    "      --platform P        linux/amd64, linux/arm64 …; may be given several times\n"
    "                          (default: this machine's)\n"
    "      --lock-policy P     Require, Prefer (the default) or Solve\n"
    "      --backend B         Auto (the default), Compose or Buildah, which runs what it is told\n"
    "      --file NAME         of a Containerfile in DIR, which makes the image (by buildah)\n"
    "      --build-arg N=V     of a Containerfile; may be given several times\n"
    "      --base-image NAME   HOST[:PORT]/NAME[:TAG] to start from\n"
    "      --model FILE        of an InferenceServer: the model that is put in\n"
    "Where to:\n"
    "  -t, --tag NAME          HOST[:PORT]/NAME[:TAG]: pushed there; may be given several times\n"
    "                          with other tags of the same name\n"
    "      --username U        password in the variable FLOPS_REGISTRY_PASSWORD\n"
    "      --plain-http        of the registry; --insecure: no check of its certificate\n"
    "  -o, --output DIR        an OCI layout; without either the image is made and stays in the\n"
    "                          builder's folder\n"
    "How:\n"
    "      --apt-sources FILE  where Debian's packages come from (default: as on this machine)\n"
    "      --timeout D         default 30m\n"
    "      --data-dir DIR      builds are kept in DIR/builds (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "      --anew              also where the same was built before: looks for newer packages\n"
    "  -q, --quiet             prints the digest only\n\n"
    "Exit status: 0 done; 1 failed; 2 wrong usage.\n";

#define SHOWN_DIGEST 19 /* "sha256:" and twelve digits */

struct building {
    struct fl_arena *arena;
    struct fl_env env;
    struct fl_build build;
    struct fl_words platforms, tags, args;
    const char *target, *backend, *lock_policy, *data_dir;
    bool quiet, live;
    const char *stage; /* that is shown */
    int64_t stage_ms;
    const char *platform; /* that it is for; NULL: all */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signum)
{
    (void)signum;
    interrupted = 1;
}

/* The command line. */

struct choice {
    const char *name;
    int value;
};
static const struct choice targets[] = {
    {"Learner", FL_IMAGEBUILD_TARGET_LEARNER},
    {"Aggregator", FL_IMAGEBUILD_TARGET_AGGREGATOR},
    {"InferenceServer", FL_IMAGEBUILD_TARGET_INFERENCE_SERVER},
};
static const struct choice backends[] = {
    {"Auto", FL_IMAGEBUILD_BACKEND_AUTO},
    {"Compose", FL_IMAGEBUILD_BACKEND_COMPOSE},
    {"Buildah", FL_IMAGEBUILD_BACKEND_BUILDAH},
};
static const struct choice policies[] = {
    {"Require", FL_IMAGEBUILD_LOCK_POLICY_REQUIRE},
    {"Prefer", FL_IMAGEBUILD_LOCK_POLICY_PREFER},
    {"Solve", FL_IMAGEBUILD_LOCK_POLICY_SOLVE},
};

static int choose(const char *text, const struct choice *choices, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fl_streq(text, choices[i].name))
            return choices[i].value;
    return -1;
}

static int take_names(struct building *building)
{
    struct fl_build *build = &building->build;
    struct fl_error err = {0};

    for (size_t i = 0; i < building->tags.count; i++) {
        struct fl_image_reference reference;

        if (fl_image_reference_parse(building->arena, building->tags.items[i], &reference, &err) <
            0)
            return fl_command_usage("build", "--tag: %s", err.msg);
        if (!reference.registry || reference.digest)
            return fl_command_usage("build", "--tag %s: must be HOST[:PORT]/NAME[:TAG]",
                                    building->tags.items[i]);
        if (i > 0 && (!fl_streq(reference.registry, build->registry) ||
                      !fl_streq(reference.repository, build->repository)))
            return fl_command_usage("build", "--tag: all must be of one registry and name");
        if (i == FL_BUILD_TAGS_MAX)
            return fl_command_usage("build", "--tag: at most %d", FL_BUILD_TAGS_MAX);
        build->registry = reference.registry;
        build->repository = reference.repository;
        build->tags[build->tag_count++] = fl_str_or(reference.tag, "latest");
    }
    build->registry_password = getenv("FLOPS_REGISTRY_PASSWORD");
    return -1;
}

static int take_platforms(struct building *building)
{
    struct fl_build *build = &building->build;
    const struct fl_platform here = fl_platform_of_machine();

    if (building->platforms.count > FL_BUILD_PLATFORMS_MAX)
        return fl_command_usage("build", "--platform: at most %d", FL_BUILD_PLATFORMS_MAX);
    for (size_t i = 0; i < building->platforms.count; i++)
        build->platforms[build->platform_count++] = building->platforms.items[i];
    if (build->platform_count == 0)
        build->platforms[build->platform_count++] = fl_platform_text(building->arena, &here);
    return -1;
}

static int take_backend(struct building *building)
{
    struct fl_build *build = &building->build;
    int backend = choose(building->backend, backends, FL_COUNT_OF(backends));
    const char **args = fl_new_array(building->arena, const char *, building->args.count + 1);

    if (backend < 0)
        return fl_command_usage("build", "--backend %s: must be Auto, Compose or Buildah",
                                building->backend);
    for (size_t i = 0; i < building->args.count; i++)
        args[i] = building->args.items[i];
    build->backend = (enum fl_imagebuild_backend)backend;
    build->args = args;
    return -1;
}

static int take_words(struct building *building, const struct fl_words *words)
{
    struct fl_build *build = &building->build;
    int target = choose(building->target, targets, FL_COUNT_OF(targets));
    int policy = choose(building->lock_policy, policies, FL_COUNT_OF(policies));
    const char *folder = words->count > 0 ? words->items[0] : ".";

    if (words->count > 1 || (words->count > 0 && build->url))
        return fl_command_usage("build", "unexpected argument \"%s\"",
                                words->items[words->count - 1]);
    if (target < 0)
        return fl_command_usage("build",
                                "--target %s: must be Learner, Aggregator or "
                                "InferenceServer",
                                building->target);
    if (policy < 0)
        return fl_command_usage("build", "--lock-policy %s: must be Require, Prefer or Solve",
                                building->lock_policy);
    build->target = (enum fl_imagebuild_target)target;
    build->lock_policy = (enum fl_imagebuild_lock_policy)policy;
    if (target == FL_IMAGEBUILD_TARGET_LEARNER && !build->url) {
        FL_CLEANUP(fl_freep) char *absolute = realpath(folder, NULL);

        if (!absolute)
            return fl_command_usage("build", "%s: there is no such folder", folder);
        build->code = fl_arena_strdup(building->arena, absolute);
    }
    return -1;
}

static int parse(struct building *building, int argc, char **argv)
{
    struct fl_build *build = &building->build;
    const struct fl_option items[] = {
        {"git", 0, FL_OPTION_TEXT, &build->url},
        {"commit", 0, FL_OPTION_TEXT, &build->commit},
        {"path", 0, FL_OPTION_TEXT, &build->path},
        {"target", 0, FL_OPTION_TEXT, &building->target},
        {"platform", 0, FL_OPTION_LIST, &building->platforms},
        {"lock-policy", 0, FL_OPTION_TEXT, &building->lock_policy},
        {"backend", 0, FL_OPTION_TEXT, &building->backend},
        {"file", 0, FL_OPTION_TEXT, &build->containerfile},
        {"build-arg", 0, FL_OPTION_LIST, &building->args},
        {"base-image", 0, FL_OPTION_TEXT, &build->base_image},
        {"model", 0, FL_OPTION_TEXT, &build->model},
        {"tag", 't', FL_OPTION_LIST, &building->tags},
        {"username", 0, FL_OPTION_TEXT, &build->registry_username},
        {"plain-http", 0, FL_OPTION_FLAG, &build->registry_plain_http},
        {"insecure", 0, FL_OPTION_FLAG, &build->registry_insecure},
        {"output", 'o', FL_OPTION_TEXT, &build->layout},
        {"apt-sources", 0, FL_OPTION_TEXT, &build->apt_sources},
        {"timeout", 0, FL_OPTION_DURATION, &build->timeout_ms},
        {"data-dir", 0, FL_OPTION_TEXT, &building->data_dir},
        {"anew", 0, FL_OPTION_FLAG, &build->anew},
        {"quiet", 'q', FL_OPTION_FLAG, &building->quiet},
    };
    const struct fl_options options = {"build", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, building->arena, argc, argv, &words);

    if (status < 0)
        status = take_words(building, &words);
    if (status < 0)
        status = take_backend(building);
    if (status < 0)
        status = take_platforms(building);
    return status < 0 ? take_names(building) : status;
}

/* What people see. */

static const char *state_text(enum fl_stage_state state)
{
    return state == FL_STAGE_CACHED ? "cached" : state == FL_STAGE_FAILED ? "failed" : "done";
}

static void on_stage(void *user, const char *name, enum fl_stage_state state, const char *message)
{
    struct building *building = user;
    int64_t now_ms = fl_monotonic_ms(&building->env);

    if (building->quiet)
        return;
    if (!fl_streq(name, building->stage)) {
        building->stage = name;
        building->stage_ms = now_ms;
        building->platform =
            message && fl_str_has_prefix(message, "linux/") ? message : NULL; /* the arena's */
    }
    if (state == FL_STAGE_RUNNING) {
        if (building->live)
            (void)fprintf(stderr, "\r\033[K%-13s %.60s", name, fl_str_or(message, ""));
        return;
    }
    (void)fprintf(stderr, "%s%-13s %-7s %6.2f s%s%s\n", building->live ? "\r\033[K" : "", name,
                  state_text(state), (double)(now_ms - building->stage_ms) / 1000,
                  building->platform ? "  " : "", fl_str_or(building->platform, ""));
    building->stage = NULL;
}

static void on_log(void *user, const char *line)
{
    const struct building *building = user;

    if (!building->quiet)
        (void)fprintf(stderr, "%s%s\n", building->live ? "\r\033[K" : "", line);
}

static bool keep_going(void *user)
{
    (void)user;
    return !interrupted;
}

static void print_result(const struct building *building, const struct fl_built *built)
{
    if (building->quiet) {
        (void)printf("%s\n", built->composed.root.digest);
        return;
    }
    for (size_t i = 0; i < built->composed.platform_count; i++) {
        const struct fl_composed_platform *item = &built->composed.platforms[i];

        (void)printf("%-13s %.*s %7.1f MB, %.1f MB unpacked, %zu layers\n",
                     fl_platform_text(building->arena, &item->platform), SHOWN_DIGEST, item->digest,
                     (double)item->size / 1e6, (double)item->unpacked_size / 1e6, item->layers);
    }
    (void)printf("image  %s\n", built->composed.root.digest);
    if (!building->build.registry)
        return;
    (void)printf("pushed %s/%s: %.1f MB sent, %.1f MB were there\n", building->build.registry,
                 building->build.repository, (double)built->pushed.bytes_sent / 1e6,
                 (double)built->pushed.bytes_there / 1e6);
    if (built->attestations.signature.digest)
        (void)printf("signed with the key in %s/signing.pub\n", building->data_dir);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct building building = {
        .arena = arena, .target = "Learner", .backend = "Auto", .lock_policy = "Prefer"};
    const struct sigaction action = {.sa_handler = on_interrupt};
    struct fl_built built = {0};
    struct fl_error err = {0};
    int status = parse(&building, argc, argv), r;

    if (status >= 0)
        return status;
    building.env = fl_env_real(NULL);
    building.live = isatty(STDERR_FILENO) == 1;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (!building.data_dir)
        building.data_dir = fl_default_data_dir(arena);
    r = fl_building_prepare(&building.env, building.data_dir, arena, &building.build, &err);
    building.build.hooks = (struct fl_compose_hooks){on_stage, keep_going, &building};
    building.build.log = on_log;
    if (r == 0)
        r = fl_build_run(&building.build, arena, &built, NULL, &err);
    if (r < 0)
        return fl_command_fail("build", &err);
    print_result(&building, &built);
    return 0;
}

const struct fl_command fl_command_build = {"build", "make an image of training code", run};
