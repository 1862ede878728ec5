/* Holds crds/ against the schema engine: each definition must be valid and compile, and each
 * document of crds/testdata/ must get the answer that its first lines promise (the same that
 * e2e/interop/crds.sh asks of a server). */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/crd.h"
#include "lib/file.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENTS_MAX 4u

struct documents {
    json_t *items[DOCUMENTS_MAX];
    size_t count;
};

static struct fl_map *schemas; /* by kind */

static int keep(void *user, json_t *value, size_t line, struct fl_error *err)
{
    struct documents *documents = user;

    (void)line;
    if (documents->count == DOCUMENTS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "too many documents");
    documents->items[documents->count++] = json_incref(value);
    return 0;
}

static struct fl_bytes *read_file(const char *path)
{
    struct fl_bytes *bytes = NULL;
    struct fl_error err;

    if (fl_file_read(path, 1 << 20, &bytes, &err) < 0)
        fail_msg("%s: %s", path, err.msg);
    return bytes;
}

static struct documents parse(const char *path, const struct fl_bytes *bytes)
{
    struct documents documents = {.count = 0};
    struct fl_error err;

    if (fl_yaml_parse_all(bytes->data, bytes->len, NULL, keep, &documents, &err) < 0)
        fail_msg("%s: %s", path, err.msg);
    return documents;
}

static void release(struct documents *documents)
{
    for (size_t i = 0; i < documents->count; i++)
        json_decref(documents->items[i]);
}

static void no_unknown(void *user, const char *path)
{
    fail_msg("%s: unknown field %s", (const char *)user, path);
}

static void unref(void *schema)
{
    fl_schema_unref(schema);
}

static void load_definition(const char *path)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = read_file(path);
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);
    struct documents documents = parse(path, bytes);
    struct fl_schema *schema = NULL;
    struct fl_error err;

    assert_int_equal(documents.count, 1);
    fl_field_errors_init(errors, arena);
    fl_crd_prune(documents.items[0], no_unknown, (void *)path);
    fl_crd_default(documents.items[0]);
    fl_crd_validate(documents.items[0], NULL, errors);
    if (errors->count > 0)
        fail_msg("%s: %s", path, fl_field_errors_text(errors));
    if (fl_crd_compile_schema(fl_crd_storage_version(documents.items[0]), &schema, &err) < 0)
        fail_msg("%s: %s", path, err.msg);
    fl_map_put(schemas, fl_json_str(documents.items[0], "spec.names.kind"), schema);
    release(&documents);
}

static int load_definitions(void **state)
{
    glob_t found;

    (void)state;
    schemas = fl_map_create(unref);
    if (glob("crds/*.yaml", 0, NULL, &found) != 0)
        return -1;
    for (size_t i = 0; i < found.gl_pathc; i++)
        load_definition(found.gl_pathv[i]);
    globfree(&found);
    return 0;
}

static int drop_definitions(void **state)
{
    (void)state;
    fl_map_destroy(schemas);
    return 0;
}

static void note_unknown(void *user, const char *path)
{
    fl_buf_printf(user, "unknown field \"%s\"\n", path);
}

/* What a server would say of the document; "" where it takes it. */
static void answer(json_t *object, const json_t *old, struct fl_buf *ret_text)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);
    const struct fl_schema *schema =
        fl_map_get(schemas, fl_str_or(fl_json_str(object, "kind"), ""));

    if (!schema) {
        fl_buf_puts(ret_text, "no such kind\n");
        return;
    }
    fl_field_errors_init(errors, arena);
    fl_schema_prune(schema, object, note_unknown, ret_text);
    fl_schema_default(schema, object);
    fl_schema_validate(schema, object, old, errors);
    for (size_t i = 0; i < errors->count; i++)
        fl_buf_printf(ret_text, "%s: %s\n", errors->items[i].path, errors->items[i].message);
}

/* Every "# error: TEXT" of the first lines is part of the answer; the number of them. */
static size_t count_promises(const char *path, const char *text, const char *got)
{
    static const char mark[] = "# error: ";
    size_t count = 0;

    for (; *text == '#'; text += strcspn(text, "\n") + 1) {
        char *promise;

        if (!fl_str_has_prefix(text, mark))
            continue;
        promise = fl_strndup(text + strlen(mark), strcspn(text, "\n") - strlen(mark));
        if (!strstr(got, promise))
            fail_msg("%s: expected %s\n  got %s", path, promise, got);
        free(promise);
        count++;
    }
    return count;
}

static void check_document(const char *path)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = read_file(path);
    struct documents documents = parse(path, bytes);
    const char *name = strrchr(path, '/') + 1;
    struct fl_buf got;
    size_t promises;

    assert_true(documents.count >= 1);
    fl_buf_init(&got, 0);
    if (fl_str_has_prefix(name, "update-")) {
        assert_int_equal(documents.count, 2);
        answer(documents.items[0], NULL, &got);
        if (got.len > 0)
            fail_msg("%s: the first document: %s", path, fl_buf_text(&got));
        answer(documents.items[1], documents.items[0], &got);
    } else {
        answer(documents.items[0], NULL, &got);
    }
    promises = count_promises(path, bytes->data, fl_buf_text(&got));
    if (promises == 0 && got.len > 0)
        fail_msg("%s: refused: %s", path, fl_buf_text(&got));
    if (fl_str_has_prefix(name, "invalid-"))
        assert_true(promises > 0);
    fl_buf_finish(&got);
    release(&documents);
}

static void documents_get_the_promised_answers(void **state)
{
    glob_t found;
    size_t checked = 0;

    (void)state;
    if (glob("crds/testdata/*/*.yaml", 0, NULL, &found) != 0)
        skip();
    for (size_t i = 0; i < found.gl_pathc; i++, checked++)
        check_document(found.gl_pathv[i]);
    globfree(&found);
    print_message("%zu documents\n", checked);
    assert_true(checked > 50);
}

static void examples_are_valid(void **state)
{
    glob_t found;

    (void)state;
    if (glob("examples/*.yaml", 0, NULL, &found) != 0)
        skip();
    for (size_t i = 0; i < found.gl_pathc; i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = read_file(found.gl_pathv[i]);
        struct documents documents = parse(found.gl_pathv[i], bytes);

        for (size_t d = 0; d < documents.count; d++) {
            const char *kind = fl_str_or(fl_json_str(documents.items[d], "kind"), "");
            struct fl_buf got;

            fl_buf_init(&got, 0);
            if (fl_map_get(schemas, kind))
                answer(documents.items[d], NULL, &got);
            if (got.len > 0)
                fail_msg("%s: %s", found.gl_pathv[i], fl_buf_text(&got));
            fl_buf_finish(&got);
        }
        release(&documents);
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_get_the_promised_answers),
        cmocka_unit_test(examples_are_valid),
    };

    return cmocka_run_group_tests(tests, load_definitions, drop_definitions);
}
