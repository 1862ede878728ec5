#include "reconcilers/imagebuild/buildah/containerfile.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *text;
    size_t stages;
    bool runs;
    const char *says; /* of an error */
} cases[] = {
    {"FROM scratch", 1, false, NULL},
    {"# RUN x\nfrom a:1 AS b\nCOPY --from=b /x /y\n", 1, false, NULL},
    {"FROM a\nFROM --platform=linux/arm64 b\n\trun\tmake \\\n  # remark\n\n  all\n", 2, true, NULL},
    {"FROM a\nLABEL x=\"y \\\nRUN z\"\n", 1, false, NULL},
    {"FROM a\r\nRUN b\r\n", 1, true, NULL},
    {"", 0, false, "there is no line FROM"},
    {"FROMAGE a\n# FROM b\n", 0, false, "there is no line FROM"},
    {"FROM a\nRUN --mount=type=cache,target=/root/.cache,id=pip pip x\n", 1, true, NULL},
    {"FROM a\nRUN --mount=type=secret,id=x cat /run/secrets/x\n", 1, true, NULL},
    {"FROM a\nRUN --mount=type=cache,id=../../../etc,target=/x true\n", 0, false,
     "line 2: --mount"},
    {"FROM a\nRUN --mount=type=cache,id=$X,target=/x true\n", 0, false, "line 2: --mount"},
    {"FROM a\nRUN --mount=type=cache,from=b,source=/,target=/x true\n", 0, false, "line 2"},
    {"FROM a\nRUN --mount=source=x,target=/x true\n", 0, false, "only caches"},
    {"FROM a\nRUN --network=host --mount=TYPE=Bind,target=/x true\n", 0, false, "only caches"},
    {"FROM a\nRUN \\\n--mo\\\nunt=type=bind,target=/x true\n", 0, false, "line 2"},
    {"FROM a\nRUN x\\\n --mount=type=bind,target=/x true\n", 0, false, "line 2"},
    {"FROM a\nRUN x\\\n\n  # y\n\t--mount=type=bind,target=/x true\n", 0, false, "line 2"},
    {"FROM a\nONBUILD RUN --mount=type=bind,target=/x true\n", 0, false, "line 2"},
    {"FROM a\n\n#x\nFROM oci:/var/lib/x\n", 0, false, "line 4: oci:/var/lib/x"},
    {"FROM containers-storage:x\n", 0, false, "line 1"},
    {"FROM a\nCOPY --from=dir:/etc / /x\n", 0, false, "line 2: dir:/etc"},
    {"# escape=`\nFROM a\nRUN x `\n", 0, false, "lines are continued"},
    {"#escape = \\\nFROM a\n", 1, false, NULL},
};

static void says_what_it_holds(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_containerfile found = {0};
        struct fl_error err = {0};
        int r = fl_containerfile_read(cases[i].text, strlen(cases[i].text), &found, &err);

        if (cases[i].says) {
            if (r != FL_E_INVALID || !strstr(err.msg, cases[i].says))
                fail_msg("case %zu: %d %s", i, r, err.msg);
            continue;
        }
        if (r != 0)
            fail_msg("case %zu: %s", i, err.msg);
        assert_int_equal(found.stages, cases[i].stages);
        assert_int_equal(found.runs, cases[i].runs);
    }
}

static void what_is_no_text_is_refused(void **state)
{
    struct fl_containerfile found;

    (void)state;
    assert_int_equal(fl_containerfile_read("FROM a\0b", 8, &found, NULL), FL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_it_holds),
        cmocka_unit_test(what_is_no_text_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
