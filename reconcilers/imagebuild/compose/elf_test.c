#include "reconcilers/imagebuild/compose/elf.h"

#include "lib/file.h"
#include "lib/oci/reference.h"
#include "lib/str.h"

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool needs(const struct fl_elf *elf, const char *name)
{
    for (size_t i = 0; i < elf->needed_count; i++)
        if (fl_streq(elf->needed[i], name))
            return true;
    return false;
}

/* This very program. */
static void a_program_is_read(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_elf elf;

    (void)state;
    assert_int_equal(fl_elf_read(arena, "/proc/self/exe", &elf, NULL), 0);
    assert_string_equal(elf.architecture, fl_platform_of_machine().architecture);
    assert_non_null(strstr(elf.loader, "ld-linux"));
    assert_true(needs(&elf, "libc.so.6"));
    assert_true(needs(&elf, "libcmocka.so.0"));
    assert_false(needs(&elf, "libnothing.so"));
}

static void what_is_none_is_said(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_elf elf;

    (void)state;
    assert_int_equal(fl_elf_parse(arena, "", 0, &elf, NULL), FL_E_UNSUPPORTED_MEDIA);
    assert_int_equal(fl_elf_parse(arena, "#!/bin/sh", 9, &elf, NULL), FL_E_UNSUPPORTED_MEDIA);
    assert_int_equal(fl_elf_read(arena, "/nowhere", &elf, NULL), FL_E_NOT_FOUND);
}

/* Cut anywhere, and with bytes turned, it is read or refused, and nothing is read beyond it. */
static void damage_is_survived(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_elf elf;
    size_t refused = 0;

    (void)state;
    assert_int_equal(fl_file_read("/proc/self/exe", 1 << 28, &bytes, NULL), 0);
    for (size_t len = 0; len < 4096 && len < bytes->len; len += 7) {
        char *part = fl_malloc(len + 1);

        memcpy(part, bytes->data, len);
        refused += fl_elf_parse(arena, part, len, &elf, NULL) < 0;
        free(part);
    }
    assert_true(refused > 500);
    for (size_t i = 0; i < 2048 && i < bytes->len; i++) {
        char before = bytes->data[i];

        bytes->data[i] = (char)~before;
        (void)fl_elf_parse(arena, bytes->data, bytes->len, &elf, NULL);
        bytes->data[i] = before;
        fl_arena_reset(arena);
    }
    assert_int_equal(fl_elf_parse(arena, bytes->data, bytes->len, &elf, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_read),
        cmocka_unit_test(what_is_none_is_said),
        cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
