/* What apt-get, pip and files with locks say, the first byte says which: whatever is taken can be
 * the name of a file, and is the same when it is written and read again. */
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int parse(struct fl_arena *arena, char kind, const char *text, size_t len,
                 struct fl_package_lock *lock)
{
    FL_JSON value = NULL;

    if (kind == 'a')
        return fl_apt_answer_parse(arena, text, lock, NULL);
    if (kind == 'p')
        return fl_pip_report_parse(arena, text, len, lock, NULL);
    if (fl_json_parse(text, len, NULL, NULL, NULL, &value, NULL) < 0)
        return -1;
    return fl_package_lock_parse(arena, value, lock, NULL);
}

static void check_same(struct fl_arena *arena, const struct fl_package_lock *lock)
{
    FL_JSON first = fl_package_lock_json(lock);
    FL_JSON second = NULL;
    struct fl_package_lock again;

    if (fl_package_lock_parse(arena, first, &again, NULL) < 0)
        abort();
    second = fl_package_lock_json(&again);
    if (!json_equal(first, second))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = NULL;
    struct fl_package_lock lock = {0};
    const char *text;

    if (size < 1)
        return 0;
    arena = fl_arena_create();
    text = fl_arena_strndup(arena, (const char *)data + 1, size - 1);
    if (parse(arena, (char)data[0], text, size - 1, &lock) < 0)
        return 0;
    for (size_t i = 0; i < lock.count; i++)
        if (!fl_package_is_sound(&lock.items[i]))
            abort();
    check_same(arena, &lock);
    return 0;
}
