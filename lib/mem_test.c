#include "lib/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct trace {
    struct fl_arena *arena;
    char text[16];
};

static void note_a(void *user)
{
    strcat(((struct trace *)user)->text, "a");
}

static void note_b(void *user)
{
    strcat(((struct trace *)user)->text, "b");
}

static void add_another(void *user)
{
    struct trace *trace = user;

    strcat(trace->text, "+");
    fl_arena_on_reset(trace->arena, note_a, trace);
}

static void hooks_run_once_last_first(void **state)
{
    struct fl_arena *arena = fl_arena_create();
    struct trace trace = {.arena = arena};

    (void)state;
    fl_arena_on_reset(arena, note_a, &trace);
    fl_arena_on_reset(arena, note_b, &trace);
    fl_arena_reset(arena);
    assert_string_equal(trace.text, "ba");
    fl_arena_reset(arena);
    assert_string_equal(trace.text, "ba");
    fl_arena_on_reset(arena, note_b, &trace);
    fl_arena_destroy(arena);
    assert_string_equal(trace.text, "bab");
}

static void a_hook_may_add_a_hook(void **state)
{
    struct fl_arena *arena = fl_arena_create();
    struct trace trace = {.arena = arena};

    (void)state;
    fl_arena_on_reset(arena, note_b, &trace);
    fl_arena_on_reset(arena, add_another, &trace);
    fl_arena_reset(arena);
    assert_string_equal(trace.text, "+ab");
    fl_arena_destroy(arena);
    assert_string_equal(trace.text, "+ab");
}

/* Small and large objects mixed: each is zeroed, aligned and its own, also after a reset. */
static void objects_do_not_overlap(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    static const size_t sizes[] = {1, 0, 7, 16, 4000, 17, 5000, 100000, 3, 16384, 16383, 64};
    unsigned char *objects[FL_COUNT_OF(sizes) * 20];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < FL_COUNT_OF(objects); i++) {
            size_t size = sizes[i % FL_COUNT_OF(sizes)];

            objects[i] = fl_alloc(arena, size);
            assert_int_equal((uintptr_t)objects[i] % _Alignof(max_align_t), 0);
            for (size_t k = 0; k < size; k++)
                assert_int_equal(objects[i][k], 0);
            memset(objects[i], (int)(i + 1), size);
        }
        for (size_t i = 0; i < FL_COUNT_OF(objects); i++)
            for (size_t k = 0; k < sizes[i % FL_COUNT_OF(sizes)]; k++)
                assert_int_equal(objects[i][k], (unsigned char)(i + 1));
        assert_true(fl_arena_size_bytes(arena) >= 20 * 100000);
        fl_arena_reset(arena);
        assert_int_equal(fl_arena_size_bytes(arena), 0);
    }
}

static void copies_text(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char *long_text;

    (void)state;
    assert_string_equal(fl_arena_strdup(arena, ""), "");
    assert_string_equal(fl_arena_strndup(arena, "hello", 3), "hel");
    assert_string_equal(fl_arena_printf(arena, "%d-%s", 7, "x"), "7-x");
    long_text = fl_arena_printf(arena, "%0*d", 50000, 1);
    assert_int_equal(strlen(long_text), 50000);
}

static void take_empties_the_variable(void **state)
{
    FL_CLEANUP(fl_freep) char *kept = NULL;
    FL_CLEANUP(fl_freep) char *text = fl_asprintf("%s", "x");

    (void)state;
    kept = FL_TAKE(text);
    assert_null(text);
    assert_string_equal(kept, "x");
}

static void bytes_are_counted(void **state)
{
    struct fl_bytes *bytes = fl_bytes_new("a\0b", 3);
    struct fl_bytes *again = fl_bytes_ref(bytes);

    (void)state;
    assert_ptr_equal(bytes, again);
    fl_bytes_unref(bytes);
    assert_int_equal(again->len, 3);
    assert_memory_equal(again->data, "a\0b", 4);
    fl_bytes_unref(again);
    fl_bytes_unref(NULL);
    bytes = fl_bytes_new(NULL, 0);
    assert_int_equal(bytes->data[0], 0);
    fl_bytes_unref(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hooks_run_once_last_first), cmocka_unit_test(a_hook_may_add_a_hook),
        cmocka_unit_test(objects_do_not_overlap),    cmocka_unit_test(copies_text),
        cmocka_unit_test(take_empties_the_variable), cmocka_unit_test(bytes_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
