#include "reconcilers/imagebuild/compose/requirements.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define HASH "--hash=sha256:0123456789abcdef"

static void test_what_is_understood(void **state)
{
    static const struct {
        const char *text, *clean;
    } rows[] = {
        {"", "\n"},
        {"numpy", "numpy\n"},
        {"numpy\n", "numpy\n\n"},
        {"  numpy \t\r\n\n", "numpy\n\n\n"},
        {"# all of it\nnumpy # why\n#-r x", "\nnumpy\n\n"},
        {"\xef\xbb\xbfnumpy", "numpy\n"},
        {"# caf\xc3\xa9\nnumpy # \xe2\x80\xa8-r x", "\nnumpy\n"},
        {"# a\r-r x\nnumpy", "\nnumpy\n"},
        {"numpy==1.26.4", "numpy==1.26.4\n"},
        {"numpy >= 1.22, < 2", "numpy >= 1.22, < 2\n"},
        {"numpy (>=1.22)", "numpy (>=1.22)\n"},
        {"numpy~=1.26.0", "numpy~=1.26.0\n"},
        {"torch==2.1.0+cpu", "torch==2.1.0+cpu\n"},
        {"a==1.*", "a==1.*\n"},
        {"a===2024-1", "a===2024-1\n"},
        {"a.b_c-D[x,y-z]>=1", "a.b_c-D[x,y-z]>=1\n"},
        {"a [x] ; python_version < '3.12' and os_name == \"posix\"",
         "a [x] ; python_version < '3.12' and os_name == \"posix\"\n"},
        {"a;extra=='b'", "a;extra=='b'\n"},
        {"a==1 " HASH, "a==1 " HASH "\n"},
        {"a==1 \\\n    " HASH " \\\n    " HASH "\nb", "a==1      " HASH "      " HASH "\n\n\nb\n"},
        {"a==1 ; os_name=='x' \\\n  " HASH, "a==1 ; os_name=='x'    " HASH "\n\n"},
        {"a==1 --hash sha256:0123", "a==1 --hash sha256:0123\n"},
        {"a \\\n\nb", "a\n\nb\n"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        const char *clean = NULL;
        struct fl_error err = {0};

        if (fl_requirements_clean(arena, rows[i].text, strlen(rows[i].text), &clean, &err) < 0)
            fail_msg("%s: %s", rows[i].text, err.msg);
        assert_string_equal(clean, rows[i].clean);
    }
}

/* Each of these is something else than a requirement for pip: what it would do is said. */
static void test_what_is_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"-r /etc/passwd", "line 1: options"},
        {"a\n  --index-url http://h/", "line 2: options"},
        {"a\r-r /etc/passwd", "line 1: a requirement is of plain"},      /* two lines */
        {"a\x0c-r x", "line 1: a requirement is of plain"},              /* the same */
        {"a\x0b-r x", "line 1: a requirement is of plain"},              /* the same */
        {"a\x1e-r x", "line 1: a requirement is of plain"},              /* the same */
        {"a\xc2\x85-r x", "line 1: a requirement is of plain"},          /* the same */
        {"a\xe2\x80\xa8-r x", "line 1: a requirement is of plain"},      /* the same */
        {"\xc2\xa0-r x", "line 1: a requirement is of plain"},           /* white space */
        {"# coding: utf-7\n+AC0-r x", "line 2: that is no requirement"}, /* an option */
        {"\xff\xfe-\0r", "line 1"},                                      /* UTF-16 */
        {"a==${SECRET}", "line 1: that is no requirement"},              /* its environment */
        {"a @ https://h/a.whl", "line 1: addresses"},                    /* anybody's */
        {"a @ file:/srv/a", "line 1: addresses"},                        /* runs its setup.py */
        {"a@file:x", "line 1: addresses"},
        {"git+ssh://h/x", "line 1: addresses"},
        {"./a", "line 1: folders"}, /* runs its setup.py */
        {"..", "line 1: folders"},
        {"/srv/a", "line 1: folders"},
        {"srv/a", "line 1: folders"},
        {"srv\\a", "line 1: folders"},
        {"a.whl", "line 1: that is no requirement"}, /* a file */
        {"a-1.tar.gz", "line 1: that is no requirement"},
        {"a==1.zip", "line 1: that is no requirement"},
        {"a==1.ZIP ; os_name=='x'", "line 1: that is no requirement"},
        {"a -e b", "line 1: that is no requirement"},
        {"a==1 -e b", "line 1: that is no requirement"},
        {"a --global-option=x", "line 1: that is no requirement"},
        {"a ; os_name=='x' --config-settings=x", "line 1: that is no requirement"},
        {"a \\\n -r x", "line 1: that is no requirement"},
        {"\\\n-r x", "line 1: options"},
        {"a\n\\\n \\\n-r x\n", "line 2: options"},
        {"a b", "line 1: that is no requirement"},
        {"a \\", "line 1: folders"},
        {"a[x", "line 1: that is no requirement"},
        {"a --hash=sha256:xyz", "line 1: that is no requirement"},
        {"a --hash=sha256:12,-r", "line 1: that is no requirement"},
        {"a --hash", "line 1: that is no requirement"},
        {"a --hash=", "line 1: that is no requirement"},
        {"a --hash=sha256:", "line 1: that is no requirement"},
        {"a --hashx=sha256:12", "line 1: that is no requirement"},
        {"==1", "line 1: that is no requirement"},
        {"a; os_name == `id`", "line 1: that is no requirement"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        const char *clean;
        struct fl_error err = {0};

        if (fl_requirements_clean(arena, rows[i].text, strlen(rows[i].text), &clean, &err) !=
                FL_E_INVALID ||
            !fl_str_has_prefix(err.msg, rows[i].says))
            fail_msg("row %zu, %s: %s", i, rows[i].text, err.msg);
    }
}

static void test_no_text(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *clean;

    (void)state;
    assert_int_equal(fl_requirements_clean(arena, "a\0b", 3, &clean, NULL), FL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_understood),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_no_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
