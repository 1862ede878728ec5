#include "api/table_internal.h"
#include "lib/str.h"

#include <ctype.h>

/* Columns of the kinds that are no custom resources. */

static json_t *text(const json_t *object, const char *path)
{
    return json_string(fl_str_or(fl_json_str(object, path), ""));
}

static json_t *age(const json_t *object, int64_t now_us)
{
    return fl_table_age_cell(fl_json_str(object, "metadata.creationTimestamp"), now_us);
}

static json_t *created_at(const json_t *object, int64_t now_us)
{
    (void)now_us;
    return text(object, "metadata.creationTimestamp");
}

static json_t *namespace_status(const json_t *object, int64_t now_us)
{
    (void)now_us;
    return text(object, "status.phase");
}

static json_t *secret_type(const json_t *object, int64_t now_us)
{
    (void)now_us;
    return text(object, "type");
}

static json_t *data_count(const json_t *object, int64_t now_us)
{
    (void)now_us;
    return json_integer((json_int_t)json_object_size(json_object_get(object, "data")) +
                        (json_int_t)json_object_size(json_object_get(object, "binaryData")));
}

static json_t *secrets_count(const json_t *object, int64_t now_us)
{
    (void)now_us;
    return json_integer((json_int_t)json_array_size(json_object_get(object, "secrets")));
}

static json_t *lease_holder(const json_t *object, int64_t now_us)
{
    (void)now_us;
    return text(object, "spec.holderIdentity");
}

/* Events. Either the old times and count are set, or eventTime and a series. */

static const char *first_time(const json_t *event)
{
    const char *time = fl_json_str(event, "firstTimestamp");

    return time ? time : fl_json_str(event, "eventTime");
}

static json_t *event_first_seen(const json_t *event, int64_t now_us)
{
    return fl_table_age_cell(first_time(event), now_us);
}

static json_t *event_last_seen(const json_t *event, int64_t now_us)
{
    const char *time = fl_json_str(event, "lastTimestamp");

    if (json_is_object(json_object_get(event, "series")))
        time = fl_json_str(event, "series.lastObservedTime");
    else if (!time)
        time = first_time(event);
    return fl_table_age_cell(time, now_us);
}

static json_t *event_count(const json_t *event, int64_t now_us)
{
    int64_t count = fl_json_int(event, "count", 0);

    (void)now_us;
    if (json_is_object(json_object_get(event, "series")))
        count = fl_json_int(event, "series.count", 0);
    else if (count == 0)
        count = 1;
    return json_integer(count);
}

static json_t *event_type(const json_t *event, int64_t now_us)
{
    (void)now_us;
    return text(event, "type");
}

static json_t *event_reason(const json_t *event, int64_t now_us)
{
    (void)now_us;
    return text(event, "reason");
}

static json_t *event_object(const json_t *event, int64_t now_us)
{
    const char *kind = fl_str_or(fl_json_str(event, "involvedObject.kind"), "");
    const char *name = fl_str_or(fl_json_str(event, "involvedObject.name"), "");
    struct fl_buf target;
    json_t *cell;

    (void)now_us;
    fl_buf_init(&target, 0);
    for (; *kind; kind++)
        fl_buf_putc(&target, (char)tolower((unsigned char)*kind));
    if (*name)
        fl_buf_printf(&target, "/%s", name);
    cell = json_string(fl_buf_text(&target));
    fl_buf_finish(&target);
    return cell;
}

static json_t *event_subobject(const json_t *event, int64_t now_us)
{
    (void)now_us;
    return text(event, "involvedObject.fieldPath");
}

static json_t *event_source(const json_t *event, int64_t now_us)
{
    const char *component = fl_str_or(fl_json_str(event, "source.component"), "");
    const char *host = fl_str_or(fl_json_str(event, "source.host"), "");

    (void)now_us;
    if (!*component) {
        component = fl_str_or(fl_json_str(event, "reportingComponent"), "");
        host = fl_str_or(fl_json_str(event, "reportingInstance"), "");
    }
    return json_sprintf("%s%s%s", component, *host ? ", " : "", host);
}

static json_t *event_message(const json_t *event, int64_t now_us)
{
    const char *message = fl_str_or(fl_json_str(event, "message"), "");
    size_t len;

    (void)now_us;
    message += strspn(message, " \t\r\n\v\f");
    len = strlen(message);
    while (len > 0 && strchr(" \t\r\n\v\f", message[len - 1]))
        len--;
    return json_stringn(message, len);
}

/* Services */

static json_t *service_type(const json_t *service, int64_t now_us)
{
    (void)now_us;
    return text(service, "spec.type");
}

static json_t *service_cluster_ip(const json_t *service, int64_t now_us)
{
    const char *first =
        json_string_value(json_array_get(fl_json_path(service, "spec.clusterIPs"), 0));

    (void)now_us;
    if (!first)
        first = fl_json_str(service, "spec.clusterIP");
    return json_string(fl_str_or(first, "<none>"));
}

static json_t *finish_text(struct fl_buf *buf, const char *fallback)
{
    json_t *cell = json_string(buf->len ? fl_buf_text(buf) : fallback);

    fl_buf_finish(buf);
    return cell;
}

static void add_item(struct fl_buf *buf, const char *item)
{
    if (item)
        fl_buf_printf(buf, "%s%s", buf->len ? "," : "", item);
}

static json_t *service_external_ip(const json_t *service, int64_t now_us)
{
    const char *type = fl_str_or(fl_json_str(service, "spec.type"), "");
    bool balanced = !strcmp(type, "LoadBalancer");
    struct fl_buf list;
    json_t *item;
    size_t i;

    (void)now_us;
    if (!strcmp(type, "ExternalName"))
        return text(service, "spec.externalName");
    fl_buf_init(&list, 0);
    if (balanced) {
        json_array_foreach(fl_json_path(service, "status.loadBalancer.ingress"), i, item) {
            const char *ip = fl_json_str(item, "ip");

            add_item(&list, ip ? ip : fl_json_str(item, "hostname"));
        }
    }
    json_array_foreach(fl_json_path(service, "spec.externalIPs"), i, item)
        add_item(&list, json_string_value(item));
    return finish_text(&list, balanced ? "<pending>" : "<none>");
}

static json_t *service_ports(const json_t *service, int64_t now_us)
{
    struct fl_buf list;
    json_t *port;
    size_t i;

    (void)now_us;
    fl_buf_init(&list, 0);
    json_array_foreach(fl_json_path(service, "spec.ports"), i, port) {
        int64_t node_port = fl_json_int(port, "nodePort", 0);

        fl_buf_printf(&list, "%s%lld", i ? "," : "", (long long)fl_json_int(port, "port", 0));
        if (node_port > 0)
            fl_buf_printf(&list, ":%lld", (long long)node_port);
        fl_buf_printf(&list, "/%s", fl_str_or(fl_json_str(port, "protocol"), "TCP"));
    }
    return finish_text(&list, "<none>");
}

static json_t *service_selector(const json_t *service, int64_t now_us)
{
    struct fl_buf list;
    const char *key;
    json_t *value;

    (void)now_us;
    fl_buf_init(&list, 0);
    json_object_foreach(fl_json_path(service, "spec.selector"), key, value)
        fl_buf_printf(&list, "%s%s=%s", list.len ? "," : "", key,
                      fl_str_or(json_string_value(value), ""));
    return finish_text(&list, "<none>");
}

#define NAME_TEXT "Name of the object, unique within its namespace and kind."
#define AGE_TEXT  "How long ago the object was created."
#define NAME(wide)                                                                                 \
    {                                                                                              \
        "Name", "string", "name", NAME_TEXT, wide, fl_table_name_cell, NULL                        \
    }
#define COLUMN(name, fn, description)                                                              \
    {                                                                                              \
        name, "string", "", description, 0, fn, NULL                                               \
    }
#define WIDE(name, fn, description)                                                                \
    {                                                                                              \
        name, "string", "", description, 1, fn, NULL                                               \
    }
#define AGE COLUMN("Age", age, AGE_TEXT)

static const struct table_column namespaces[] = {
    NAME(0),
    COLUMN("Status", namespace_status, "Active, or Terminating while its objects are removed."),
    AGE,
};

static const struct table_column secrets[] = {
    NAME(0),
    COLUMN("Type", secret_type, "What kind of secret it is."),
    COLUMN("Data", data_count, "How many keys it holds."),
    AGE,
};

static const struct table_column config_maps[] = {
    NAME(0),
    COLUMN("Data", data_count, "How many keys it holds."),
    AGE,
};

static const struct table_column events[] = {
    COLUMN("Last Seen", event_last_seen, "How long ago it happened last."),
    COLUMN("Type", event_type, "Normal or Warning."),
    COLUMN("Reason", event_reason, "Why, in one word that programs can rely on."),
    COLUMN("Object", event_object, "What it is about."),
    WIDE("Subobject", event_subobject, "Which part of the object it is about."),
    WIDE("Source", event_source, "Who reported it."),
    COLUMN("Message", event_message, "What happened."),
    WIDE("First Seen", event_first_seen, "How long ago it happened first."),
    WIDE("Count", event_count, "How often it happened."),
    NAME(1),
};

static const struct table_column leases[] = {
    NAME(0),
    COLUMN("Holder", lease_holder, "Who holds it."),
    AGE,
};

static const struct table_column services[] = {
    NAME(0),
    COLUMN("Type", service_type, "How it is reached."),
    COLUMN("Cluster-IP", service_cluster_ip, "Its address within the cluster."),
    COLUMN("External-IP", service_external_ip, "Its addresses outside."),
    COLUMN("Port(s)", service_ports, "The ports it answers on."),
    AGE,
    WIDE("Selector", service_selector, "Labels of what serves it."),
};

static const struct table_column service_accounts[] = {
    NAME(0),
    COLUMN("Secrets", secrets_count, "How many secrets it may use."),
    AGE,
};

static const struct table_column others[] = {
    NAME(0),
    {"Created At", "date", "", "When the object was created.", 0, created_at, NULL},
};

#define KIND(group, kind, columns)                                                                 \
    {                                                                                              \
        group, kind,                                                                               \
        {                                                                                          \
            columns, FL_COUNT_OF(columns), NULL, NULL                                              \
        }                                                                                          \
    }

static const struct {
    const char *group, *kind;
    struct fl_table_columns columns;
} kinds[] = {
    KIND("", "Namespace", namespaces),
    KIND("", "Secret", secrets),
    KIND("", "ConfigMap", config_maps),
    KIND("", "Event", events),
    KIND("events.k8s.io", "Event", events),
    KIND("coordination.k8s.io", "Lease", leases),
    KIND("", "Service", services),
    KIND("", "ServiceAccount", service_accounts),
    KIND("*", "*", others),
};

const struct fl_table_columns *fl_table_columns_builtin(const char *group, const char *kind)
{
    size_t i = 0;

    while (i + 1 < FL_COUNT_OF(kinds) &&
           (strcmp(kinds[i].group, group) != 0 || strcmp(kinds[i].kind, kind) != 0))
        i++;
    return &kinds[i].columns;
}
