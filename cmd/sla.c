/* `flops sla`: what the Workloads in files become on an Oakestra root. */
#include "reconcilers/workload/oakestra/sla.h"
#include "api/field.h"
#include "cmd/command.h"
#include "cmd/manifest.h"
#include "cmd/sla_project.h"
#include "lib/buf.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

static const char help[] =
    "Usage: flops sla [options] FILE…\n\n"
    "Prints the service level agreements (SLAs) that the Workloads in the files become on an\n"
    "Oakestra root, and those that FLProjects lead to: one application a Workload, one\n"
    "microservice an instance. Each is checked against Oakestra's schema. Nothing is sent; files\n"
    "may be folders, or - for standard input.\n\n"
    "      --cluster NAME         of the root (repeatable: a project is planned for all of them);\n"
    "                             instances without spec.placement.cluster are in the first\n"
    "      --namespace NAME       of applications (default flops)\n"
    "      --program-image IMAGE  has the program flops, for Workloads that run it as a process\n"
    "      --constraints KIND     Direct (default) or Legacy, for roots up to v0.4.402\n"
    "      --customer NAME        user at the root (default Admin)\n"
    "\nValues of Secrets, and addresses that a root gives, are shown as <…>. Where a Workload has\n"
    "no uid yet, names follow from its namespace and name.\n"
    "\nExamples:\n"
    "  flops sla workload.yaml\n"
    "  flops sla --cluster munich --cluster berlin --program-image IMAGE project.yaml\n"
    "  kubectl get workload digits-root -o yaml | flops sla --cluster munich -\n"
    "\nExit status: 0 all are fine; 1 one cannot be; 2 wrong usage.\n";

struct sla {
    const char *ns, *program_image, *constraints, *customer;
    struct fl_words clusters;
    struct fl_arena *arena;
    char prefix[OAK_PREFIX_SIZE];
    size_t printed;
};

/* What a run is given; secrets are named, not read. */

static struct fl_run_env *environment(struct sla *sla, const struct fl_workload_spec *spec)
{
    struct fl_run_env *env = fl_new_array(sla->arena, struct fl_run_env, spec->env.count + 1);

    for (size_t i = 0; i < spec->env.count; i++) {
        const struct fl_env_var *var = &spec->env.items[i];
        const struct fl_secret_key_ref *ref = &var->value_from.secret_key_ref;

        env[i] = (struct fl_run_env){
            var->name, var->has_value_from
                           ? fl_arena_printf(sla->arena, "<Secret %s, key %s>", ref->name, ref->key)
                           : fl_str_or(var->value, "")};
    }
    return env;
}

static struct fl_run_file *files(struct sla *sla, const struct fl_workload_spec *spec)
{
    struct fl_run_file *list = fl_new_array(sla->arena, struct fl_run_file, spec->files.count + 1);

    for (size_t i = 0; i < spec->files.count; i++) {
        const struct fl_workload_file *file = &spec->files.items[i];
        const char *text =
            file->has_secret_key_ref
                ? fl_arena_printf(sla->arena, "<Secret %s, key %s>", file->secret_key_ref.name,
                                  file->secret_key_ref.key)
                : fl_str_or(file->content, "");

        list[i] =
            (struct fl_run_file){file->path, text, strlen(text),
                                 file->mode ? (mode_t)strtoul(file->mode, NULL, 8) : (mode_t)0400};
    }
    return list;
}

/* One Workload */

static const char *cluster_of(const struct sla *sla, const struct fl_workload_spec *spec)
{
    if (spec->has_placement && spec->placement.cluster)
        return spec->placement.cluster;
    return sla->clusters.count > 0 ? sla->clusters.items[0] : NULL;
}

static int add_instance(struct sla *sla, const struct fl_run_spec *run, json_t *services,
                        int64_t *ret_port, struct fl_error *err)
{
    static const char *const drivers[] = {"<csi-driver>"};
    struct oak_cluster cluster = {
        .name = run->cluster, .csi_drivers = drivers, .csi_count = FL_COUNT_OF(drivers)};
    const struct oak_sla_input input = {
        .run = run,
        .ns = sla->ns,
        .program_image = sla->program_image,
        .cluster = run->cluster ? &cluster : NULL,
        .legacy = fl_streq(sla->constraints, "Legacy"),
    };
    struct oak_sla made;
    int r = oak_sla_make(&input, sla->arena, &made, err);

    if (r < 0)
        return r;
    *ret_port = made.port_count > 0 ? made.ports[0].port : 0;
    if (made.port_count > 0)
        oak_sla_put_address(made.service, "<free service address>");
    (void)json_array_append(services, made.service);
    return 0;
}

/* A fl_sla_each_fn. */
static int print_workload(void *user, const struct fl_workload *workload, int64_t *ret_port,
                          struct fl_error *err)
{
    struct sla *sla = user;
    const struct fl_workload_spec *spec = &workload->spec;
    char app[OAK_NAME_SIZE];
    FL_JSON services = json_array();
    FL_JSON whole = NULL;
    FL_CLEANUP(fl_buf_finish) struct fl_buf text;
    struct fl_run_spec run = {
        .id = {workload->meta.uid, 0},
        .number = 1,
        .spec_hash = "",
        .ns = fl_str_or(workload->meta.namespace, "default"),
        .name = workload->meta.name,
        .cluster = cluster_of(sla, spec),
        .node = cluster_of(sla, spec),
        .spec = spec,
        .env = environment(sla, spec),
        .env_count = spec->env.count,
        .files = files(sla, spec),
        .file_count = spec->files.count,
    };
    int r = 0;

    fl_buf_init(&text, 0);
    if (!run.id.workload_uid)
        run.id.workload_uid = fl_arena_printf(sla->arena, "%s.%s", run.ns, run.name);
    for (; r == 0 && run.id.index < spec->instances; run.id.index++)
        r = add_instance(sla, &run, services, ret_port, err);
    if (r < 0)
        return r;
    oak_app_name(sla->prefix, run.id.workload_uid, app);
    whole =
        oak_sla_wrap(&(struct oak_sla_frame){.customer = sla->customer,
                                             .app = app,
                                             .ns = sla->ns,
                                             .desc = oak_app_desc(sla->arena, run.id.workload_uid)},
                     json_incref(services));
    r = oak_sla_check(whole, err);
    if (r < 0)
        return r;
    fl_json_write_pretty(&text, whole);
    (void)printf("%s%s", sla->printed++ > 0 ? "---\n" : "", fl_buf_text(&text));
    return 0;
}

static int read_workload(struct sla *sla, const struct fl_document *document,
                         struct fl_workload **ret_workload, struct fl_error *err)
{
    void *object = NULL;
    int r;

    if (document->error)
        return fl_error_set(err, FL_E_INVALID, "%s", document->error);
    r = fl_object_decode(&fl_workload_type, document->object, sla->arena, &object, err);
    *ret_workload = object;
    return r;
}

static bool leads_to_some(const struct fl_document *document)
{
    return document->error || fl_streq(document->kind, "Workload") ||
           fl_streq(document->kind, "FLProject");
}

static int print_object(struct sla *sla, const struct fl_document *document, struct fl_error *err)
{
    struct fl_workload *workload = NULL;
    int64_t port = 0;
    int r;

    if (!document->error && fl_streq(document->kind, "FLProject"))
        return fl_sla_project(document->object, &sla->clusters, sla->arena, print_workload, sla,
                              err);
    r = read_workload(sla, document, &workload, err);
    return r < 0 ? r : print_workload(sla, workload, &port, err);
}

static int print_document(struct sla *sla, const struct fl_document *document)
{
    struct fl_error err = {0};

    if (!leads_to_some(document) || print_object(sla, document, &err) == 0)
        return 0;
    (void)fl_error_wrap(&err, "%s", document->where);
    return fl_command_fail("sla", &err);
}

static int print_all(struct sla *sla, const struct fl_words *words)
{
    struct fl_documents documents = {.arena = sla->arena};
    size_t found = 0;
    int status = 0;

    fl_documents_read(&documents, words, false);
    for (size_t i = 0; i < documents.count; i++) {
        found += leads_to_some(&documents.items[i]);
        if (print_document(sla, &documents.items[i]) != 0)
            status = 1;
    }
    if (found > 0)
        return status;
    return fl_command_usage("sla", "neither a Workload nor an FLProject is in the files");
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct sla sla = {.ns = "flops", .constraints = "Direct", .customer = "Admin", .arena = arena};
    const struct fl_option items[] = {
        {"cluster", 0, FL_OPTION_LIST, &sla.clusters},
        {"namespace", 0, FL_OPTION_TEXT, &sla.ns},
        {"program-image", 0, FL_OPTION_TEXT, &sla.program_image},
        {"constraints", 0, FL_OPTION_TEXT, &sla.constraints},
        {"customer", 0, FL_OPTION_TEXT, &sla.customer},
    };
    const struct fl_options options = {"sla", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count == 0)
        return fl_command_usage("sla", "say which FILE");
    if (strcmp(sla.constraints, "Direct") != 0 && strcmp(sla.constraints, "Legacy") != 0)
        return fl_command_usage("sla", "--constraints %s: Direct or Legacy", sla.constraints);
    oak_prefix("preview", "preview", sla.prefix);
    return print_all(&sla, &words);
}

const struct fl_command fl_command_sla = {"sla", "what Workloads become on an Oakestra root", run};
