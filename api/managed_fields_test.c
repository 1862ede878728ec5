#include "api/managed_fields.h"

#include "api/patch.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define VERSION      "flops.dev/v1alpha1"
#define HEAD         "'apiVersion':'" VERSION "','kind':'Thing','metadata':{'name':'x'"
#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

/* JSON with ' for " */
static json_t *parse(const char *text)
{
    FL_CLEANUP(fl_freep) char *copy = fl_strdup(text);
    struct fl_error err = {0};
    json_t *value = NULL;

    for (char *at = copy; *at; at++)
        *at = *at == '\'' ? '"' : *at;
    if (fl_json_parse(copy, strlen(copy), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", copy, err.msg);
    return value;
}

static const char schema_text[] =
    "{'type':'object','properties':{"
    "'spec':{'type':'object','properties':{"
    "  'rounds':{'type':'integer'},'mode':{'type':'string'},"
    "  'limits':{'type':'object','x-kubernetes-map-type':'atomic',"
    "    'additionalProperties':{'type':'string'}},"
    "  'options':{'type':'object','x-kubernetes-preserve-unknown-fields':true},"
    "  'args':{'type':'array','items':{'type':'string'}},"
    "  'tags':{'type':'array','x-kubernetes-list-type':'set','items':{'type':'string'}},"
    "  'tiers':{'type':'array','x-kubernetes-list-type':'map',"
    "    'x-kubernetes-list-map-keys':['name','port'],"
    "    'items':{'type':'object','required':['name'],'properties':{"
    "      'name':{'type':'string'},'port':{'type':'integer','default':80},"
    "      'size':{'type':'integer'}}}}}},"
    "'status':{'type':'object','properties':{'phase':{'type':'string'}}}}}";

struct world {
    struct fl_arena *arena;
    struct fl_schema *schema;
    struct fl_managed_write write;
    json_t *live;
    struct fl_managed_conflict *conflicts;
    size_t conflict_count;
    struct fl_error err;
    int clock;
};

static int setup(void **state)
{
    struct world *world = fl_calloc(1, sizeof(*world));
    FL_JSON openapi = parse(schema_text);
    struct fl_field_errors errors;

    world->arena = fl_arena_create();
    fl_field_errors_init(&errors, world->arena);
    assert_int_equal(fl_schema_compile(openapi, "schema", &world->schema, &errors, &world->err), 0);
    world->write = (struct fl_managed_write){
        .schema = world->schema, .api_version = VERSION, .subresource = "", .has_status = true};
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    json_decref(world->live);
    fl_schema_unref(world->schema);
    fl_arena_destroy(world->arena);
    free(world);
    return 0;
}

static void tick(struct world *world, const char *manager)
{
    world->write.manager = manager;
    world->write.time = fl_arena_printf(world->arena, "2026-01-01T00:00:%02dZ", world->clock++);
}

/* Writes the object as a whole; the server adds the uid, and keeps managedFields that the client
 * did not send. */
static void update(struct world *world, const char *manager, const char *text)
{
    json_t *object = parse(text);

    tick(world, manager);
    assert_int_equal(fl_managed_update(&world->write, world->live, object, &world->err), 0);
    fl_json_set_str(fl_json_ensure_object(object, "metadata"), "uid", "1");
    json_decref(world->live);
    world->live = object;
}

static int apply(struct world *world, const char *manager, bool force, const char *text)
{
    FL_JSON applied = parse(text);
    json_t *object = NULL;
    int r;

    tick(world, manager);
    r = fl_managed_apply(&world->write, world->live, applied, force, world->arena, &object,
                         &world->conflicts, &world->conflict_count, &world->err);
    if (r < 0)
        return r;
    fl_json_set_str(fl_json_ensure_object(object, "metadata"), "uid", "1");
    json_decref(world->live);
    world->live = object;
    return 0;
}

static void assert_json(const json_t *value, const char *expected)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON wanted = parse(expected);

    if (!json_equal(value, wanted))
        fail_msg("got    %s\nwanted %s", fl_json_to_string(arena, value),
                 fl_json_to_string(arena, wanted));
}

static json_t *entries(const struct world *world)
{
    return fl_json_path(world->live, "metadata.managedFields");
}

static const json_t *entry(const struct world *world, const char *manager, const char *operation)
{
    json_t *found;
    size_t i;

    json_array_foreach(entries(world), i, found) {
        if (fl_streq(fl_json_str(found, "manager"), manager) &&
            fl_streq(fl_json_str(found, "operation"), operation))
            return found;
    }
    return NULL;
}

static const json_t *fields(const struct world *world, const char *manager, const char *operation)
{
    return json_object_get(entry(world, manager, operation), "fieldsV1");
}

static const char *text_of(struct world *world)
{
    return fl_json_to_string(world->arena, world->live);
}

static void test_create(void **state)
{
    struct world *world = *state;

    update(world, "kubectl-create",
           "{" HEAD ",'namespace':'n','labels':{'a':'b'},'finalizers':['f'],"
           "'ownerReferences':[{'uid':'u','kind':'K'}]},'spec':{'rounds':1,'limits':{'cpu':'1'},"
           "'args':['x'],'tags':['t'],'options':{'deep':{'er':[1]}},"
           "'tiers':[{'name':'edge','size':2}]},'status':{'phase':'ignored'}}");
    assert_json(entries(world),
                "[{'apiVersion':'" VERSION "','fieldsType':'FieldsV1','manager':'kubectl-create',"
                "'operation':'Update','time':'2026-01-01T00:00:00Z','fieldsV1':{"
                "'f:metadata':{'f:finalizers':{'.':{},'v:\\\"f\\\"':{}},"
                "'f:labels':{'.':{},'f:a':{}},"
                "'f:ownerReferences':{'.':{},'k:{\\\"uid\\\":\\\"u\\\"}':{}}},"
                "'f:spec':{'.':{},'f:args':{},'f:limits':{},'f:options':{'.':{},"
                "'f:deep':{'.':{},'f:er':{}}},'f:rounds':{},'f:tags':{'.':{},'v:\\\"t\\\"':{}},"
                "'f:tiers':{'.':{},'k:{\\\"name\\\":\\\"edge\\\",\\\"port\\\":80}':"
                "{'.':{},'f:name':{},'f:size':{}}}}}}]");
}

/* The order in which Go writes: the node itself, fields, keys, values. */
static void test_order_of_fields(void **state)
{
    struct world *world = *state;
    char *text;

    update(world, "m",
           "{" HEAD "},'spec':{'tiers':[{'size':1,'name':'b'},{'name':'a<b'}],"
           "'rounds':1}}");
    text = json_dumps(fields(world, "m", "Update"), JSON_COMPACT);
    assert_string_equal(
        text, "{\"f:spec\":{\".\":{},\"f:rounds\":{},\"f:tiers\":{\".\":{},"
              "\"k:{\\\"name\\\":\\\"a\\\\u003cb\\\",\\\"port\\\":80}\":{\".\":{},\"f:name\":{}},"
              "\"k:{\\\"name\\\":\\\"b\\\",\\\"port\\\":80}\":{\".\":{},\"f:name\":{},"
              "\"f:size\":{}}}}}");
    free(text);
}

static void test_update_takes_over(void **state)
{
    struct world *world = *state;

    update(world, "a", "{" HEAD "},'spec':{'rounds':1,'mode':'x','args':['a']}}");
    update(world, "b", "{" HEAD "},'spec':{'rounds':2,'mode':'x'}}");
    assert_json(fields(world, "a", "Update"), "{'f:spec':{'.':{},'f:mode':{}}}");
    assert_json(fields(world, "b", "Update"), "{'f:spec':{'f:rounds':{}}}");
    assert_string_equal(fl_json_str(entry(world, "a", "Update"), "time"), "2026-01-01T00:00:00Z");
    update(world, "b", "{" HEAD "},'spec':{'rounds':3,'mode':'x'}}");
    assert_string_equal(fl_json_str(entry(world, "b", "Update"), "time"), "2026-01-01T00:00:02Z");
    /* The last field goes, and with it the entry. */
    update(world, "c", "{" HEAD "}}");
    assert_null(entries(world));
}

static void test_update_without_change(void **state)
{
    struct world *world = *state;
    FL_CLEANUP(fl_freep) char *before = NULL;

    update(world, "a", "{" HEAD "},'spec':{'rounds':1,'tags':['x']}}");
    before = fl_strdup(text_of(world));
    update(world, "b", "{" HEAD ",'uid':'1'},'spec':{'rounds':1,'tags':['x']}}");
    assert_string_equal(text_of(world), before);
    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'rounds':1}}"), 0);
    free(before);
    before = fl_strdup(text_of(world));
    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'rounds':1}}"), 0);
    assert_string_equal(text_of(world), before);
}

static void test_apply_creates(void **state)
{
    struct world *world = *state;

    assert_int_equal(apply(world, "g", false,
                           "{" HEAD
                           ",'labels':{'a':'b'}},'spec':{'rounds':1,'tiers':[{'name':'e'}],"
                           "'options':{'o':{}}},'status':{'phase':'no'}}"),
                     0);
    assert_int_equal(json_array_size(entries(world)), 1);
    assert_json(fields(world, "g", "Apply"),
                "{'f:metadata':{'f:labels':{'f:a':{}}},'f:spec':{'f:options':{'f:o':{}},"
                "'f:rounds':{},'f:tiers':{'k:{\\\"name\\\":\\\"e\\\",\\\"port\\\":80}':"
                "{'.':{},'f:name':{}}}}}");
    assert_string_equal(fl_json_str(world->live, "status.phase"), "no");
}

static void test_apply_merges_and_prunes(void **state)
{
    struct world *world = *state;

    assert_int_equal(apply(world, "a", false,
                           "{" HEAD ",'labels':{'one':'1','two':'2'}},'spec':{'rounds':1,"
                           "'tags':['x','y'],'tiers':[{'name':'p','size':1},{'name':'q'}]}}"),
                     0);
    assert_int_equal(apply(world, "b", false,
                           "{" HEAD ",'labels':{'two':'2'}},'spec':{'mode':'m','tags':['z','y'],"
                           "'tiers':[{'name':'r'},{'name':'q','size':5}]}}"),
                     0);
    assert_json(json_object_get(world->live, "spec"),
                "{'rounds':1,'mode':'m','tags':['x','z','y'],"
                "'tiers':[{'name':'p','size':1},{'name':'r'},{'name':'q','size':5}]}");
    /* What only `a` owned goes; what `b` owns too stays, though `a` gives it up. */
    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'tags':['x']}}"), 0);
    assert_json(json_object_get(world->live, "spec"),
                "{'mode':'m','tags':['x','z','y'],'tiers':[{'name':'r'},{'name':'q','size':5}]}");
    assert_json(fl_json_path(world->live, "metadata.labels"), "{'two':'2'}");
    assert_json(fields(world, "a", "Apply"), "{'f:spec':{'f:tags':{'v:\\\"x\\\"':{}}}}");
    /* Nobody owns the name, so it stays even when nothing is applied any more. */
    assert_int_equal(apply(world, "b", false, "{" HEAD "}}"), 0);
    assert_int_equal(apply(world, "a", false, "{" HEAD "}}"), 0);
    assert_json(world->live, "{" HEAD ",'uid':'1'}}");
}

/* An applied empty object stays one when what was in it is pruned. */
static void test_prune_keeps_empty(void **state)
{
    struct world *world = *state;

    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'options':{'x':{'y':1}}}}"), 0);
    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'options':{'x':{}}}}"), 0);
    assert_json(json_object_get(world->live, "spec"), "{'options':{'x':{}}}");
}

static void test_conflict(void **state)
{
    struct world *world = *state;
    struct fl_field_errors causes;

    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'rounds':1,'mode':'x'}}"), 0);
    assert_int_equal(apply(world, "b", false, "{" HEAD "},'spec':{'rounds':2,'mode':'x'}}"),
                     FL_E_CONFLICT);
    assert_string_equal(world->err.msg,
                        "Apply failed with 1 conflict: conflict with \"a\": .spec.rounds");
    assert_int_equal(world->conflict_count, 1);
    assert_string_equal(world->conflicts[0].path, ".spec.rounds");
    assert_string_equal(world->conflicts[0].operation, "Apply");
    assert_int_equal(apply(world, "b", true, "{" HEAD "},'spec':{'rounds':2,'mode':'x'}}"), 0);
    assert_json(fields(world, "a", "Apply"), "{'f:spec':{'f:mode':{}}}");

    update(world, "edit", "{" HEAD "},'spec':{'rounds':3,'mode':'x','tags':['t']}}");
    assert_int_equal(apply(world, "b", false, "{" HEAD "},'spec':{'rounds':4,'mode':'y'}}"),
                     FL_E_CONFLICT);
    assert_string_equal(world->err.msg, "Apply failed with 2 conflicts: conflicts with \"a\":\n"
                                        "- .spec.mode\n"
                                        "conflicts with \"edit\" using " VERSION ":\n"
                                        "- .spec.rounds");
    fl_field_errors_init(&causes, world->arena);
    assert_int_equal(
        fl_managed_conflict_error(world->conflicts, world->conflict_count, &causes, &world->err),
        FL_E_CONFLICT);
    assert_int_equal(causes.count, 2);
    assert_string_equal(causes.items[1].path, ".spec.rounds");
    assert_string_equal(causes.items[1].message, "conflict with \"edit\" using " VERSION);
    /* The same value is no conflict: it is shared. */
    assert_int_equal(apply(world, "b", false, "{" HEAD "},'spec':{'rounds':3,'mode':'x'}}"), 0);
    assert_non_null(entry(world, "edit", "Update"));
}

static void test_atomic(void **state)
{
    struct world *world = *state;

    assert_int_equal(
        apply(world, "a", false, "{" HEAD "},'spec':{'limits':{'cpu':'1'},'args':['x','y']}}"), 0);
    assert_int_equal(apply(world, "b", false, "{" HEAD "},'spec':{'limits':{'mem':'1'}}}"),
                     FL_E_CONFLICT);
    assert_int_equal(
        apply(world, "b", true, "{" HEAD "},'spec':{'limits':{'mem':'1'},'args':['z']}}"), 0);
    assert_json(json_object_get(world->live, "spec"), "{'limits':{'mem':'1'},'args':['z']}");
    assert_null(entry(world, "a", "Apply"));
}

static void test_first_apply(void **state)
{
    struct world *world = *state;

    world->live = parse("{" HEAD ",'uid':'1'},'spec':{'rounds':1,'mode':'x'}}");
    update(world, "edit", "{" HEAD "},'spec':{'rounds':2,'mode':'x'}}");
    assert_null(entries(world)); /* nobody tracked it before */
    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'rounds':3}}"), FL_E_CONFLICT);
    assert_non_null(strstr(world->err.msg, "\"before-first-apply\" using " VERSION));
    assert_int_equal(apply(world, "a", true, "{" HEAD "},'spec':{'rounds':3}}"), 0);
    assert_json(fields(world, "before-first-apply", "Update"), "{'f:spec':{'.':{},'f:mode':{}}}");
}

static void test_status_is_apart(void **state)
{
    struct world *world = *state;

    update(world, "user", "{" HEAD "},'spec':{'rounds':1},'status':{'phase':'sly'}}");
    world->write.subresource = "status";
    update(world, "user", "{" HEAD "},'spec':{'rounds':1},'status':{'phase':'Ready'}}");
    assert_int_equal(json_array_size(entries(world)), 2);
    assert_json(json_array_get(entries(world), 1),
                "{'apiVersion':'" VERSION "','fieldsType':'FieldsV1','manager':'user',"
                "'operation':'Update','time':'2026-01-01T00:00:01Z','subresource':'status',"
                "'fieldsV1':{'f:status':{'f:phase':{}}}}");
    /* A status write owns nothing else, and no managedFields that came with it count. */
    update(world, "sly",
           "{" HEAD ",'managedFields':[]},'spec':{'rounds':5},"
           "'status':{'phase':'Ready'}}");
    assert_int_equal(json_array_size(entries(world)), 2);
    assert_null(entry(world, "sly", "Update"));
    assert_int_equal(apply(world, "s", true,
                           "{" HEAD "},'spec':{'mode':'x'},"
                           "'status':{'phase':'Done'}}"),
                     0);
    assert_json(fields(world, "s", "Apply"), "{'f:status':{'f:phase':{}}}");
}

/* Status in an applied manifest is no change through the main endpoint, so that times stay. */
static void test_apply_what_is_not_written(void **state)
{
    struct world *world = *state;
    FL_CLEANUP(fl_freep) char *before = NULL;

    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'rounds':1}}"), 0);
    fl_json_set_str(fl_json_ensure_object(world->live, "status"), "phase", "Ready");
    before = fl_strdup(fl_json_to_string(world->arena, entries(world)));
    assert_int_equal(
        apply(world, "a", false, "{" HEAD "},'spec':{'rounds':1},'status':{'phase':'Old'}}"), 0);
    assert_string_equal(fl_json_to_string(world->arena, entries(world)), before);
    assert_int_equal(apply(world, "a", false, "{" HEAD "},'spec':{'rounds':2}}"), 0);
    assert_string_equal(fl_json_str(entry(world, "a", "Apply"), "time"), "2026-01-01T00:00:02Z");
}

static void test_reset(void **state)
{
    struct world *world = *state;

    update(world, "a", "{" HEAD "},'spec':{'rounds':1}}");
    update(world, "b", "{" HEAD ",'managedFields':[]},'spec':{'rounds':1}}");
    assert_null(entries(world));
    assert_int_equal(apply(world, "c", false, "{" HEAD "},'spec':{'mode':'x'}}"), 0);
    assert_int_equal(json_array_size(entries(world)), 2);
    update(world, "b", "{" HEAD ",'managedFields':[{}]},'spec':{'rounds':2,'mode':'x'}}");
    assert_null(entries(world));
}

/* A client may rewrite the entries; what cannot be read is as if it had not been sent. */
static void test_sent_entries(void **state)
{
    struct world *world = *state;

    update(world, "a", "{" HEAD "},'spec':{'rounds':1}}");
    update(world, "b",
           "{" HEAD ",'managedFields':[{'manager':'z','operation':'Apply','apiVersion':'" VERSION
           "','fieldsType':'FieldsV1','fieldsV1':{'f:spec':{'f:rounds':{}}}}]},"
           "'spec':{'rounds':1}}");
    assert_int_equal(json_array_size(entries(world)), 1);
    assert_json(fields(world, "z", "Apply"), "{'f:spec':{'f:rounds':{}}}");
    update(world, "b",
           "{" HEAD ",'managedFields':[{'manager':'q','operation':'Shred'}]},"
           "'spec':{'rounds':1}}");
    assert_int_equal(json_array_size(entries(world)), 1);
    assert_non_null(entry(world, "z", "Apply"));
}

static void test_many_managers(void **state)
{
    struct world *world = *state;

    update(world, "creator", "{" HEAD "},'spec':{'options':{'x':1}}}");
    for (int i = 0; i < 15; i++) {
        FL_JSON next = json_deep_copy(world->live);
        FL_CLEANUP(fl_freep) char *text = NULL;
        char name[16];

        (void)snprintf(name, sizeof(name), "m%02d", i);
        fl_json_set_str(fl_json_path(next, "spec.options"), name, "1");
        text = json_dumps(next, 0);
        update(world, name, text);
    }
    assert_int_equal(json_array_size(entries(world)), 10);
    assert_string_equal(fl_json_str(json_array_get(entries(world), 0), "manager"),
                        "ancient-changes");
    assert_json(fields(world, "ancient-changes", "Update"),
                "{'f:spec':{'.':{},'f:options':{'.':{},'f:m00':{},'f:m01':{},'f:m02':{},'f:m03':{},"
                "'f:m04':{},'f:m05':{},'f:x':{}}}}");
    assert_string_equal(fl_json_str(json_array_get(entries(world), 0), "time"),
                        "2026-01-01T00:00:06Z");
    assert_string_equal(fl_json_str(json_array_get(entries(world), 9), "manager"), "m14");
}

static void annotate(json_t *object, const char *config)
{
    json_t *annotations =
        fl_json_ensure_object(fl_json_ensure_object(object, "metadata"), "annotations");

    fl_json_set_str(annotations, LAST_APPLIED, config);
}

/* What kubectl does when an object that it applied on the client's side is first applied on the
 * server's: apply, apply the annotation under another name, rewrite managedFields, apply again. */
static void test_kubectl_migrates(void **state)
{
    static const char config[] = "{\"apiVersion\":\"" VERSION "\",\"kind\":\"Thing\",\"metadata\":"
                                 "{\"annotations\":{},\"name\":\"x\"},"
                                 "\"spec\":{\"mode\":\"m\",\"rounds\":1}}\n";
    struct world *world = *state;
    FL_JSON object = parse("{" HEAD "},'spec':{'mode':'m','rounds':1}}");
    FL_JSON patch = NULL;
    FL_CLEANUP(fl_freep) char *text = NULL;
    FL_CLEANUP(fl_freep) char *rest = NULL;
    json_t *patched;

    annotate(object, config);
    text = json_dumps(object, 0);
    update(world, "kubectl-client-side-apply", text);

    /* What is as client-side apply left it, kubectl takes over; so does nobody else. */
    assert_int_equal(apply(world, "other", false, "{" HEAD "},'spec':{'rounds':2}}"),
                     FL_E_CONFLICT);
    assert_int_equal(apply(world, "kubectl", false, "{" HEAD "},'spec':{'mode':'m','rounds':2}}"),
                     0);
    assert_int_equal(fl_json_int(world->live, "spec.rounds", 0), 2);
    assert_string_equal(json_string_value(json_object_get(
                            fl_json_path(world->live, "metadata.annotations"), LAST_APPLIED)),
                        "{\"apiVersion\":\"" VERSION
                        "\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"x\"},"
                        "\"spec\":{\"mode\":\"m\",\"rounds\":2}}\n");

    json_decref(object);
    object = parse("{" HEAD "}}");
    annotate(object, json_string_value(json_object_get(
                         fl_json_path(world->live, "metadata.annotations"), LAST_APPLIED)));
    rest = json_dumps(object, 0);
    assert_int_equal(apply(world, "kubectl-last-applied", false, rest), 0);

    patch = parse("[{'op':'replace','path':'/metadata/managedFields','value':[{'manager':'kubectl',"
                  "'operation':'Apply','apiVersion':'" VERSION "','fieldsType':'FieldsV1',"
                  "'fieldsV1':{'f:metadata':{'f:annotations':"
                  "{'f:" LAST_APPLIED "':{}}},'f:spec':{'f:mode':{},'f:rounds':{}}}}]}]");
    assert_int_equal(fl_patch_json(world->live, patch, 65536, &patched, &world->err), 0);
    free(text);
    text = json_dumps(patched, 0);
    json_decref(patched);
    update(world, "kubectl", text);
    assert_int_equal(json_array_size(entries(world)), 1);

    assert_int_equal(apply(world, "kubectl", false, "{" HEAD "},'spec':{'rounds':2}}"), 0);
    assert_json(json_object_get(world->live, "spec"), "{'rounds':2}");
    assert_null(json_object_get(fl_json_path(world->live, "metadata.annotations"), LAST_APPLIED));
    assert_json(fields(world, "kubectl", "Apply"), "{'f:spec':{'f:rounds':{}}}");
}

static void test_refused_configurations(void **state)
{
    static const struct {
        const char *config;
        int code;
        const char *words;
    } cases[] = {
        {"[]", FL_E_BAD_REQUEST, "object"},
        {"{" HEAD ",'managedFields':[]}}", FL_E_BAD_REQUEST, "managedFields must be nil"},
        {"{'apiVersion':'flops.dev/v2','kind':'Thing'}", FL_E_BAD_REQUEST, "Incorrect version"},
        {"{" HEAD "},'spec':{'tags':['a','a']}}", FL_E_INVALID, ".spec.tags[=\"a\"]: duplicate"},
        {"{" HEAD "},'spec':{'tiers':[{'size':1}]}}", FL_E_INVALID, ".spec.tiers: an item"},
        {"{" HEAD "},'spec':{'tiers':[{'name':'a'},{'name':'a','port':80}]}}", FL_E_INVALID,
         ".spec.tiers[name=\"a\",port=80]: duplicate"},
    };
    struct world *world = *state;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        assert_int_equal(apply(world, "a", false, cases[i].config), cases[i].code);
        if (!strstr(world->err.msg, cases[i].words))
            fail_msg("%s: %s", cases[i].config, world->err.msg);
        assert_null(world->live);
    }
}

#define ENTRY(fields)                                                                              \
    "[{'manager':'m','operation':'Update','apiVersion':'v1','fieldsType':'FieldsV1','fieldsV1'"    \
    ":" fields "}]"

static void test_validate(void **state)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"[]", 0},
        {"[{}]", 0},
        {ENTRY("{'f:a':{'.':{},'k:{\\\"b\\\":1}':{},'v:true':{},'i:3':{},'x:later':{}}}"), 0},
        {ENTRY("null"), 0},
        {"{}", FL_E_BAD_REQUEST},
        {"[{},{}]", FL_E_INVALID},
        {"[1]", FL_E_INVALID},
        {"[{'manager':'m','operation':'Delete','apiVersion':'v1','fieldsType':'FieldsV1'}]",
         FL_E_INVALID},
        {"[{'manager':'m','operation':'Apply','fieldsType':'FieldsV1'}]", FL_E_INVALID},
        {"[{'manager':'m','operation':'Apply','apiVersion':'v1','fieldsType':'FieldsV2'}]",
         FL_E_INVALID},
        {ENTRY("[]"), FL_E_INVALID},
        {ENTRY("{'f:a':1}"), FL_E_INVALID},
        {ENTRY("{'f':{}}"), FL_E_INVALID},
        {ENTRY("{'':{}}"), FL_E_INVALID},
        {ENTRY("{'k:[]':{}}"), FL_E_INVALID},
        {ENTRY("{'k:{':{}}"), FL_E_BAD_REQUEST},
        {ENTRY("{'v:':{}}"), FL_E_BAD_REQUEST},
        {ENTRY("{'i:x':{}}"), FL_E_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_JSON value = parse(cases[i].text);
        struct fl_error err = {0};
        int r = fl_managed_validate(value, &err);

        if (r != cases[i].code)
            fail_msg("%s: %d (%s)", cases[i].text, r, err.msg);
    }
}

/* Without a schema all is deduced, but for metadata. */
static void test_without_schema(void **state)
{
    struct world *world = *state;

    world->write.schema = NULL;
    assert_int_equal(apply(world, "a", false,
                           "{" HEAD ",'finalizers':['f']},'data':{'k':'v'},'list':[{'a':1}]}"),
                     0);
    assert_json(fields(world, "a", "Apply"),
                "{'f:metadata':{'f:finalizers':{'v:\\\"f\\\"':{}}},'f:data':{'.':{},'f:k':{}},"
                "'f:list':{}}");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create),
        TEST(test_order_of_fields),
        TEST(test_update_takes_over),
        TEST(test_update_without_change),
        TEST(test_apply_creates),
        TEST(test_apply_merges_and_prunes),
        TEST(test_prune_keeps_empty),
        TEST(test_conflict),
        TEST(test_atomic),
        TEST(test_first_apply),
        TEST(test_status_is_apart),
        TEST(test_apply_what_is_not_written),
        TEST(test_reset),
        TEST(test_sent_entries),
        TEST(test_many_managers),
        TEST(test_kubectl_migrates),
        TEST(test_refused_configurations),
        TEST(test_validate),
        TEST(test_without_schema),
    };

    return cmocka_run_group_tests_name("managed_fields", tests, NULL, NULL);
}
