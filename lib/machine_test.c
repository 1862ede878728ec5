#include "lib/machine.h"

#include "lib/file.h"
#include "lib/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void put(const char *folder, const char *name, const char *text)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(fl_file_write(path, text, strlen(text), 0644, NULL), 0);
}

static void emulators_count_where_containers_can_use_them(void **state)
{
    char folder[] = "/tmp/flops-binfmt-XXXXXX";
    const char *found[8];

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(fl_machine_foreign(folder, found, 8), 0);
    put(folder, "qemu-aarch64", "enabled\ninterpreter /usr/bin/q\nflags: OCF\noffset 0\n");
    put(folder, "qemu-arm", "enabled\ninterpreter /usr/bin/q\nflags: OC\noffset 0\nmask F\n");
    put(folder, "qemu-s390x", "disabled\ninterpreter /usr/bin/q\nflags: F\n");
    put(folder, "qemu-riscv64", "enabled\n");
    assert_int_equal(fl_machine_foreign(folder, found, 8), 1);
    assert_string_equal(found[0], "linux/arm64");
    assert_int_equal(fl_machine_foreign(folder, found, 0), 0);
    assert_int_equal(fl_dir_remove(folder, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(emulators_count_where_containers_can_use_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
