/* The record of an instance's last run, as bytes. */
#include "lib/str.h"
#include "reconcilers/workload/oakestra/internal.h"

static json_t *encode_ports(const struct oak_record *record)
{
    json_t *list = json_array();

    for (size_t i = 0; i < record->port_count; i++) {
        const struct oak_port *port = &record->ports[i];

        (void)json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:b}", "name", port->name,
                                                    "port", (json_int_t)port->port, "hostPort",
                                                    (json_int_t)port->host_port, "udp", port->udp));
    }
    return list;
}

static json_t *encode_exit(const struct fl_run_exit *exit)
{
    json_t *json =
        json_pack("{s:s, s:I}", "reason", exit->reason, "endedUs", (json_int_t)exit->ended_us);

    if (exit->has_code)
        (void)json_object_set_new(json, "code", json_integer(exit->code));
    fl_json_set_str(json, "message", exit->message);
    fl_json_set_str(json, "logTail", exit->log_tail);
    return json;
}

struct number {
    const char *key;
    size_t offset;
};

#define NUMBER(key, member)                                                                        \
    {                                                                                              \
        key, offsetof(struct oak_record, member)                                                   \
    }
static const struct number numbers[] = {
    NUMBER("index", index),
    NUMBER("number", number),
    NUMBER("restarts", restarts),
    NUMBER("failures", failures),
    NUMBER("firstUs", first_us),
    NUMBER("requestedUs", requested_us),
    NUMBER("startedUs", started_us),
    NUMBER("readyUs", ready_us),
    NUMBER("cpuMilli", requested.cpu_milli),
    NUMBER("memoryBytes", requested.memory_bytes),
    NUMBER("storageBytes", requested.storage_bytes),
    NUMBER("gpus", requested.gpus),
    NUMBER("instance", instance),
    NUMBER("statusUs", status_us),
    NUMBER("creates", creates),
    NUMBER("deploys", deploys),
    NUMBER("undeploys", undeploys),
    NUMBER("deletes", deletes),
    NUMBER("actedUs", acted_us),
    NUMBER("missingUs", missing_us),
};

static const struct number texts[] = {
    NUMBER("uid", uid),
    NUMBER("specHash", spec_hash),
    NUMBER("namespace", ns),
    NUMBER("name", name),
    NUMBER("cluster", cluster),
    NUMBER("node", node),
    NUMBER("serviceId", service_id),
    NUMBER("rrIp", rr_ip),
    NUMBER("publicIp", public_ip),
    NUMBER("image", image),
    NUMBER("clusterId", cluster_id),
};
#undef NUMBER

static const char *const *text_of(const struct oak_record *record, size_t i)
{
    return (const char *const *)((const char *)record + texts[i].offset);
}

json_t *oak_record_encode(const struct oak_record *record)
{
    json_t *json =
        json_pack("{s:i, s:i, s:b, s:o}", "version", OAK_RECORD_VERSION, "status",
                  (int)record->status, "gone", record->gone, "ports", encode_ports(record));

    for (size_t i = 0; i < FL_COUNT_OF(numbers); i++) {
        int64_t value;

        memcpy(&value, (const char *)record + numbers[i].offset, sizeof(value));
        (void)json_object_set_new(json, numbers[i].key, json_integer(value));
    }
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        fl_json_set_str(json, texts[i].key, *text_of(record, i));
    if (record->exit.reason)
        (void)json_object_set_new(json, "exit", encode_exit(&record->exit));
    if (record->previous.reason)
        (void)json_object_set_new(json, "previous", encode_exit(&record->previous));
    return json;
}

static bool decode_ports(struct fl_arena *arena, const json_t *list, struct oak_record *record)
{
    size_t count = json_array_size(list);

    if (count > OAK_PORTS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *from = json_array_get(list, i);
        struct oak_port *port = &record->ports[record->port_count++];

        *port = (struct oak_port){
            .name = fl_arena_copy(arena, fl_json_str(from, "name")),
            .port = fl_json_int(from, "port", 0),
            .host_port = fl_json_int(from, "hostPort", 0),
            .udp = fl_json_bool(from, "udp", false),
        };
        if (!port->name || port->port < 1 || port->port > 65535 || port->host_port < 0 ||
            port->host_port > 65535)
            return false;
    }
    return true;
}

static bool decode_exit(struct fl_arena *arena, const json_t *json, struct fl_run_exit *exit)
{
    if (!json)
        return true;
    *exit = (struct fl_run_exit){
        .reason = fl_arena_copy(arena, fl_json_str(json, "reason")),
        .message = fl_arena_copy(arena, fl_json_str(json, "message")),
        .log_tail = fl_arena_copy(arena, fl_json_str(json, "logTail")),
        .ended_us = fl_json_int(json, "endedUs", 0),
        .has_code = json_is_integer(json_object_get(json, "code")),
        .code = fl_json_int(json, "code", 0),
    };
    return exit->reason != NULL;
}

static void decode_plain(struct fl_arena *arena, const json_t *json, struct oak_record *record)
{
    for (size_t i = 0; i < FL_COUNT_OF(numbers); i++) {
        int64_t value = fl_json_int(json, numbers[i].key, 0);

        memcpy((char *)record + numbers[i].offset, &value, sizeof(value));
    }
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        const char *value = fl_arena_copy(arena, fl_json_str(json, texts[i].key));

        memcpy((char *)record + texts[i].offset, &value, sizeof(value));
    }
}

static bool is_whole(const struct oak_record *record, int64_t status)
{
    return record->uid && *record->uid && record->index >= 0 && record->number >= 1 && record->ns &&
           record->name && record->spec_hash && status >= OAK_NO_STATUS && status < OAK_STATUSES &&
           (!record->gone || record->exit.reason);
}

int oak_record_decode(struct fl_arena *arena, const char *text, size_t len,
                      struct oak_record *ret_record, struct fl_error *err)
{
    struct oak_record record = {0};
    struct fl_error why = {0};
    FL_JSON json = NULL;
    int64_t status;

    if (len > OAK_RECORD_MAX || fl_json_parse(text, len, NULL, NULL, NULL, &json, &why) < 0)
        return fl_error_set(err, FL_E_INVALID, "record of a run: %s", why.msg);
    if (fl_json_int(json, "version", 0) != OAK_RECORD_VERSION)
        return fl_error_set(err, FL_E_INVALID, "record of a run: not of version %d",
                            OAK_RECORD_VERSION);
    decode_plain(arena, json, &record);
    record.gone = fl_json_bool(json, "gone", false);
    status = fl_json_int(json, "status", 0);
    if (!decode_ports(arena, json_object_get(json, "ports"), &record) ||
        !decode_exit(arena, json_object_get(json, "exit"), &record.exit) ||
        !decode_exit(arena, json_object_get(json, "previous"), &record.previous) ||
        !is_whole(&record, status))
        return fl_error_set(err, FL_E_INVALID, "record of a run: damaged");
    record.status = (enum oak_status)status;
    *ret_record = record;
    return 0;
}
