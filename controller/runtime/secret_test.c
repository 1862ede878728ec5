/* Secrets that reconcilers make, on a real API server over a memory store. */
#include "controller/runtime/runtime_testing.h"

#include "lib/str.h"

#define SECRET_NAME_MAX 128

static char name[SECRET_NAME_MAX], first[2][80];
static int code;
static const char *fixed;

static int ensure(struct rig *rig, struct fl_reconcile *rc, struct ship *ship, struct fl_error *err)
{
    struct fl_secret_entry entries[] = {{"token", NULL}, {"fixed", fixed}};
    const char *made = NULL;

    (void)rig;
    (void)ship;
    code = fl_ensure_secret(rc, "access", entries, 2, &made, err);
    if (code < 0)
        return code;
    (void)snprintf(name, sizeof(name), "%s", made);
    (void)snprintf(first[0], sizeof(first[0]), "%s", entries[0].value);
    (void)snprintf(first[1], sizeof(first[1]), "%s", entries[1].value);
    return FL_STEP_DONE;
}

static const char *path(struct rig *rig)
{
    return fl_arena_printf(rig->arena, "/api/v1/namespaces/default/secrets/%s", name);
}

static void again(struct rig *rig)
{
    fl_manager_enqueue(rig->manager, "ship", "default", "boat");
    (void)rig_settle(rig);
}

static void test_made_once(void **state)
{
    struct rig *rig = *state;
    char token[80];
    json_t *secret;

    rig->step = ensure;
    fixed = "one";
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    assert_int_equal(code, 0);
    assert_int_equal(strlen(first[0]), 64);
    (void)strcpy(token, first[0]);
    secret = rig_get(rig, path(rig));
    assert_string_equal(fl_json_str(secret, "data.fixed"), "b25l");
    assert_non_null(fl_json_path(secret, "metadata.ownerReferences"));
    again(rig);
    assert_string_equal(first[0], token);
    assert_string_equal(fl_json_str(rig_get(rig, path(rig)), "metadata.resourceVersion"),
                        fl_json_str(secret, "metadata.resourceVersion"));
    /* A value that is to be another one; the one by chance stays. */
    fixed = "two";
    again(rig);
    assert_string_equal(first[0], token);
    assert_string_equal(fl_json_str(rig_get(rig, path(rig)), "data.fixed"), "dHdv");
    /* What a user took out comes back. */
    (void)rig_patch(rig, path(rig), "{\"data\":{\"token\":null}}");
    again(rig);
    assert_int_equal(strlen(first[0]), 64);
    assert_string_not_equal(first[0], token);
}

static void test_anothers(void **state)
{
    struct rig *rig = *state;

    rig->step = ensure;
    fixed = "one";
    (void)rig_ship(rig, "boat", "{}");
    (void)rig_settle(rig);
    (void)rig_patch(rig, path(rig), "{\"metadata\":{\"ownerReferences\":null}}");
    again(rig);
    assert_int_equal(code, FL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_made_once, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_anothers, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
