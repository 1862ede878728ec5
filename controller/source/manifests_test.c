#include "controller/source/manifests.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants these first */
#include <cmocka.h>

#define FILES_MAX 3

struct want_item {
    const char *file;
    size_t line;
    const char *identity; /* group/version/kind/ns/name */
};

struct want_fault {
    const char *file;
    size_t line;
    const char *object, *words; /* words: somewhere in the message */
};

struct read_case {
    const char *name;
    const char *files[FILES_MAX]; /* a.yaml, b.json, c.yml */
    struct want_item items[6];
    struct want_fault faults[4];
    bool incomplete;
};

#define CM(name) "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " name "\n"
#define CM_JSON(name)                                                                              \
    "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"" name "\"}}"

static const struct read_case read_cases[] = {
    {.name = "nothing", .files = {"", "", "# words\n---\n"}},
    {.name = "documents and their lines",
     .files = {CM("a") "---\n\n# why\n" CM("b") "  namespace: there\n"},
     .items = {{"a.yaml", 1, "/v1/ConfigMap//a"}, {"a.yaml", 8, "/v1/ConfigMap/there/b"}}},
    {.name = "groups",
     .files =
         {"apiVersion: flops.dev/v1alpha1\nkind: Workload\nmetadata: {name: w, namespace: ns}\n",
          CM_JSON("j")},
     .items = {{"a.yaml", 1, "flops.dev/v1alpha1/Workload/ns/w"},
               {"b.json", 1, "/v1/ConfigMap//j"}}},
    {.name = "a broken half leaves the documents before it and the other files",
     .files = {CM("a") "---\nkind: [\n---\n" CM("c"), NULL, CM("d")},
     .items = {{"a.yaml", 1, "/v1/ConfigMap//a"}, {"c.yml", 1, "/v1/ConfigMap//d"}},
     .faults = {{"a.yaml", 7, NULL, "line 7, column 1"}},
     .incomplete = true},
    {.name = "what makes no object",
     .files = {"- a\n---\nkind: X\nmetadata: {name: x}\n---\napiVersion: v1\nkind: Pod\n---\n"
               "apiVersion: v1\nkind: Pod\nmetadata: {generateName: p-}\n"},
     .faults = {{"a.yaml", 1, NULL, "is of type array"},
                {"a.yaml", 3, "X/x", "apiVersion is missing"},
                {"a.yaml", 6, "Pod/?", "metadata is missing"},
                {"a.yaml", 9, "Pod/?", "generateName"}},
     .incomplete = true},
    {.name = "a namespace that is no text, a kind that is a number",
     .files = {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: 5}\n---\n"
               "apiVersion: v1\nkind: 7\nmetadata: {name: a}\n---\n"
               "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ''}\n"},
     .faults = {{"a.yaml", 1, "ConfigMap/a", "namespace is not a text"},
                {"a.yaml", 5, NULL, "kind is missing"},
                {"a.yaml", 9, "ConfigMap/?", "name is missing"}},
     .incomplete = true},
    {.name = "names that would be paths",
     .files = {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ../secrets/a}\n---\n"
               "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b/c}\n"},
     .faults = {{"a.yaml", 1, "ConfigMap/../secrets/a", "may not contain"},
                {"a.yaml", 5, "ConfigMap/a", "metadata.namespace"}},
     .incomplete = true},
    {.name = "what stands twice, in whatever version",
     .files = {"apiVersion: apps/v1\nkind: D\nmetadata: {name: a}\n", NULL,
               "---\napiVersion: apps/v2\nkind: D\nmetadata: {name: a}\n---\n"
               "apiVersion: apps/v1\nkind: D\nmetadata: {name: a, namespace: b}\n"},
     .items = {{"a.yaml", 1, "apps/v1/D//a"}, {"c.yml", 6, "apps/v1/D/b/a"}},
     .faults = {{"c.yml", 2, "D/a", "is in a.yaml, line 1, already"}}},
    {.name = "lists",
     .files = {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: "
               "{name: s}}\n"
               "- apiVersion: v1\n  kind: List\n  items: [{apiVersion: v1, kind: Pod, metadata: "
               "{name: p}}]\n"
               "---\napiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: c}}]\n"
               "---\napiVersion: test.dev/v1\nkind: PriceList\nmetadata: {name: bread}\n"},
     .items = {{"a.yaml", 1, "/v1/Secret//s"},
               {"a.yaml", 1, "/v1/Pod//p"},
               {"a.yaml", 9, "/v1/ConfigMap//c"},
               {"a.yaml", 13, "test.dev/v1/PriceList//bread"}}},
    {.name = "items of a list without a name",
     .files = {"apiVersion: v1\nkind: List\nitems: [4, {kind: Pod}]\n"},
     .faults = {{"a.yaml", 1, NULL, "integer"}, {"a.yaml", 1, "Pod/?", "apiVersion is missing"}},
     .incomplete = true},
};

static struct fl_snapshot *snapshot_of(const char *const texts[FILES_MAX])
{
    static const char *const names[FILES_MAX] = {"a.yaml", "b.json", "c.yml"};
    static struct fl_source_file files[FILES_MAX];
    static struct fl_snapshot snapshot;

    snapshot = (struct fl_snapshot){.files = files};
    for (size_t i = 0; i < FILES_MAX; i++)
        if (texts[i])
            files[snapshot.file_count++] = (struct fl_source_file){
                .path = names[i], .data = texts[i], .len = strlen(texts[i])};
    return &snapshot;
}

static void check_items(const struct read_case *c, const struct fl_manifests *read,
                        struct fl_arena *arena)
{
    size_t count = 0;

    while (count < FL_COUNT_OF(c->items) && c->items[count].file)
        count++;
    assert_int_equal(read->count, count);
    for (size_t i = 0; i < count; i++) {
        const struct fl_manifest *item = &read->items[i];

        assert_string_equal(fl_arena_printf(arena, "%s/%s/%s/%s/%s", item->group, item->version,
                                            item->kind, item->ns, item->name),
                            c->items[i].identity);
        assert_string_equal(item->file, c->items[i].file);
        assert_int_equal(item->line, c->items[i].line);
        assert_string_equal(fl_json_str(item->object, "metadata.name"), item->name);
        assert_string_equal(fl_json_str(item->object, "kind"), item->kind);
        assert_string_equal(fl_json_str(item->object, "apiVersion"), item->api_version);
    }
}

static void check_faults(const struct read_case *c, const struct fl_manifests *read)
{
    size_t count = 0;

    while (count < FL_COUNT_OF(c->faults) && c->faults[count].file)
        count++;
    assert_int_equal(read->fault_count, count);
    for (size_t i = 0; i < count; i++) {
        const struct fl_fault *fault = &read->faults[i];

        assert_string_equal(fault->file, c->faults[i].file);
        assert_int_equal(fault->line, c->faults[i].line);
        if (!fl_streq(fault->object, c->faults[i].object))
            fail_msg("%s is not %s", fault->object, c->faults[i].object);
        if (!strstr(fault->message, c->faults[i].words))
            fail_msg("\"%s\" is not in: %s", c->faults[i].words, fault->message);
    }
}

static void test_reads(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(read_cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        const struct read_case *c = &read_cases[i];
        struct fl_manifests read;

        print_message("%s\n", c->name);
        fl_manifests_read(snapshot_of(c->files), arena, &read);
        check_items(c, &read, arena);
        check_faults(c, &read);
        assert_int_equal(read.incomplete, c->incomplete);
    }
}

static void read_text(const char *text, struct fl_arena *arena, struct fl_manifests *ret_read)
{
    const char *const texts[FILES_MAX] = {text};

    fl_manifests_read(snapshot_of(texts), arena, ret_read);
}

/* A status that holds such a name would be refused, and with it the whole report. */
static void test_refuses_names_beyond_any_api(void **state)
{
    static const struct {
        const char *before, *after;
        size_t fits;
    } fields[] = {
        {"{apiVersion: v1, kind: C, metadata: {name: ", "}}", 253},
        {"{apiVersion: v1, kind: ", ", metadata: {name: a}}", 63},
        {"{apiVersion: ", ", kind: C, metadata: {name: a}}", 63},
        {"{apiVersion: ", "/v1, kind: C, metadata: {name: a}}", 253},
        {"{apiVersion: v1, kind: C, metadata: {name: a, namespace: ", "}}", 63},
    };
    char name[300];

    (void)state;
    memset(name, 'x', sizeof(name));
    for (size_t i = 0; i < FL_COUNT_OF(fields); i++)
        for (size_t more = 0; more <= 1; more++) {
            FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
            struct fl_manifests read;

            read_text(fl_arena_printf(arena, "%s%.*s%s", fields[i].before,
                                      (int)(fields[i].fits + more), name, fields[i].after),
                      arena, &read);
            assert_int_equal(read.count, 1 - more);
            assert_int_equal(read.fault_count, more);
            assert_int_equal(read.incomplete, more);
        }
}

static void test_refuses_too_many(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_manifests read;
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    for (int i = 0; i < FL_MANIFESTS_MAX; i++)
        fl_buf_printf(&text, "---\n{apiVersion: v1, kind: C, metadata: {name: c%d}}\n", i);
    read_text(text.data, arena, &read);
    assert_int_equal(read.count, FL_MANIFESTS_MAX);
    assert_false(read.incomplete);

    fl_buf_puts(&text, "---\n{apiVersion: v1, kind: C, metadata: {name: last}}\n");
    read_text(text.data, arena, &read);
    assert_int_equal(read.count, 0);
    assert_int_equal(read.fault_count, 1);
    assert_null(read.faults[0].file);
    assert_true(read.incomplete);
    assert_true(fl_manifests_may_want(&read, "b.json", "x1"));
    fl_buf_finish(&text);
}

static void test_bounds_faults(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_manifests read;
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    fl_buf_puts(&text, "{apiVersion: v1, kind: List, items: [0");
    for (int i = 0; i < 2 * FL_MANIFEST_FAULTS_MAX; i++)
        fl_buf_puts(&text, ",0");
    fl_buf_puts(&text, "]}");
    read_text(text.data, arena, &read);
    assert_int_equal(read.fault_count, FL_MANIFEST_FAULTS_MAX);
    assert_true(read.incomplete);
    fl_buf_finish(&text);
}

static void test_bounds_lists_in_lists(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_manifests read;
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    for (int i = 0; i < 20; i++)
        fl_buf_puts(&text, "{apiVersion: v1, kind: List, items: [");
    for (int i = 0; i < 20; i++)
        fl_buf_puts(&text, "]}");
    read_text(text.data, arena, &read);
    assert_int_equal(read.fault_count, 1);
    assert_true(read.incomplete);
    fl_buf_finish(&text);
}

/* Which of those that are not there may be wanted, by where they were. */
static void test_knows_what_may_be_wanted(void **state)
{
    static const struct {
        const char *broken, *file, *name; /* a.yaml */
        bool wanted;
    } cases[] = {
        {"", "a.yaml", "x1", false},
        {"", NULL, "x1", false},
        {"kind: [", "a.yaml", "x1", true},
        {"kind: [", "c.yml", "x1", false},
        {"kind: [", NULL, "x1", true},
        {"kind: [ x1", "c.yml", "x1", true},
        {"kind: [ \"\\x781\"", "c.yml", "x1", true},
        {"kind: X", "c.yml", "x1", false},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_manifests read;

        read_text(cases[i].broken, arena, &read);
        assert_int_equal(fl_manifests_may_want(&read, cases[i].file, cases[i].name),
                         cases[i].wanted);
    }
}

/* Of a link it is known where it leads, and no more. */
static void test_links_want_what_was_in_them(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_source_file file = {
        .path = "a.yaml", .data = "../x1.yaml", .len = 10, .fault = "is a link"};
    struct fl_snapshot snapshot = {.files = &file, .file_count = 1};
    struct fl_manifests read;

    (void)state;
    fl_manifests_read(&snapshot, arena, &read);
    assert_true(fl_manifests_may_want(&read, "a.yaml", "x2"));
    assert_true(fl_manifests_may_want(&read, "c.yml", "x1"));
    assert_false(fl_manifests_may_want(&read, "c.yml", "x2"));
}

/* Of what has no content nothing is known. */
static void test_unread_files_may_want_all(void **state)
{
    struct fl_source_file files[] = {{.path = "a.yaml", .data = "", .fault = "cannot be read"},
                                     {.path = "a.yaml", .data = "", .unfinished = true}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(files); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_snapshot snapshot = {.files = &files[i], .file_count = 1};
        struct fl_manifests read;

        fl_manifests_read(&snapshot, arena, &read);
        assert_true(fl_manifests_may_want(&read, "c.yml", "x1"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_refuses_names_beyond_any_api),
        cmocka_unit_test(test_refuses_too_many),
        cmocka_unit_test(test_bounds_faults),
        cmocka_unit_test(test_bounds_lists_in_lists),
        cmocka_unit_test(test_knows_what_may_be_wanted),
        cmocka_unit_test(test_unread_files_may_want_all),
        cmocka_unit_test(test_links_want_what_was_in_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
