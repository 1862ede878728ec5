#include "lib/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int destroyed;

static void count_destroyed(void *value)
{
    (void)value;
    destroyed++;
}

static void puts_gets_removes(void **state)
{
    struct fl_map *map = fl_map_create(count_destroyed);
    int a, b;

    (void)state;
    destroyed = 0;
    assert_null(fl_map_get(map, "a"));
    fl_map_put(map, "a", &a);
    assert_ptr_equal(fl_map_get(map, "a"), &a);
    assert_ptr_equal(fl_map_get_n(map, "abc", 1), &a);
    assert_null(fl_map_get_n(map, "abc", 2));
    fl_map_put(map, "a", &a); /* the same value again is kept */
    assert_int_equal(destroyed, 0);
    fl_map_put(map, "a", &b);
    assert_int_equal(destroyed, 1);
    fl_map_put(map, "", &a);
    assert_ptr_equal(fl_map_get(map, ""), &a);
    assert_int_equal(fl_map_count(map), 2);
    assert_ptr_equal(fl_map_take(map, "a"), &b);
    assert_null(fl_map_take(map, "a"));
    assert_int_equal(destroyed, 1);
    assert_true(fl_map_remove(map, ""));
    assert_false(fl_map_remove(map, ""));
    assert_int_equal(destroyed, 2);
    fl_map_put(map, "x", &a);
    fl_map_destroy(map);
    assert_int_equal(destroyed, 3);
    fl_map_destroy(NULL);
}

static void keys_are_copied(void **state)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *map = fl_map_create(NULL);
    char key[] = "key";

    (void)state;
    fl_map_put(map, key, key);
    key[0] = 'x';
    assert_non_null(fl_map_get(map, "key"));
    assert_null(fl_map_get(map, "xey"));
}

static struct fl_map *numbers(size_t count)
{
    struct fl_map *map = fl_map_create(free);

    for (size_t i = 0; i < count; i++) {
        FL_CLEANUP(fl_freep) char *key = fl_asprintf("%zu", i);

        fl_map_put(map, key, fl_strdup(key));
    }
    return map;
}

static void iterates_in_insertion_order(void **state)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *map = numbers(1000);
    FL_CLEANUP(fl_map_destroyp) struct fl_map *empty = fl_map_create(NULL);
    void *cursor = NULL, *value;
    const char *key;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_true(fl_map_next(map, &cursor, &key, &value));
        assert_int_equal(atoi(key), i);
        assert_string_equal(key, value);
    }
    assert_false(fl_map_next(map, &cursor, &key, &value));
    assert_false(fl_map_next(map, &cursor, NULL, NULL));
    cursor = NULL;
    assert_false(fl_map_next(empty, &cursor, NULL, NULL));
}

static void removes_while_iterating(void **state)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *map = numbers(1000);
    void *cursor = NULL;
    const char *key;
    int seen = 0;

    (void)state;
    while (fl_map_next(map, &cursor, &key, NULL)) {
        assert_int_equal(atoi(key), seen++);
        if (seen % 3)
            assert_true(fl_map_remove(map, key));
    }
    assert_int_equal(seen, 1000);
    assert_int_equal(fl_map_count(map), 333);
    assert_non_null(fl_map_get(map, "998"));
    assert_null(fl_map_get(map, "999"));
    cursor = NULL;
    while (fl_map_next(map, &cursor, &key, NULL))
        assert_true(fl_map_remove(map, key));
    assert_int_equal(fl_map_count(map), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_gets_removes),
        cmocka_unit_test(keys_are_copied),
        cmocka_unit_test(iterates_in_insertion_order),
        cmocka_unit_test(removes_while_iterating),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
