/* Oakestra's own rules for an SLA, schema v2.0, so that what a root would refuse is found here. */
#include "lib/str.h"
#include "reconcilers/workload/oakestra/sla.h"

#include <stdio.h>

enum kind { TEXT, NAME, EMPTY, WHOLE, NUMBER, FLAG, TEXTS, OBJECT, OBJECTS };

struct rule {
    const char *key;
    enum kind kind;
    bool required;
    const struct rule *within; /* of OBJECT and OBJECTS; NULL: anything */
};

static const struct rule volume_rules[] = {
    {"volume_id", TEXT, true, NULL},   {"csi_driver", TEXT, true, NULL},
    {"mount_path", TEXT, false, NULL}, {"config", OBJECT, false, NULL},
    {NULL, TEXT, false, NULL},
};

static const struct rule range_rules[] = {
    {"from", TEXT, false, NULL},
    {"to", TEXT, false, NULL},
    {"start", TEXT, false, NULL},
    {NULL, TEXT, false, NULL},
};

static const struct rule address_rules[] = {
    {"rr_ip", TEXT, false, NULL},
    {"rr_ip_v6", TEXT, false, NULL},
    {"closest_ip", TEXT, false, NULL},
    {"closest_ip_v6", TEXT, false, NULL},
    {"instances", OBJECTS, false, range_rules},
    {NULL, TEXT, false, NULL},
};

static const struct rule constraint_rules[] = {
    {"type", TEXT, true, NULL},         {"area", TEXT, false, NULL},
    {"cluster", TEXT, false, NULL},     {"node", TEXT, false, NULL},
    {"location", TEXT, false, NULL},    {"threshold", NUMBER, false, NULL},
    {"rigidness", NUMBER, false, NULL}, {"convergence_time", WHOLE, false, NULL},
    {"needs", TEXTS, false, NULL},      {"allowed", TEXTS, false, NULL},
    {NULL, TEXT, false, NULL},
};

static const struct rule connection_constraint_rules[] = {
    {"type", TEXT, true, NULL},        {"threshold", NUMBER, true, NULL},
    {"rigidness", NUMBER, true, NULL}, {"convergence_time", WHOLE, true, NULL},
    {NULL, TEXT, false, NULL},
};

static const struct rule connection_rules[] = {
    {"target_microservice_id", TEXT, true, NULL},
    {"con_constraints", OBJECTS, true, connection_constraint_rules},
    {NULL, TEXT, false, NULL},
};

static const struct rule service_rules[] = {
    {"microserviceID", EMPTY, false, NULL},
    {"microservice_name", NAME, true, NULL},
    {"microservice_namespace", NAME, true, NULL},
    {"virtualization", TEXT, true, NULL},
    {"code", TEXT, true, NULL},
    {"volumes", OBJECTS, false, volume_rules},
    {"memory", WHOLE, false, NULL},
    {"vcpus", WHOLE, false, NULL},
    {"vgpus", WHOLE, false, NULL},
    {"vtpus", WHOLE, false, NULL},
    {"bandwidth_in", WHOLE, false, NULL},
    {"bandwidth_out", WHOLE, false, NULL},
    {"storage", WHOLE, false, NULL},
    {"state", TEXT, false, NULL},
    {"port", TEXT, false, NULL},
    {"one_shot", FLAG, false, NULL},
    {"privileged", FLAG, false, NULL},
    {"cmd", TEXTS, false, NULL},
    {"environment", TEXTS, false, NULL},
    {"sla_violation_strategy", TEXT, false, NULL},
    {"target_node", TEXT, false, NULL},
    {"addresses", OBJECT, false, address_rules},
    {"added_files", TEXTS, false, NULL},
    {"args", TEXTS, false, NULL},
    {"constraints", OBJECTS, false, constraint_rules},
    {"connectivity", OBJECTS, false, connection_rules},
    {NULL, TEXT, false, NULL},
};

static const struct rule app_rules[] = {
    {"applicationID", TEXT, false, NULL},
    {"application_name", NAME, true, NULL},
    {"application_namespace", NAME, true, NULL},
    {"application_desc", TEXT, false, NULL},
    {"microservices", OBJECTS, true, service_rules},
    {NULL, TEXT, false, NULL},
};

static const struct rule sla_rules[] = {
    {"sla_version", TEXT, true, NULL},
    {"customerID", TEXT, true, NULL},
    {"applications", OBJECTS, true, app_rules},
    {"args", TEXTS, false, NULL},
    {NULL, TEXT, false, NULL},
};

#define PATH_MAX_ 256

static int check_object(const json_t *object, const struct rule *rules, const char *path,
                        struct fl_error *err);

static int wrong(const char *path, const char *what, struct fl_error *err)
{
    return fl_error_set(err, FL_E_INVALID, "%s: must be %s", path, what);
}

static int check_list(const json_t *list, const struct rule *rule, const char *path,
                      struct fl_error *err)
{
    char item_path[PATH_MAX_];
    const json_t *item;
    size_t i;
    int r;

    if (!json_is_array(list))
        return wrong(path, "a list", err);
    json_array_foreach((json_t *)list, i, item) {
        (void)snprintf(item_path, sizeof(item_path), "%.200s[%zu]", path, i);
        if (rule->kind == TEXTS && !json_is_string(item))
            return wrong(item_path, "text", err);
        r = rule->kind == TEXTS ? 0 : check_object(item, rule->within, item_path, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_value(const json_t *value, const struct rule *rule, const char *path,
                       struct fl_error *err)
{
    switch (rule->kind) {
    case TEXT:
        return json_is_string(value) ? 0 : wrong(path, "text", err);
    case NAME:
        return oak_name_is_valid(json_string_value(value))
                   ? 0
                   : wrong(path, "1 to 30 letters and digits", err);
    case EMPTY:
        return json_is_string(value) && json_string_length(value) == 0 ? 0
                                                                       : wrong(path, "empty", err);
    case WHOLE:
        return json_is_integer(value) ? 0 : wrong(path, "a whole number", err);
    case NUMBER:
        return json_is_number(value) ? 0 : wrong(path, "a number", err);
    case FLAG:
        return json_is_boolean(value) ? 0 : wrong(path, "true or false", err);
    case OBJECT:
        return check_object(value, rule->within, path, err);
    case TEXTS:
    case OBJECTS:
        return check_list(value, rule, path, err);
    }
    return 0;
}

/* What is not in the rules may be there: the schema leaves it open. */
static int check_object(const json_t *object, const struct rule *rules, const char *path,
                        struct fl_error *err)
{
    char member_path[PATH_MAX_];
    int r = 0;

    if (!json_is_object(object))
        return wrong(path, "an object", err);
    for (const struct rule *rule = rules; r == 0 && rule && rule->key; rule++) {
        const json_t *value = json_object_get(object, rule->key);

        (void)snprintf(member_path, sizeof(member_path), "%s%s%s", path, *path ? "." : "",
                       rule->key);
        if (value)
            r = check_value(value, rule, member_path, err);
        else if (rule->required)
            r = fl_error_set(err, FL_E_INVALID, "%s: is missing", member_path);
    }
    return r;
}

int oak_sla_check(const json_t *sla, struct fl_error *err)
{
    const char *version = fl_json_str(sla, "sla_version");
    int r = check_object(sla, sla_rules, "", err);

    if (r == 0 && !fl_streq(version, "v2.0"))
        r = wrong("sla_version", "v2.0", err);
    return r < 0 ? fl_error_wrap(err, "SLA") : 0;
}
