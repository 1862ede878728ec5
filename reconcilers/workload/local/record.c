/* The record of an instance's last run. What was written by a broken disk or another version is
 * refused as a whole: its folder is then set aside. */
#include "reconcilers/workload/local/internal.h"

#include "lib/file.h"

#include <assert.h>
#include <string.h>

/* The part of the Workload's table that describes probes. */
static const struct fl_field *find_field(const struct fl_field *fields, const char *name)
{
    while (fields->name && strcmp(fields->name, name) != 0)
        fields++;
    assert(fields->name);
    return fields;
}

static const struct fl_field *probes_field(void)
{
    return find_field(find_field(fl_workload_type.fields, "spec")->fields, "probes");
}

static json_t *encode_strings(const char *const *items, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(items[i]));
    return array;
}

static json_t *encode_ports(const struct record *record)
{
    json_t *array = json_array();

    for (size_t i = 0; i < record->port_count; i++) {
        const struct run_port *port = &record->ports[i];

        json_array_append_new(array, json_pack("{s:s, s:I, s:b, s:b, s:s}", "name", port->name,
                                               "port", (json_int_t)port->port, "udp", port->udp,
                                               "fixed", port->fixed, "address", port->address));
    }
    return array;
}

static json_t *encode_exit(const struct fl_run_exit *exit)
{
    json_t *json = json_pack("{s:s, s:I, s:b}", "reason", exit->reason, "endedUs",
                             (json_int_t)exit->ended_us, "oomKilled", exit->oom_killed);

    if (exit->has_code)
        json_object_set_new(json, "code", json_integer(exit->code));
    fl_json_set_str(json, "signal", exit->signal);
    fl_json_set_str(json, "message", exit->message);
    fl_json_set_str(json, "logTail", exit->log_tail);
    return json;
}

static json_t *encode_numbers(const struct record *record)
{
    return json_pack(
        "{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "version",
        RECORD_VERSION, "number", (json_int_t)record->number, "restarts",
        (json_int_t)record->restarts, "failures", (json_int_t)record->failures, "firstUs",
        (json_int_t)record->first_us, "requestedUs", (json_int_t)record->requested_us, "readyUs",
        (json_int_t)record->ready_us, "started", record->started, "ready", record->ready,
        "stopSignal", (json_int_t)record->stop_signal, "graceMs", (json_int_t)record->grace_ms,
        "cpuMilli", (json_int_t)record->requested.cpu_milli, "memoryBytes",
        (json_int_t)record->requested.memory_bytes, "storageBytes",
        (json_int_t)record->requested.storage_bytes, "gpus", (json_int_t)record->requested.gpus);
}

json_t *record_encode(const struct record *record)
{
    json_t *json = encode_numbers(record);

    fl_json_set_str(json, "specHash", record->spec_hash);
    fl_json_set_str(json, "namespace", record->ns);
    fl_json_set_str(json, "name", record->name);
    fl_json_set_str(json, "cluster", record->cluster);
    fl_json_set_str(json, "node", record->node);
    fl_json_set_str(json, "workingFolder", record->working_folder);
    fl_json_set_str(json, "address", record->address);
    fl_json_set_str(json, "note", record->note);
    fl_json_set_str(json, "image", record->image);
    fl_json_set_str(json, "imageDigest", record->image_digest);
    fl_json_set_str(json, "container", record->container);
    fl_json_set_str(json, "runtime", record->runtime);
    if (record->layers.count > 0)
        json_object_set_new(json, "layers",
                            encode_strings(record->layers.items, record->layers.count));
    json_object_set_new(json, "files", encode_strings(record->files.items, record->files.count));
    json_object_set_new(json, "cgroup",
                        encode_strings(record->cgroup.folders, record->cgroup.count));
    json_object_set_new(json, "ports", encode_ports(record));
    if (record->has_probes)
        json_object_set_new(json, "probes",
                            fl_fields_encode(probes_field()->fields, &record->probes));
    if (record->previous.reason)
        json_object_set_new(json, "previous", encode_exit(&record->previous));
    return json;
}

static const char *text_of(struct fl_arena *arena, const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text ? fl_arena_strdup(arena, text) : NULL;
}

static bool decode_files(struct fl_arena *arena, const json_t *json, struct record *record)
{
    size_t count = json_array_size(json);

    if (count > RUN_FILES_MAX + 1) /* with a container's config.json */
        return false;
    record->files.items = fl_new_array(arena, const char *, count);
    for (size_t i = 0; i < count; i++) {
        const char *path = json_string_value(json_array_get(json, i));

        if (!path || !fl_path_is_below(path))
            return false;
        record->files.items[record->files.count++] = fl_arena_strdup(arena, path);
    }
    return true;
}

static bool decode_layers(struct fl_arena *arena, const json_t *json, struct record *record)
{
    size_t count = json_array_size(json);

    if (count > FL_OCI_LAYERS_MAX)
        return false;
    record->layers.items = fl_new_array(arena, const char *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(json, i));

        if (!name || !*name || strchr(name, '/'))
            return false;
        record->layers.items[record->layers.count++] = fl_arena_strdup(arena, name);
    }
    return true;
}

/* A container's id and what runs it become words of a command. */
static bool decode_container(struct fl_arena *arena, const json_t *json, struct record *record)
{
    record->image = text_of(arena, json, "image");
    record->image_digest = text_of(arena, json, "imageDigest");
    record->container = text_of(arena, json, "container");
    record->runtime = text_of(arena, json, "runtime");
    return (!record->container || record->container[0] != '-') &&
           (!record->runtime || record->runtime[0] == '/') &&
           decode_layers(arena, json_object_get(json, "layers"), record);
}

static bool decode_cgroup(struct fl_arena *arena, const json_t *json, struct record *record)
{
    size_t count = json_array_size(json);

    if (count > FL_CGROUP_FOLDERS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *path = json_string_value(json_array_get(json, i));

        if (!path || path[0] != '/' || !fl_path_is_below(path + 1))
            return false;
        record->cgroup.folders[record->cgroup.count++] = fl_arena_strdup(arena, path);
    }
    return true;
}

static bool decode_ports(struct fl_arena *arena, const json_t *json, struct record *record)
{
    size_t count = json_array_size(json);

    if (count > RUN_PORTS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(json, i);
        struct run_port *port = &record->ports[record->port_count++];

        port->name = text_of(arena, item, "name");
        port->address = text_of(arena, item, "address");
        port->port = fl_json_int(item, "port", 0);
        port->udp = fl_json_bool(item, "udp", false);
        port->fixed = fl_json_bool(item, "fixed", false);
        if (!port->name || !port->address || port->port < 1 || port->port > 65535)
            return false;
    }
    return true;
}

static bool decode_previous(struct fl_arena *arena, const json_t *json, struct record *record)
{
    struct fl_run_exit *exit = &record->previous;

    if (!json)
        return true;
    *exit = (struct fl_run_exit){
        .reason = text_of(arena, json, "reason"),
        .signal = text_of(arena, json, "signal"),
        .message = text_of(arena, json, "message"),
        .log_tail = text_of(arena, json, "logTail"),
        .ended_us = fl_json_int(json, "endedUs", 0),
        .oom_killed = fl_json_bool(json, "oomKilled", false),
        .has_code = json_is_integer(json_object_get(json, "code")),
        .code = fl_json_int(json, "code", 0),
    };
    return exit->reason != NULL;
}

static bool decode_probes(struct fl_arena *arena, const json_t *json, struct record *record)
{
    const struct fl_field *field = probes_field();

    record->has_probes = json != NULL;
    return !json || fl_fields_decode(field->fields, sizeof(record->probes), json, "probes", arena,
                                     &record->probes, NULL) == 0;
}

static void decode_numbers(const json_t *json, struct record *record)
{
    record->number = fl_json_int(json, "number", 0);
    record->restarts = fl_json_int(json, "restarts", 0);
    record->failures = fl_json_int(json, "failures", 0);
    record->first_us = fl_json_int(json, "firstUs", 0);
    record->requested_us = fl_json_int(json, "requestedUs", 0);
    record->ready_us = fl_json_int(json, "readyUs", 0);
    record->started = fl_json_bool(json, "started", false);
    record->ready = fl_json_bool(json, "ready", false);
    record->stop_signal = fl_json_int(json, "stopSignal", 0);
    record->grace_ms = fl_json_int(json, "graceMs", 0);
    record->requested.cpu_milli = fl_json_int(json, "cpuMilli", 0);
    record->requested.memory_bytes = fl_json_int(json, "memoryBytes", 0);
    record->requested.storage_bytes = fl_json_int(json, "storageBytes", 0);
    record->requested.gpus = fl_json_int(json, "gpus", 0);
}

static bool decode_texts(struct fl_arena *arena, const json_t *json, struct record *record)
{
    record->spec_hash = text_of(arena, json, "specHash");
    record->ns = text_of(arena, json, "namespace");
    record->name = text_of(arena, json, "name");
    record->cluster = text_of(arena, json, "cluster");
    record->node = text_of(arena, json, "node");
    record->working_folder = text_of(arena, json, "workingFolder");
    record->address = text_of(arena, json, "address");
    record->note = text_of(arena, json, "note");
    return record->ns && record->name && record->spec_hash;
}

int record_decode(struct fl_arena *arena, const char *text, size_t len, struct record *ret_record,
                  struct fl_error *err)
{
    struct record record = {0};
    struct fl_error why = {0};
    FL_JSON json = NULL;

    if (len > RECORD_MAX || fl_json_parse(text, len, NULL, NULL, NULL, &json, &why) < 0)
        return fl_error_set(err, FL_E_INVALID, "record of an instance: %s", why.msg);
    if (fl_json_int(json, "version", 0) != RECORD_VERSION)
        return fl_error_set(err, FL_E_INVALID, "record of an instance: not of version %d",
                            RECORD_VERSION);
    decode_numbers(json, &record);
    if (record.number < 1 || record.stop_signal < 1 || record.stop_signal > 64 ||
        !decode_texts(arena, json, &record) || !decode_container(arena, json, &record) ||
        !decode_files(arena, json_object_get(json, "files"), &record) ||
        !decode_cgroup(arena, json_object_get(json, "cgroup"), &record) ||
        !decode_ports(arena, json_object_get(json, "ports"), &record) ||
        !decode_probes(arena, json_object_get(json, "probes"), &record) ||
        !decode_previous(arena, json_object_get(json, "previous"), &record))
        return fl_error_set(err, FL_E_INVALID, "record of an instance: damaged");
    *ret_record = record;
    return 0;
}

void record_clone_probes(struct fl_arena *arena, const struct fl_workload_probes *from,
                         struct fl_workload_probes *ret_probes)
{
    fl_fields_clone(probes_field()->fields, sizeof(*from), from, arena, ret_probes);
}

int record_check(const struct record *record, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = record_encode(record);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = fl_json_to_bytes(json);
    struct record back;

    return record_decode(arena, bytes->data, bytes->len, &back, err);
}

int record_write(const struct instance *instance, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = record_encode(&instance->record);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = fl_json_to_bytes(json);
    const char *path =
        fl_arena_printf(arena, "%s/instance.json", local_instance_folder(arena, instance));

    return fl_file_write(path, bytes->data, bytes->len, 0600, err);
}

struct fl_run_exit exit_of_status(const struct fl_shim_status *status)
{
    return (struct fl_run_exit){
        .has_code = status->has_code,
        .code = status->code,
        .signal = status->signal,
        .oom_killed = status->oom_killed,
        .reason = status->reason,
        .message = status->message,
        .ended_us = status->ended_us,
        .log_tail = status->log_tail,
    };
}
