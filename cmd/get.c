/* `flops get`: objects as a table, or in a form of -o, once or as they change. */
#include "api/jsonpath.h"
#include "api/table.h"
#include "cmd/command.h"
#include "cmd/follow.h"
#include "cmd/output.h"
#include "cmd/target.h"
#include "lib/map.h"
#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "Usage: flops get TYPE[,TYPE…] [NAME…] [options]\n"
    "       flops get TYPE/NAME… [options]\n\n"
    "Shows objects. A TYPE is a kind's plural, singular or short name, with .GROUP where several\n"
    "have it, or a category such as flops.\n\n"
    "  -A, --all-namespaces\n"
    "  -l, --selector SEL         by labels: app=web,tier!=cache,env in (a,b),!old\n"
    "      --field-selector SEL   by fields: metadata.name=x,type=Opaque\n"
    "  -o, --output FORM          json, yaml, wide, name, jsonpath=TEMPLATE\n"
    "  -w, --watch                then shows every change, until it is stopped\n"
    "      --watch-only           only changes\n"
    "      --output-watch-events  says what each change is\n"
    "      --sort-by JSONPATH     such as .metadata.creationTimestamp\n"
    "      --no-headers           of tables\n"
    "      --show-labels          as last column\n"
    "      --show-managed-fields  in json and yaml\n"
    "      --ignore-not-found     a name that is not there is no failure\n"
    "      --chunk-size N         ask for lists in pages of N (default 500; 0: at once)\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops get flp                           the projects of the namespace\n"
    "  flops get flp,flr -A -o wide            projects and rounds of all namespaces\n"
    "  flops get flp/fashion -o yaml\n"
    "  flops get flr -l flops.dev/project=fashion --sort-by .spec.number -w\n"
    "  flops get flp fashion -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'\n"
    "\nExit status: 0; 1 something was not there or refused; 2 wrong usage.\n";

struct get {
    struct fl_client_flags flags;
    bool all_namespaces, watch, watch_only, watch_events, no_headers, show_labels,
        show_managed_fields, ignore_not_found;
    const char *selector, *field_selector, *output_text, *sort_by;
    int64_t chunk_size;

    struct fl_arena *arena;
    struct fl_client *client;
    struct fl_output output;
    struct fl_jsonpath *sort_path;
    struct fl_targets targets;
    int status;
    bool printed; /* a table before this one */

    /* of a watch */
    const struct fl_api_resource *resource;
    json_t *columns;
    size_t widths[FL_TABLE_WIDTHS_MAX];
    struct fl_map *versions; /* by uid, to see what a second list changed */
    bool listed;
};

static void get_finish(struct get *get)
{
    json_decref(get->columns);
    fl_map_destroy(get->versions);
    fl_jsonpath_destroy(get->sort_path);
    fl_arena_destroy(get->arena);
}

static int parse(struct get *get, int argc, char **argv, struct fl_words *words)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(get->flags),
        {"all-namespaces", 'A', FL_OPTION_FLAG, &get->all_namespaces},
        {"selector", 'l', FL_OPTION_TEXT, &get->selector},
        {"field-selector", 0, FL_OPTION_TEXT, &get->field_selector},
        {"output", 'o', FL_OPTION_TEXT, &get->output_text},
        {"watch", 'w', FL_OPTION_FLAG, &get->watch},
        {"watch-only", 0, FL_OPTION_FLAG, &get->watch_only},
        {"output-watch-events", 0, FL_OPTION_FLAG, &get->watch_events},
        {"sort-by", 0, FL_OPTION_TEXT, &get->sort_by},
        {"no-headers", 0, FL_OPTION_FLAG, &get->no_headers},
        {"show-labels", 0, FL_OPTION_FLAG, &get->show_labels},
        {"show-managed-fields", 0, FL_OPTION_FLAG, &get->show_managed_fields},
        {"ignore-not-found", 0, FL_OPTION_FLAG, &get->ignore_not_found},
        {"chunk-size", 0, FL_OPTION_INT, &get->chunk_size},
    };
    struct fl_options options = {"get", help, items, FL_COUNT_OF(items)};
    struct fl_jsonpath_options path_options = {.allow_missing = true};
    struct fl_error err = {0};
    int status = fl_options_parse(&options, get->arena, argc, argv, words);

    if (status >= 0)
        return status;
    if (words->count == 0)
        return fl_command_usage("get", "say what: TYPE [NAME…] or TYPE/NAME…");
    if (fl_output_parse(get->arena, get->output_text, &get->output, &err) < 0)
        return fl_command_usage("get", "%s", err.msg);
    if (get->sort_by && fl_jsonpath_compile(get->sort_by, &path_options, &get->sort_path, &err) < 0)
        return fl_command_usage("get", "--sort-by: %s", err.msg);
    get->watch = get->watch || get->watch_only;
    if (get->watch && get->sort_by)
        return fl_command_usage("get", "--sort-by and --watch do not go together");
    return -1;
}

static struct fl_list_query query_of(const struct get *get)
{
    bool table = fl_output_is_table(&get->output);

    return (struct fl_list_query){
        .ns = get->all_namespaces ? NULL : get->client->ns,
        .label_selector = get->selector,
        .field_selector = get->field_selector,
        .accept = table ? FL_ACCEPT_TABLE : NULL,
        .include_object = table && get->sort_path ? "Object" : NULL,
        .chunk_size = get->chunk_size,
    };
}

/* Sorting. */

struct sort_item {
    json_t *item;
    const json_t *key;
    size_t index;
};

static int compare_keys(const json_t *a, const json_t *b)
{
    if (!a || !b)
        return (a != NULL) - (b != NULL);
    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);

        return (x > y) - (x < y);
    }
    if (json_is_string(a) && json_is_string(b))
        return strcmp(json_string_value(a), json_string_value(b));
    return (int)json_typeof(a) - (int)json_typeof(b);
}

static int compare_items(const void *a, const void *b)
{
    const struct sort_item *x = a, *y = b;
    int r = compare_keys(x->key, y->key);

    return r ? r : (x->index > y->index) - (x->index < y->index);
}

/* `object_key` NULL: the items are the objects. */
static void sort(struct get *get, json_t *list, const char *object_key)
{
    size_t count = json_array_size(list);
    struct sort_item *items = fl_new_array(get->arena, struct sort_item, count + 1);

    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        const json_t *const *values;
        size_t found = 0;

        if (fl_jsonpath_eval(get->sort_path, object_key ? json_object_get(item, object_key) : item,
                             get->arena, &values, &found, NULL) < 0)
            found = 0;
        items[i] = (struct sort_item){json_incref(item), found ? values[0] : NULL, i};
    }
    qsort(items, count, sizeof(*items), compare_items);
    for (size_t i = 0; i < count; i++)
        (void)json_array_set_new(list, i, items[i].item);
}

/* One answer. */

static int failed(struct get *get, const struct fl_error *err)
{
    if (err->code == FL_E_NOT_FOUND && get->ignore_not_found)
        return 0;
    get->status = fl_client_report(get->client, NULL, err);
    return -1;
}

/* The list or the object of one target; NULL after a failure that was reported. */
static json_t *fetch(struct get *get, const struct fl_target *target)
{
    struct fl_list_query query = query_of(get);
    struct fl_error err = {0};
    json_t *answer = NULL;
    int r;

    if (target->name) {
        const char *path =
            fl_client_path(get->client, target->resource, get->client->ns, target->name);

        path = fl_client_query(get->client, path, "includeObject", query.include_object);
        r = fl_client_get(get->client, path, query.accept, &answer, &err);
    } else {
        r = fl_client_list(get->client, target->resource, &query, &answer, &err);
    }
    if (r < 0)
        (void)failed(get, &err);
    return r < 0 ? NULL : answer;
}

static void print_table(struct get *get, const struct fl_api_resource *resource, json_t *table)
{
    struct fl_table_print_options options = {
        .wide = get->output.form == FL_OUTPUT_WIDE,
        .no_headers = get->no_headers,
        .with_namespace = get->all_namespaces && resource->namespaced,
        .show_labels = get->show_labels,
        .kind = get->targets.many_types ? resource->type_name : NULL,
    };
    struct fl_buf buf;

    if (json_array_size(json_object_get(table, "rows")) == 0)
        return;
    if (get->sort_path)
        sort(get, json_object_get(table, "rows"), "object");
    fl_buf_init(&buf, 0);
    fl_table_print(table, &options, &buf);
    if (get->printed)
        (void)fputc('\n', stdout);
    get->printed = true;
    (void)fwrite(fl_buf_text(&buf), 1, buf.len, stdout);
    fl_buf_finish(&buf);
}

static void say_nothing_found(const struct get *get)
{
    bool namespaced = false;

    for (size_t i = 0; i < get->targets.count; i++)
        namespaced = namespaced || get->targets.items[i].resource->namespaced;
    if (get->all_namespaces || !namespaced)
        (void)fprintf(stderr, "No resources found\n");
    else
        (void)fprintf(stderr, "No resources found in %s namespace.\n", get->client->ns);
}

/* A table for each type, in the order in which they were asked for. */
static void get_tables(struct get *get)
{
    for (size_t i = 0; i < get->targets.count; i++) {
        const struct fl_api_resource *resource = get->targets.items[i].resource;
        FL_JSON table = NULL;
        bool seen = false;

        for (size_t j = 0; j < i; j++)
            seen = seen || get->targets.items[j].resource == resource;
        for (size_t j = i; !seen && j < get->targets.count; j++) {
            FL_JSON answer = NULL;

            if (get->targets.items[j].resource != resource)
                continue;
            answer = fetch(get, &get->targets.items[j]);
            if (table)
                (void)json_array_extend(json_object_get(table, "rows"),
                                        json_object_get(answer, "rows"));
            else
                table = FL_TAKE(answer);
        }
        if (table)
            print_table(get, resource, table);
    }
    if (!get->printed && get->status == 0 && !get->ignore_not_found)
        say_nothing_found(get);
}

static void complete(const struct get *get, const struct fl_api_resource *resource, json_t *object)
{
    fl_discovery_complete(resource, object);
    if (!get->show_managed_fields)
        (void)json_object_del(json_object_get(object, "metadata"), "managedFields");
}

static void get_objects(struct get *get)
{
    FL_JSON list = json_pack("{s:s,s:s,s:{s:s},s:[]}", "apiVersion", "v1", "kind", "List",
                             "metadata", "resourceVersion", "", "items");
    json_t *items = json_object_get(list, "items"), *item;
    bool single = get->targets.count == 1 && get->targets.items[0].name;
    const struct fl_api_resource *resource = NULL;
    struct fl_error err = {0};
    size_t k;

    for (size_t i = 0; i < get->targets.count; i++) {
        const struct fl_target *target = &get->targets.items[i];
        FL_JSON answer = fetch(get, target);

        if (target->name && answer) {
            complete(get, target->resource, answer);
            (void)json_array_append(items, answer);
        }
        json_array_foreach(target->name ? NULL : json_object_get(answer, "items"), k, item) {
            complete(get, target->resource, item);
            (void)json_array_append(items, item);
        }
    }
    if (get->sort_path)
        sort(get, items, NULL);
    if (single && json_array_size(items) == 0)
        return;
    if (single)
        resource = get->targets.items[0].resource;
    if (fl_output_object(&get->output, get->client->discovery, resource,
                         single ? json_array_get(items, 0) : list, &err) < 0)
        (void)failed(get, &err);
}

/* Watching. */

/* Whether this state of the object is news. */
static bool remember(struct get *get, const json_t *object, bool deleted)
{
    const char *key = fl_str_or(fl_json_str(object, "metadata.uid"), "");
    const char *version = fl_str_or(fl_json_str(object, "metadata.resourceVersion"), "");

    if (deleted) {
        (void)fl_map_remove(get->versions, key);
        return true;
    }
    if (fl_streq(fl_map_get(get->versions, key), version))
        return false;
    fl_map_put(get->versions, key, fl_strdup(version));
    return true;
}

static void print_rows(struct get *get, const char *event, json_t *table)
{
    struct fl_table_print_options options = {
        .wide = get->output.form == FL_OUTPUT_WIDE,
        .no_headers = get->no_headers || get->printed,
        .with_namespace = get->all_namespaces && get->resource->namespaced,
        .show_labels = get->show_labels,
        .event = get->watch_events ? event : NULL,
        .columns = get->columns,
        .widths = get->widths,
    };
    json_t *definitions = json_object_get(table, "columnDefinitions");
    struct fl_buf buf;

    if (json_array_size(definitions) > 0) {
        json_decref(get->columns);
        get->columns = json_incref(definitions);
        options.columns = get->columns;
    }
    if (json_array_size(json_object_get(table, "rows")) == 0)
        return;
    fl_buf_init(&buf, 0);
    fl_table_print(table, &options, &buf);
    (void)fwrite(fl_buf_text(&buf), 1, buf.len, stdout);
    (void)fflush(stdout);
    fl_buf_finish(&buf);
    get->printed = true;
}

static int print_change(struct get *get, const char *event, json_t *object, struct fl_error *err)
{
    int r;

    complete(get, get->resource, object);
    if (get->watch_events) {
        FL_JSON frame = json_pack("{s:s,s:O}", "type", event, "object", object);

        r = fl_output_object(&get->output, get->client->discovery, get->resource,
                             get->output.form == FL_OUTPUT_NAME ? object : frame, err);
    } else {
        if (get->output.form == FL_OUTPUT_YAML)
            (void)fputs("---\n", stdout);
        r = fl_output_object(&get->output, get->client->discovery, get->resource, object, err);
    }
    if (get->output.form == FL_OUTPUT_JSONPATH)
        (void)fputc('\n', stdout);
    (void)fflush(stdout);
    return r;
}

/* Keeps of a table or list what is news. */
static void keep_news(struct get *get, json_t *list, bool table, bool deleted)
{
    for (size_t i = json_array_size(list); i > 0; i--) {
        json_t *item = json_array_get(list, i - 1);

        if (!remember(get, table ? json_object_get(item, "object") : item, deleted))
            (void)json_array_remove(list, i - 1);
    }
}

static int on_change(void *user, const char *event, json_t *object, struct fl_error *err)
{
    struct get *get = user;
    bool table = fl_output_is_table(&get->output), is_list = strcmp(event, "LIST") == 0;
    json_t *items = json_object_get(object, table ? "rows" : "items"), *item;
    bool silent = is_list && !get->listed && get->watch_only;
    size_t i;
    int r = 0;

    if (ferror(stdout))
        return fl_error_set(err, FL_E_UNAVAILABLE, "standard output is gone");
    get->listed = true;
    if (is_list || table)
        keep_news(get, items, table, strcmp(event, "DELETED") == 0);
    if (silent)
        return 0;
    if (is_list)
        event = "ADDED";
    if (table) {
        print_rows(get, event, object);
        return 0;
    }
    if (!is_list)
        return remember(get, object, strcmp(event, "DELETED") == 0)
                   ? print_change(get, event, object, err)
                   : 0;
    json_array_foreach(items, i, item) {
        if (r == 0)
            r = print_change(get, event, item, err);
    }
    return r;
}

static int watch(struct get *get)
{
    const struct fl_target *target = &get->targets.items[0];
    struct fl_follow follow = {.resource = target->resource, .query = query_of(get)};
    struct fl_error err = {0};

    if (get->targets.count != 1)
        return fl_command_usage("get", "--watch takes one type, or one TYPE/NAME");
    get->resource = target->resource;
    get->versions = fl_map_create(free);
    if (target->name)
        follow.query.field_selector =
            fl_follow_name(get->client, target->name, get->field_selector);
    if (fl_follow(get->client, &follow, on_change, get, &err) < 0)
        get->status = fl_client_report(get->client, NULL, &err);
    return get->status;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(get_finish) struct get get = {.arena = fl_arena_create(), .chunk_size = 500};
    struct fl_words words = {0};
    struct fl_error err = {0};
    int status = parse(&get, argc, argv, &words);

    if (status >= 0)
        return status;
    if (fl_client_open("get", &get.flags, get.arena, &get.client, &err) < 0)
        return fl_command_fail("get", &err);
    if (fl_discovery_load(get.client, false, &err) < 0 ||
        fl_targets_parse(get.client->discovery, &words, &get.targets, &err) < 0)
        return fl_client_report(get.client, NULL, &err);
    for (size_t i = 0; i < get.targets.count; i++)
        if (get.targets.items[i].name && (get.all_namespaces || get.selector))
            return fl_command_usage("get", "names do not go with --all-namespaces or a selector");
    if (get.watch)
        return watch(&get);
    if (fl_output_is_table(&get.output))
        get_tables(&get);
    else
        get_objects(&get);
    return get.status;
}

const struct fl_command fl_command_get = {"get", "show objects", run};
