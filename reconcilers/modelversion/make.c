/* What others do with ModelVersions: make one, and say what it goes by. */
#include "reconcilers/modelversion/modelversion.h"

#include "lib/str.h"

#include <inttypes.h>

#define PROJECT_LABEL "flops.dev/project"

char *fl_model_version_name(struct fl_arena *arena, const char *project, const char *project_uid,
                            int64_t round)
{
    char role[32];

    (void)snprintf(role, sizeof(role), "model-%" PRId64, round);
    return fl_child_name(arena, project, project_uid, role);
}

/* Making. */

static json_t *owner_of(const struct fl_object_meta *project)
{
    return json_pack("[{s:o, s:s, s:s, s:s, s:b, s:b}]", "apiVersion",
                     json_sprintf("%s/%s", fl_project_type.group, fl_project_type.version), "kind",
                     fl_project_type.kind, "name", project->name, "uid", project->uid, "controller",
                     1, "blockOwnerDeletion", 1);
}

static json_t *object_of(struct fl_reconcile *rc, const struct fl_object_meta *project,
                         const struct fl_modelversion_spec *spec, const char *name)
{
    struct fl_modelversion *version = fl_modelversion_new(rc->arena);
    json_t *object;

    version->spec = *spec;
    version->spec.project.name = project->name;
    object = fl_modelversion_encode(version);
    (void)json_object_set_new(object, "metadata",
                              json_pack("{s:s, s:s, s:{s:s}, s:o}", "name", name, "namespace",
                                        project->namespace, "labels", PROJECT_LABEL, project->name,
                                        "ownerReferences", owner_of(project)));
    (void)json_object_del(object, "status");
    return object;
}

static int check_same(const json_t *live, const struct fl_modelversion_spec *spec,
                      struct fl_error *err)
{
    if (fl_streq(fl_json_str(live, "spec.digest"), spec->digest))
        return 0;
    return fl_error_set(err, FL_E_CONFLICT, "it is there already, with digest %s instead of %s",
                        fl_str_or(fl_json_str(live, "spec.digest"), "none"), spec->digest);
}

int fl_model_version_make(struct fl_reconcile *rc, const struct fl_object_meta *project,
                          const struct fl_modelversion_spec *spec, const char **ret_name,
                          struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_modelversion_type);
    char *name = fl_model_version_name(rc->arena, project->name, project->uid, spec->round);
    FL_JSON live = NULL;
    FL_JSON object = NULL;
    int r;

    r = fl_apiclient_get(rc->client, &gvr, project->namespace, name, &live, err);
    if (r == FL_E_NOT_FOUND) {
        object = object_of(rc, project, spec, name);
        r = fl_apiclient_create_object(rc->client, &gvr, project->namespace, object, &live, err);
    }
    if (r == 0)
        r = check_same(live, spec, err);
    if (r < 0)
        return fl_error_wrap(err, "ModelVersion %s", name);
    *ret_name = name;
    return 0;
}

/* Aliases. */

struct naming {
    struct fl_apiclient *client;
    struct fl_gvr gvr;
    const char *ns, *alias;
};

static bool goes_by(const json_t *version, const char *alias)
{
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(version, "spec.aliases"), i, item)
        if (fl_streq(json_string_value(item), alias))
            return true;
    return false;
}

static json_t *aliases_with(const json_t *version, const char *alias, bool with)
{
    json_t *aliases = json_array(), *item;
    size_t i;

    json_array_foreach(fl_json_path(version, "spec.aliases"), i, item)
        if (!fl_streq(json_string_value(item), alias))
            (void)json_array_append(aliases, item);
    if (with)
        (void)json_array_append_new(aliases, json_string(alias));
    return aliases;
}

static int set_alias(const struct naming *naming, const json_t *version, bool with,
                     struct fl_error *err)
{
    const char *name = fl_json_str(version, "metadata.name");
    FL_JSON patch = NULL;
    int r;

    if (goes_by(version, naming->alias) == with)
        return 0;
    patch = json_pack("{s:{s:s?, s:s?}, s:{s:o}}", "metadata", "uid",
                      fl_json_str(version, "metadata.uid"), "resourceVersion",
                      fl_json_str(version, "metadata.resourceVersion"), "spec", "aliases",
                      aliases_with(version, naming->alias, with));
    r = fl_apiclient_patch(naming->client, &naming->gvr, naming->ns, name, NULL, patch, NULL, err);
    return r < 0 ? fl_error_wrap(err, "alias %s of %s", naming->alias, name) : 0;
}

static const json_t *find(const json_t *versions, const char *project, const char *name)
{
    json_t *version;
    size_t i;

    json_array_foreach((json_t *)versions, i, version)
        if (fl_streq(fl_json_str(version, "metadata.name"), name) &&
            fl_streq(fl_json_str(version, "spec.project.name"), project))
            return version;
    return NULL;
}

/* First it has the alias, then the others lose it: at no moment has nobody. */
int fl_model_version_alias(struct fl_apiclient *client, const char *ns, const char *project,
                           const char *alias, const char *name, struct fl_error *err)
{
    const struct naming naming = {client, fl_gvr_of(&fl_modelversion_type), ns, alias};
    const json_t *winner;
    FL_JSON versions = NULL;
    json_t *other;
    size_t i;
    int r;

    r = fl_apiclient_list(client, &naming.gvr, ns, NULL, &versions, err);
    if (r < 0)
        return r;
    winner = find(versions, project, name);
    if (!winner)
        return fl_error_set(err, FL_E_NOT_FOUND, "project %s has no ModelVersion %s", project,
                            name);
    r = set_alias(&naming, winner, true, err);
    json_array_foreach(versions, i, other)
        if (r == 0 && other != winner && fl_streq(fl_json_str(other, "spec.project.name"), project))
            r = set_alias(&naming, other, false, err);
    return r;
}
