#include "reconcilers/workload/oakestra/sla.h"

#include "lib/digest.h"
#include "lib/str.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#define ENVIRONMENT_MAX ((size_t)1024 * 1024)
#define MIB             INT64_C(1048576)

struct making {
    const struct oak_sla_input *input;
    const struct fl_run_spec *run;
    const struct fl_workload_spec *spec;
    struct fl_arena *arena;
    struct oak_sla *sla;
};

/* The mark */

const char *oak_mark_write(struct fl_arena *arena, const struct oak_mark *mark)
{
    return fl_arena_printf(arena,
                           "%s/%" PRId64 "/%" PRId64 "/%" PRId64 "/%" PRId64 "/%" PRId64 "/%s",
                           mark->uid, mark->index, mark->number, mark->restarts, mark->failures,
                           mark->first_us, fl_str_or(mark->spec_hash, ""));
}

static bool next_number(struct fl_arena *arena, const char **rest, int64_t min, int64_t *ret)
{
    const char *text = *rest ? fl_str_next(arena, rest, '/') : NULL;

    return text && fl_str_to_int64(text, min, INT64_MAX, ret);
}

bool oak_mark_read(struct fl_arena *arena, const char *text, struct oak_mark *ret_mark)
{
    struct oak_mark mark = {0};
    const char *rest = text;

    mark.uid = fl_str_next(arena, &rest, '/');
    if (!mark.uid || !*mark.uid || !next_number(arena, &rest, 0, &mark.index) ||
        !next_number(arena, &rest, 1, &mark.number) ||
        !next_number(arena, &rest, 0, &mark.restarts) ||
        !next_number(arena, &rest, 0, &mark.failures) ||
        !next_number(arena, &rest, 0, &mark.first_us) || !rest)
        return false;
    mark.spec_hash = fl_arena_strdup(arena, rest);
    *ret_mark = mark;
    return true;
}

/* What cannot be */

/* Images of these roles that do not say what they start have this program for entry point, as
 * those that ImageBuilds make. Oakestra's cmd takes the place of an entry point, so it is named. */
static bool is_own_image(const struct fl_workload_spec *spec)
{
    return spec->image && spec->command.count == 0 &&
           (spec->role == FL_WORKLOAD_ROLE_AGGREGATOR || spec->role == FL_WORKLOAD_ROLE_LEARNER ||
            spec->role == FL_WORKLOAD_ROLE_INFERENCE_SERVER);
}

static bool is_flops(const struct fl_workload_spec *spec)
{
    return (spec->has_process && fl_streq(spec->process.program, "flops")) || is_own_image(spec);
}

static int check_program(const struct making *m, struct fl_error *err)
{
    const struct fl_workload_spec *spec = m->spec;

    if (spec->image && !is_flops(spec) && spec->args.count > 0 && spec->command.count == 0)
        return fl_error_set(err, FL_E_INVALID,
                            "args without command: Oakestra's cmd takes the place of the image's "
                            "entry point, so say that, too, in command");
    if (spec->image)
        return 0;
    if (!is_flops(spec))
        return fl_error_set(err, FL_E_INVALID,
                            "process.program %s: Oakestra runs images only (and the program flops, "
                            "from spec.oakestra.programImage of the Orchestrator)",
                            fl_str_or(spec->process.program, ""));
    if (!m->input->program_image)
        return fl_error_set(err, FL_E_INVALID,
                            "process.program flops: say which image has it, in "
                            "spec.oakestra.programImage of the Orchestrator");
    return 0;
}

static int check_folders(const struct making *m, struct fl_error *err)
{
    const struct fl_workload_mount_list *mounts = &m->spec->mounts;

    if (is_flops(m->spec))
        return 0;
    if (m->run->file_count > 0)
        return fl_error_set(err, FL_E_INVALID,
                            "files: Oakestra puts none into the container of an image");
    for (size_t i = 0; i < mounts->count; i++)
        if (mounts->items[i].path[0] != '/')
            return fl_error_set(err, FL_E_INVALID, "mount %s: must be an absolute path",
                                mounts->items[i].path);
    return 0;
}

static int check(const struct making *m, struct fl_error *err)
{
    int r = check_program(m, err);

    if (r == 0)
        r = check_folders(m, err);
    if (r < 0)
        return r;
    if (m->spec->has_image_pull_secret)
        return fl_error_set(err, FL_E_INVALID,
                            "imagePullSecret: Oakestra's workers have no passwords of registries");
    if (m->spec->ports.count > OAK_PORTS_MAX)
        return fl_error_set(err, FL_E_INVALID, "more than %d ports", OAK_PORTS_MAX);
    if (m->run->id.index < 0 || m->run->number < 1)
        return fl_error_set(err, FL_E_INVALID, "instances begin at 0 and runs at 1");
    return 0;
}

/* Ports. One that we may choose follows from who the run is, so that neighbours on a node seldom
 * meet, and a run keeps it. */

static int64_t choose_port(const struct making *m, size_t i)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    unsigned char digest[FL_SHA256_SIZE];
    const char *who = fl_arena_printf(m->arena, "%s/%" PRId64 "/%" PRId64 "/%zu",
                                      m->run->id.workload_uid, m->run->id.index, m->run->number, i);

    fl_sha256_add(hash, who, strlen(who));
    fl_sha256_end(hash, digest);
    return OAK_PORT_FIRST +
           (digest[0] << 16 | digest[1] << 8 | digest[2]) % (OAK_PORT_LAST - OAK_PORT_FIRST + 1);
}

static bool is_taken(const struct oak_sla *sla, int64_t port)
{
    for (size_t i = 0; i < sla->port_count; i++)
        if (sla->ports[i].port == port || sla->ports[i].host_port == port)
            return true;
    return false;
}

static void make_ports(struct making *m)
{
    for (size_t i = 0; i < m->spec->ports.count; i++) {
        const struct fl_workload_port *from = &m->spec->ports.items[i];
        struct oak_port port = {
            .name = fl_arena_strdup(m->arena, from->name),
            .port = from->port,
            .host_port = from->host_port,
            .udp = from->protocol == FL_WORKLOAD_PORT_PROTOCOL_UDP,
        };

        for (size_t again = 0; port.port == 0 || (from->port == 0 && is_taken(m->sla, port.port));
             again++)
            port.port = choose_port(m, i + again * OAK_PORTS_MAX);
        if (port.host_port == 0 && from->expose == FL_WORKLOAD_PORT_EXPOSE_NETWORK)
            port.host_port = port.port;
        m->sla->ports[m->sla->port_count++] = port;
    }
}

/* "host:container/udp;…", and nothing behind the last: an empty one is refused on the node. */
static const char *port_text(const struct making *m)
{
    const char *text = "";

    for (size_t i = 0; i < m->sla->port_count; i++) {
        const struct oak_port *port = &m->sla->ports[i];

        if (port->host_port > 0)
            text =
                fl_arena_printf(m->arena, "%s%s%" PRId64 ":%" PRId64 "%s", text, *text ? ";" : "",
                                port->host_port, port->port, port->udp ? "/udp" : "");
    }
    return text;
}

/* Environment */

static void add_text(json_t *list, const char *text)
{
    (void)json_array_append_new(list, json_string(text));
}

static void add_env(const struct making *m, json_t *list, const char *name, const char *value)
{
    add_text(list, fl_arena_printf(m->arena, "%s=%s", name, value));
}

static bool has_env(const json_t *list, const char *name)
{
    size_t len = strlen(name), i;
    json_t *item;

    json_array_foreach((json_t *)list, i, item) {
        const char *text = json_string_value(item);

        if (strncmp(text, name, len) == 0 && text[len] == '=')
            return true;
    }
    return false;
}

static const char *port_variable(const struct making *m, const char *name)
{
    char *variable = fl_arena_printf(m->arena, "PORT_%s", name);

    for (char *at = variable; *at; at++)
        *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
    return variable;
}

static json_t *parcel_of(const struct making *m)
{
    json_t *files = json_array(), *folders = json_array(), *data = json_array();

    for (size_t i = 0; i < m->run->file_count; i++) {
        const struct fl_run_file *file = &m->run->files[i];

        (void)json_array_append_new(
            files, json_pack("{s:s, s:i, s:s}", "path", file->path, "mode", (int)file->mode, "data",
                             fl_base64_encode(m->arena, file->data, file->len)));
    }
    for (size_t i = 0; i < m->spec->mounts.count; i++) {
        const struct fl_workload_mount *mount = &m->spec->mounts.items[i];

        add_text(mount->type == FL_WORKLOAD_MOUNT_TYPE_DATA ? data : folders, mount->path);
    }
    return json_pack("{s:o, s:o, s:o}", "files", files, "folders", folders, "data", data);
}

static bool needs_parcel(const struct making *m)
{
    return is_flops(m->spec) && (m->run->file_count > 0 || m->spec->mounts.count > 0);
}

static json_t *environment(const struct making *m)
{
    const struct fl_run_spec *run = m->run;
    const struct oak_mark mark = {run->id.workload_uid, run->spec_hash, run->id.index, run->number,
                                  run->restarts,        run->failures,  run->first_us};
    json_t *list = json_array();

    add_env(m, list, OAK_MARK, oak_mark_write(m->arena, &mark));
    add_env(m, list, "FLOPS_WORKLOAD", fl_str_or(run->name, ""));
    add_env(m, list, "FLOPS_NAMESPACE", fl_str_or(run->ns, ""));
    add_env(m, list, "FLOPS_INSTANCE", fl_arena_printf(m->arena, "%" PRId64, run->id.index));
    add_env(m, list, "FLOPS_NODE", fl_str_or(run->node, ""));
    add_env(m, list, "FLOPS_CLUSTER", fl_str_or(run->cluster, ""));
    for (size_t i = 0; i < m->sla->port_count; i++)
        add_env(m, list, port_variable(m, m->sla->ports[i].name),
                fl_arena_printf(m->arena, "%" PRId64, m->sla->ports[i].port));
    if (needs_parcel(m)) {
        FL_JSON parcel = parcel_of(m);

        add_env(m, list, OAK_PARCEL, fl_json_to_string(m->arena, parcel));
    }
    for (size_t i = 0; i < run->env_count; i++)
        if (!has_env(list, run->env[i].name))
            add_env(m, list, run->env[i].name, fl_str_or(run->env[i].value, ""));
    /* Beyond the container's loopback there is nobody but Oakestra's network. */
    if (is_flops(m->spec) && !has_env(list, "FLOPS_LISTEN"))
        add_env(m, list, "FLOPS_LISTEN", "0.0.0.0");
    return list;
}

static json_t *command(const struct making *m)
{
    json_t *list = json_array();

    if (needs_parcel(m)) {
        add_text(list, "flops");
        add_text(list, "unpack");
        add_text(list, "--");
    }
    if (is_flops(m->spec))
        add_text(list, "flops");
    for (size_t i = 0; i < m->spec->command.count; i++)
        add_text(list, m->spec->command.items[i]);
    for (size_t i = 0; i < m->spec->args.count; i++)
        add_text(list, m->spec->args.items[i]);
    return list;
}

/* Where */

static json_t *addons_wanted(const struct making *m)
{
    json_t *list = json_array();

    for (size_t i = 0; m->spec->has_placement && i < m->spec->placement.addons.count; i++)
        add_text(list, m->spec->placement.addons.items[i]);
    return list;
}

static json_t *constraints(const struct making *m)
{
    const struct oak_cluster *cluster = m->input->cluster;
    FL_JSON addons = addons_wanted(m);
    json_t *list = json_array();

    if (cluster && m->input->legacy)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:[s]}", "type", "clusters", "allowed", cluster->name));
    else if (cluster)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "type", "direct", "cluster", cluster->name));
    if (json_array_size(addons) > 0 && (m->input->legacy || m->input->addons))
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:O}", "type", "addons", "needs", addons));
    return list;
}

/* Mounts of an image's are volumes where the cluster has a driver for them. State is of the
 * instance, scratch of the run, data of the node. */
static int volumes(const struct making *m, json_t *service, struct fl_error *err)
{
    static const char *const kinds[] = {
        [FL_WORKLOAD_MOUNT_TYPE_DATA] = "data",
        [FL_WORKLOAD_MOUNT_TYPE_STATE] = "state",
        [FL_WORKLOAD_MOUNT_TYPE_SCRATCH] = "scratch",
    };
    const struct oak_cluster *cluster = m->input->cluster;
    FL_JSON list = json_array();

    for (size_t i = 0; i < m->spec->mounts.count; i++) {
        const struct fl_workload_mount *mount = &m->spec->mounts.items[i];
        bool data = mount->type == FL_WORKLOAD_MOUNT_TYPE_DATA;

        if (is_flops(m->spec) && !data)
            continue; /* in the container's own files */
        if ((!cluster || cluster->csi_count == 0) && !is_flops(m->spec))
            return fl_error_set(err, FL_E_INVALID,
                                "mount %s: cluster %s has no CSI driver that could make it",
                                mount->path, cluster ? cluster->name : "(any)");
        if (cluster && cluster->csi_count > 0)
            (void)json_array_append_new(
                list, json_pack("{s:s, s:s, s:s}", "volume_id",
                                data ? "flops-data"
                                     : fl_arena_printf(m->arena, "flops-%s-%" PRId64 "-%s-%zu",
                                                       m->run->id.workload_uid, m->run->id.index,
                                                       kinds[mount->type], i),
                                "csi_driver", cluster->csi_drivers[0], "mount_path",
                                is_flops(m->spec) ? OAK_DATA : mount->path));
    }
    if (json_array_size(list) > 0)
        (void)json_object_set(service, "volumes", list);
    return 0;
}

/* All of it */

static int64_t round_up(int64_t amount, int64_t unit)
{
    return amount / unit + (amount % unit != 0);
}

static json_t *bare_service(const struct making *m)
{
    char name[OAK_NAME_SIZE];

    oak_service_name(m->run->id.index, m->run->number, name);
    /* Always a one-shot: what ends with 0 stays ended until we look, and starting it again is not
     * the cluster's to decide. */
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:s, s:o, s:o, s:o}", "microserviceID",
        "", "microservice_name", name, "microservice_namespace", m->input->ns, "virtualization",
        "container", "code", m->spec->image ? m->spec->image : m->input->program_image, "one_shot",
        1, "memory", (json_int_t)round_up(m->sla->requested.memory_bytes, MIB), "vcpus",
        (json_int_t)round_up(m->sla->requested.cpu_milli, 1000), "vgpus",
        (json_int_t)m->sla->requested.gpus, "storage",
        (json_int_t)round_up(m->sla->requested.storage_bytes, MIB), "port", port_text(m), "cmd",
        command(m), "environment", environment(m), "constraints", constraints(m));
}

static int check_environment(const json_t *service, struct fl_error *err)
{
    const json_t *list = json_object_get(service, "environment");
    size_t total = 0;

    for (size_t i = 0; i < json_array_size(list); i++)
        total += json_string_length(json_array_get(list, i)) + 1;
    return total <= ENVIRONMENT_MAX
               ? 0
               : fl_error_set(err, FL_E_INVALID,
                              "environment and files have %zu bytes together; at most %zu fit",
                              total, ENVIRONMENT_MAX);
}

int oak_sla_make(const struct oak_sla_input *input, struct fl_arena *arena, struct oak_sla *ret_sla,
                 struct fl_error *err)
{
    struct oak_sla sla = {.requested = fl_workload_needs(input->run->spec)};
    struct making m = {input, input->run, input->run->spec, arena, &sla};
    json_t *service;
    int r = check(&m, err);

    if (r < 0)
        return r;
    make_ports(&m);
    service = bare_service(&m);
    if (!service)
        return fl_error_set(err, FL_E_INVALID, "texts of the service are not UTF-8");
    sla.service = fl_json_in_arena(arena, service);
    r = volumes(&m, service, err);
    if (r == 0)
        r = check_environment(service, err);
    if (r < 0)
        return r;
    *ret_sla = sla;
    return 0;
}

void oak_sla_put_address(json_t *service, const char *rr_ip)
{
    (void)json_object_set_new(service, "addresses", json_pack("{s:s}", "rr_ip", rr_ip));
}

json_t *oak_sla_wrap(const struct oak_sla_frame *frame, json_t *services)
{
    json_t *app = json_pack("{s:s, s:s, s:s, s:o}", "application_name", frame->app,
                            "application_namespace", frame->ns, "application_desc", frame->desc,
                            "microservices", services ? services : json_array());

    if (frame->app_id)
        fl_json_set_str(app, "applicationID", frame->app_id);
    return json_pack("{s:s, s:s, s:[o]}", "sla_version", "v2.0", "customerID", frame->customer,
                     "applications", app);
}
