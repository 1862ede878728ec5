#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/manifest.h"
#include "lib/file.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *documents_text(const struct fl_documents *documents)
{
    const char *all = "";

    for (size_t i = 0; i < documents->count; i++) {
        const struct fl_document *document = &documents->items[i];

        all = fl_arena_printf(documents->arena, "%s%s %s/%s %s\n", all, document->where,
                              fl_str_or(document->kind, "-"), fl_str_or(document->name, "-"),
                              fl_str_or(document->error, "fine"));
    }
    return all;
}

static void test_text(void **state)
{
    static const char text[] =
        "# first\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
        "---\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n"
        "---\n"
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Secret, metadata: {name: c}}\n"
        "- {apiVersion: v1, kind: CustomResourceDefinition, metadata: {name: d}}\n"
        "- 12\n"
        "---\n"
        "{\"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"e\"}}\n"
        "---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: f-}\n"
        "---\n"
        "a: [\n";
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_documents documents = {.arena = arena};

    (void)state;
    fl_documents_add_text(&documents, "f", text, strlen(text));
    assert_int_equal(documents.count, 8);
    assert_true(fl_str_has_prefix(documents.items[7].error, "line "));
    documents.count--;
    assert_string_equal(documents_text(&documents),
                        "f:2 ConfigMap/a fine\n"
                        "f:7 Namespace/b fine\n"
                        "f:11: items[0] Secret/c fine\n"
                        "f:11: items[1] CustomResourceDefinition/d fine\n"
                        "f:11: items[2] -/- is no object\n"
                        "f:18 ConfigMap/e apiVersion is not set\n"
                        "f:20 ConfigMap/- metadata.name is not set\n");
    fl_documents_sort(&documents);
    assert_string_equal(documents.items[0].name, "b");
    assert_string_equal(documents.items[1].name, "d");
    assert_string_equal(documents.items[2].name, "a");
    assert_string_equal(documents.items[3].name, "c");
}

static void write_manifest(struct fl_arena *arena, const char *folder, const char *name)
{
    const char *text =
        fl_arena_printf(arena, "{apiVersion: v1, kind: ConfigMap, metadata: {name: %s}}\n", name);
    struct fl_error err = {0};

    assert_int_equal(fl_file_write(fl_arena_printf(arena, "%s/%s", folder, name), text,
                                   strlen(text), 0600, &err),
                     0);
}

static const char *names_in(struct fl_arena *arena, const char *path, bool recursive)
{
    struct fl_documents documents = {.arena = arena};
    struct fl_words files = {.items = &path, .count = 1};
    const char *all = "";

    fl_documents_read(&documents, &files, recursive);
    for (size_t i = 0; i < documents.count; i++)
        all = fl_arena_printf(arena, "%s %s", all,
                              fl_str_or(documents.items[i].name, documents.items[i].error));
    return all;
}

static void test_folders(void **state)
{
    static const char *const names[] = {"b.yaml", "a.json", "c.txt", "d/e.yml", "d/f/g.yaml"};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char folder[] = "/tmp/manifest_test.XXXXXX";
    struct fl_error err = {0};

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(fl_dir_ensure(fl_arena_printf(arena, "%s/d/f", folder), 0700, &err), 0);
    assert_int_equal(fl_dir_ensure(fl_arena_printf(arena, "%s/empty", folder), 0700, &err), 0);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        const char *slash = strrchr(names[i], '/');
        const char *in =
            slash ? fl_arena_printf(arena, "%s/%.*s", folder, (int)(slash - names[i]), names[i])
                  : folder;

        write_manifest(arena, in, slash ? slash + 1 : names[i]);
    }
    assert_string_equal(names_in(arena, folder, false), " a.json b.yaml");
    assert_string_equal(names_in(arena, folder, true), " a.json b.yaml e.yml g.yaml");
    assert_string_equal(names_in(arena, fl_arena_printf(arena, "%s/c.txt", folder), false),
                        " c.txt");
    assert_string_equal(names_in(arena, fl_arena_printf(arena, "%s/empty", folder), false),
                        " no objects in it");
    assert_string_equal(names_in(arena, fl_arena_printf(arena, "%s/nope", folder), false),
                        " cannot be read: No such file or directory");
    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        (void)unlink(fl_arena_printf(arena, "%s/%s", folder, names[i]));
    (void)rmdir(fl_arena_printf(arena, "%s/d/f", folder));
    (void)rmdir(fl_arena_printf(arena, "%s/d", folder));
    (void)rmdir(fl_arena_printf(arena, "%s/empty", folder));
    (void)rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_folders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
