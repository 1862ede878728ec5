#include "reconcilers/flproject/flproject_code.h"

#include "controller/runtime/reconcile.h"
#include "lib/digest.h"
#include "lib/json.h"
#include "lib/str.h"

#include <string.h>

#define DIGITS 10 /* of a digest, in a name */

struct code {
    const struct fl_flproject_code_input *input;
    const struct fl_project_source_git *git;
    const struct fl_project_build *build;
    struct fl_arena *arena;
    struct fl_flproject_code *out;
    const char *request;
};

/* Names */

static const char *digest_text(struct fl_arena *arena, const json_t *value)
{
    const char *text = fl_json_to_string(arena, value);
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(text, strlen(text), digest);
    return fl_arena_strdup(arena, digest + strlen("sha256:"));
}

/* What of source.git a commit is found by. */
const char *fl_flproject_request(const struct fl_project *project, const json_t *json,
                                 struct fl_arena *arena)
{
    static const char *const words[] = {"url", "ref", "path", "verify"};
    const json_t *git = fl_json_path(json, "spec.source.git");
    FL_JSON request = json_object();

    if (!project->spec.source.has_git)
        return NULL;
    for (size_t i = 0; i < FL_COUNT_OF(words); i++)
        if (json_object_get(git, words[i]))
            (void)json_object_set(request, words[i], json_object_get(git, words[i]));
    return digest_text(arena, request);
}

/* One name for the same image, another for each other one. */
static const char *role_of(const struct code *code, const char *what, const char *commit)
{
    const json_t *json = code->input->json;
    FL_JSON all = json_object();

    (void)json_object_set_new(all, "commit", json_string(fl_str_or(commit, "")));
    if (commit)
        (void)json_object_set_new(all, "source",
                                  json_deep_copy(fl_json_path(json, "spec.source.git")));
    (void)json_object_set_new(all, "build", json_deep_copy(fl_json_path(json, "spec.build")));
    return fl_arena_printf(code->arena, "%s-%.*s", what, DIGITS, digest_text(code->arena, all));
}

/* What there is */

static const struct fl_imagebuild *find_build(const struct code *code, const char *role)
{
    const struct fl_object_meta *meta = &code->input->project->meta;
    const char *name = fl_child_name(code->arena, meta->name, meta->uid, role);

    for (size_t i = 0; i < code->input->build_count; i++)
        if (fl_streq(code->input->builds[i]->meta.name, name))
            return code->input->builds[i];
    return NULL;
}

static const char *annotation_of(const struct fl_imagebuild *build, const char *name)
{
    return json_string_value(json_object_get(build->meta.annotations, name));
}

/* The commit that these words led to before; NULL: never. */
static const struct fl_imagebuild *find_frozen(const struct code *code)
{
    for (size_t i = 0; i < code->input->build_count; i++) {
        const struct fl_imagebuild *build = code->input->builds[i];

        if (build->spec.has_source && !build->meta.deletion_timestamp &&
            fl_streq(annotation_of(build, FL_FLPROJECT_REQUEST), code->request))
            return build;
    }
    return NULL;
}

static const char *image_of(const struct code *code, enum fl_workload_role role)
{
    for (size_t i = 0; i < code->input->workload_count; i++) {
        const struct fl_workload *workload = code->input->workloads[i];

        if (workload->spec.role == role && workload->spec.image)
            return workload->spec.image;
    }
    return NULL;
}

const char *fl_flproject_built(const struct fl_imagebuild *build, struct fl_arena *arena)
{
    const struct fl_condition *done = fl_condition_find(&build->status.conditions, "Succeeded");

    if (!done || done->status != FL_CONDITION_STATUS_TRUE || !build->status.has_image ||
        !build->status.image.name || !build->status.image.digest)
        return NULL;
    return fl_arena_printf(arena, "%s@%s", build->status.image.name, build->status.image.digest);
}

/* What should be */

static struct fl_imagebuild *make_build(const struct code *code)
{
    static const enum fl_imagebuild_backend backends[] = {
        [FL_PROJECT_BUILD_BACKEND_UNSET] = FL_IMAGEBUILD_BACKEND_AUTO,
        [FL_PROJECT_BUILD_BACKEND_AUTO] = FL_IMAGEBUILD_BACKEND_AUTO,
        [FL_PROJECT_BUILD_BACKEND_COMPOSE] = FL_IMAGEBUILD_BACKEND_COMPOSE,
        [FL_PROJECT_BUILD_BACKEND_BUILDAH] = FL_IMAGEBUILD_BACKEND_BUILDAH,
    };
    struct fl_imagebuild *made = fl_object_new(&fl_imagebuild_type, code->arena);
    struct fl_imagebuild_spec *spec = &made->spec;

    spec->backend = backends[code->build->backend];
    spec->platforms = code->build->platforms;
    spec->has_registry = code->build->has_registry;
    spec->registry = code->build->registry;
    spec->timeout = code->build->timeout;
    spec->retry_limit = code->build->retry_limit;
    return made;
}

static struct fl_imagebuild *make_learner(const struct code *code)
{
    static const enum fl_imagebuild_lock_policy policies[] = {
        [FL_PROJECT_BUILD_LOCK_POLICY_UNSET] = FL_IMAGEBUILD_LOCK_POLICY_PREFER,
        [FL_PROJECT_BUILD_LOCK_POLICY_REQUIRE] = FL_IMAGEBUILD_LOCK_POLICY_REQUIRE,
        [FL_PROJECT_BUILD_LOCK_POLICY_PREFER] = FL_IMAGEBUILD_LOCK_POLICY_PREFER,
        [FL_PROJECT_BUILD_LOCK_POLICY_SOLVE] = FL_IMAGEBUILD_LOCK_POLICY_SOLVE,
    };
    struct fl_imagebuild *made = make_build(code);
    struct fl_imagebuild_spec *spec = &made->spec;

    spec->target = FL_IMAGEBUILD_TARGET_LEARNER;
    spec->has_source = true;
    spec->source = (struct fl_imagebuild_source){
        .url = code->git->url,
        .commit = code->out->commit,
        .path = code->git->path,
        .credentials_secret = code->git->credentials_secret,
        .has_credentials_secret = code->git->has_credentials_secret,
        .timeout = code->git->timeout,
    };
    spec->base_image = code->build->base_image;
    spec->file = code->build->file;
    spec->args = code->build->args;
    spec->lock_policy = policies[code->build->lock_policy];
    made->meta.annotations =
        fl_json_in_arena(code->arena, json_pack("{s:s, s:s*}", FL_FLPROJECT_REQUEST, code->request,
                                                FL_FLPROJECT_SIGNER, code->out->signer));
    return made;
}

/* It has nothing of the user's: the program alone. */
static struct fl_imagebuild *make_aggregator(const struct code *code)
{
    struct fl_imagebuild *made = make_build(code);

    made->spec.target = FL_IMAGEBUILD_TARGET_AGGREGATOR;
    made->spec.backend = FL_IMAGEBUILD_BACKEND_COMPOSE;
    return made;
}

/* Models come to it by address: one image serves all of them. */
static struct fl_imagebuild *make_server(const struct code *code)
{
    struct fl_imagebuild *made = make_aggregator(code);

    made->spec.target = FL_IMAGEBUILD_TARGET_INFERENCE_SERVER;
    return made;
}

static void want(const struct code *code, struct fl_flproject_code_build *build, const char *role,
                 struct fl_imagebuild *(*make)(const struct code *code))
{
    build->role = role;
    build->current = find_build(code, role);
    build->make = build->current ? NULL : make(code);
}

static void want_server(struct code *code)
{
    struct fl_flproject_code *out = code->out;

    if (!code->input->project->spec.has_serve)
        return;
    want(code, &out->server, role_of(code, "server-image", NULL), make_server);
    if (out->server.current)
        out->server_image = fl_flproject_built(out->server.current, code->arena);
}

static void find_commit(struct code *code)
{
    const struct fl_flproject_fetched *fetched = code->input->fetched;
    const struct fl_imagebuild *frozen = find_frozen(code);
    const struct fl_git_ref *ref = &code->git->ref;

    if (frozen) {
        code->out->commit = frozen->spec.source.commit;
        code->out->signer = annotation_of(frozen, FL_FLPROJECT_SIGNER);
    } else if (fetched->state == FL_FLPROJECT_FETCH_DONE) {
        code->out->commit = fetched->commit;
        code->out->signer = fetched->signer;
    } else {
        code->out->ask = true;
    }
    code->out->ref = !code->git->has_ref ? NULL : ref->branch ? ref->branch : ref->tag;
}

static void want_images(struct code *code)
{
    struct fl_flproject_code *out = code->out;
    const char *learner, *aggregator;

    want(code, &out->learner, role_of(code, "image", out->commit), make_learner);
    want(code, &out->aggregator, role_of(code, "aggregator-image", NULL), make_aggregator);
    learner = out->learner.current ? fl_flproject_built(out->learner.current, code->arena) : NULL;
    aggregator =
        out->aggregator.current ? fl_flproject_built(out->aggregator.current, code->arena) : NULL;
    want_server(code);
    if (!learner || !aggregator)
        return;
    out->is_current = true;
    out->learner_image = learner;
    out->aggregator_image = aggregator;
}

void fl_flproject_code(const struct fl_flproject_code_input *input, struct fl_arena *arena,
                       struct fl_flproject_code *ret_code)
{
    const struct fl_project_spec *spec = &input->project->spec;
    struct code code = {.input = input,
                        .git = &spec->source.git,
                        .build = &spec->build,
                        .arena = arena,
                        .out = ret_code};

    *ret_code = (struct fl_flproject_code){.is_needed = spec->source.has_git};
    if (!spec->source.has_git) {
        ret_code->learner_image = spec->source.image;
        ret_code->is_current = true;
        return;
    }
    code.request = fl_flproject_request(input->project, input->json, arena);
    find_commit(&code);
    if (ret_code->commit)
        want_images(&code);
    if (ret_code->is_current)
        return;
    ret_code->learner_image = image_of(&code, FL_WORKLOAD_ROLE_LEARNER);
    ret_code->aggregator_image = image_of(&code, FL_WORKLOAD_ROLE_AGGREGATOR);
}
