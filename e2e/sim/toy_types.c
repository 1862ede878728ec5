/* The toy's kinds: tables as the generator would write them, and their definitions. */
#include "e2e/sim/toy_kind.h"

#define AT(type, member)   .offset = offsetof(struct type, member)
#define FLAG(type, member) .has_offset = offsetof(struct type, member)

static const char *const condition_status_values[] = {"True", "False", "Unknown", NULL};

static const struct fl_field condition_fields[] = {
    {"type", FL_F_STRING, AT(fl_condition, type), .required = true},
    {"status", FL_F_ENUM, AT(fl_condition, status), .required = true,
     .values = condition_status_values},
    {"observedGeneration", FL_F_INT, AT(fl_condition, observed_generation),
     FLAG(fl_condition, has_observed_generation), .max = INT64_MAX},
    {"lastTransitionTime", FL_F_TIME, AT(fl_condition, last_transition_time), .required = true},
    {"reason", FL_F_STRING, AT(fl_condition, reason), .required = true},
    {"message", FL_F_STRING, AT(fl_condition, message), .required = true},
    {.name = NULL},
};

/* Offsets within the anonymous parts. */
struct toy_brood_spec {
    __typeof__(((struct toy_brood *)0)->spec) in;
};
struct toy_brood_status {
    __typeof__(((struct toy_brood *)0)->status) in;
};
struct toy_chick_spec {
    __typeof__(((struct toy_chick *)0)->spec) in;
};

static const struct fl_field brood_spec_fields[] = {
    {"chicks", FL_F_INT, AT(toy_brood_spec, in.chicks), .max = 9},
    {"payload", FL_F_STRING, AT(toy_brood_spec, in.payload)},
    {"suspend", FL_F_BOOL, AT(toy_brood_spec, in.suspend)},
    {"maps", FL_F_LIST, AT(toy_brood_spec, in.maps), .element = FL_F_STRING,
     .size = sizeof(const char *)},
    {.name = NULL},
};

static const struct fl_field brood_status_fields[] = {
    {"observedGeneration", FL_F_INT, AT(toy_brood_status, in.observed_generation),
     FLAG(toy_brood_status, in.has_observed_generation), .min = -1, .max = INT64_MAX},
    {"conditions", FL_F_LIST, AT(toy_brood_status, in.conditions), .element = FL_F_OBJECT,
     .fields = condition_fields, .size = sizeof(struct fl_condition)},
    {"chicks", FL_F_INT, AT(toy_brood_status, in.chicks), FLAG(toy_brood_status, in.has_chicks),
     .max = INT64_MAX},
    {"restarts", FL_F_INT, AT(toy_brood_status, in.restarts),
     FLAG(toy_brood_status, in.has_restarts), .max = INT64_MAX},
    {"inventory", FL_F_LIST, AT(toy_brood_status, in.inventory), .element = FL_F_STRING,
     .size = sizeof(const char *)},
    {"checked", FL_F_STRING, AT(toy_brood_status, in.checked)},
    {.name = NULL},
};

static const struct fl_field brood_fields[] = {
    {"spec", FL_F_OBJECT, AT(toy_brood, spec), .required = true, .fields = brood_spec_fields,
     .size = sizeof(struct toy_brood_spec)},
    {"status", FL_F_OBJECT, AT(toy_brood, status), .fields = brood_status_fields,
     .size = sizeof(struct toy_brood_status)},
    {.name = NULL},
};

static const struct fl_field chick_spec_fields[] = {
    {"payload", FL_F_STRING, AT(toy_chick_spec, in.payload)},
    {.name = NULL},
};

static const struct fl_field chick_fields[] = {
    {"spec", FL_F_OBJECT, AT(toy_chick, spec), .required = true, .fields = chick_spec_fields,
     .size = sizeof(struct toy_chick_spec)},
    {.name = NULL},
};

const struct fl_kind_type toy_brood_type = {
    .group = "sim.dev",
    .version = "v1",
    .kind = "Brood",
    .list_kind = "BroodList",
    .plural = "broods",
    .singular = "brood",
    .namespaced = true,
    .fields = brood_fields,
    .size = sizeof(struct toy_brood),
};

const struct fl_kind_type toy_chick_type = {
    .group = "sim.dev",
    .version = "v1",
    .kind = "Chick",
    .list_kind = "ChickList",
    .plural = "chicks",
    .singular = "chick",
    .namespaced = true,
    .fields = chick_fields,
    .size = sizeof(struct toy_chick),
};

#define STRING             "{\"type\":\"string\"}"
#define INTEGER            "{\"type\":\"integer\"}"
#define STRINGS            "{\"type\":\"array\",\"items\":" STRING "}"
#define OBJECT(properties) "{\"type\":\"object\",\"properties\":{" properties "}}"

#define DEFINITION(plural, kind, spec, status)                                                     \
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","           \
    "\"metadata\":{\"name\":\"" plural ".sim.dev\"},\"spec\":{\"group\":\"sim.dev\","              \
    "\"scope\":\"Namespaced\",\"names\":{\"plural\":\"" plural "\",\"kind\":\"" kind "\"},"        \
    "\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,"                             \
    "\"subresources\":{\"status\":{}},\"schema\":{\"openAPIV3Schema\":" OBJECT(                    \
        "\"spec\":" spec ",\"status\":" status) "}}]}}"

const char *const toy_definitions[] = {
    DEFINITION("broods", "Brood",
               OBJECT("\"chicks\":" INTEGER ",\"payload\":" STRING
                      ",\"suspend\":{\"type\":\"boolean\"},\"maps\":" STRINGS),
               OBJECT("\"observedGeneration\":" INTEGER ",\"chicks\":" INTEGER
                      ",\"restarts\":" INTEGER ",\"inventory\":" STRINGS ",\"checked\":" STRING
                      ",\"conditions\":{\"type\":\"array\",\"items\":{\"type\":\"object\","
                      "\"x-kubernetes-preserve-unknown-fields\":true}}")),
    DEFINITION("chicks", "Chick", OBJECT("\"payload\":" STRING), OBJECT("")),
    NULL,
};
