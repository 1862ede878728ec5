#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/target.h"
#include "lib/str.h"

#include <string.h>

static const char aggregated[] =
    "{\"items\":[{\"metadata\":{},\"versions\":[{\"version\":\"v1\",\"resources\":["
    "{\"resource\":\"configmaps\",\"singularResource\":\"configmap\",\"scope\":\"Namespaced\","
    "\"shortNames\":[\"cm\"],\"verbs\":[\"list\",\"get\"],\"responseKind\":{\"kind\":\"ConfigMap\"}"
    "},"
    "{\"resource\":\"events\",\"singularResource\":\"event\",\"scope\":\"Namespaced\","
    "\"shortNames\":[\"ev\"],\"verbs\":[\"list\"],\"responseKind\":{\"kind\":\"Event\"}},"
    "{\"resource\":\"namespaces\",\"singularResource\":\"\",\"scope\":\"Cluster\","
    "\"verbs\":[\"list\"],\"responseKind\":{\"kind\":\"Namespace\"}}]}]}]}";
static const char aggregated_groups[] =
    "{\"items\":[{\"metadata\":{\"name\":\"flops.dev\"},\"versions\":[{\"version\":\"v1\","
    "\"resources\":[{\"resource\":\"flprojects\",\"singularResource\":\"flproject\","
    "\"scope\":\"Namespaced\",\"shortNames\":[\"flp\",\"cm\"],\"categories\":[\"all\",\"flops\"],"
    "\"verbs\":[\"list\"],\"responseKind\":{\"kind\":\"FLProject\"},\"subresources\":[{}]},"
    "{\"resource\":\"flrounds\",\"singularResource\":\"flround\",\"scope\":\"Namespaced\","
    "\"categories\":[\"flops\"],\"verbs\":[\"create\"],\"responseKind\":{\"kind\":\"FLRound\"}}]},"
    "{\"version\":\"v1alpha1\",\"resources\":[{\"resource\":\"flprojects\","
    "\"singularResource\":\"flproject\",\"scope\":\"Namespaced\",\"categories\":[\"flops\"],"
    "\"verbs\":[\"list\"],\"responseKind\":{\"kind\":\"FLProject\"}}]}]}]}";
static const char plain[] =
    "{\"groupVersion\":\"events.k8s.io/v1\",\"resources\":[{\"name\":\"events\","
    "\"singularName\":\"event\",\"namespaced\":true,\"kind\":\"Event\",\"verbs\":[\"list\"]},"
    "{\"name\":\"events/status\",\"kind\":\"Event\"}]}";

static json_t *read(struct fl_arena *arena, const char *text)
{
    json_t *value = NULL;
    struct fl_error err = {0};

    assert_int_equal(fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err), 0);
    return fl_json_in_arena(arena, value);
}

static struct fl_discovery *discover(struct fl_arena *arena)
{
    struct fl_discovery *discovery = fl_discovery_create(arena);

    fl_discovery_add_aggregated(discovery, read(arena, aggregated));
    fl_discovery_add_aggregated(discovery, read(arena, aggregated_groups));
    fl_discovery_add_plain(discovery, read(arena, plain));
    return discovery;
}

static void test_names(void **state)
{
    static const struct {
        const char *name, *is; /* plural.version.group */
    } cases[] = {
        {"configmaps", "configmaps.v1."},
        {"ConfigMap", "configmaps.v1."},
        {"CM", "configmaps.v1."}, /* the core group comes first */
        {"configmaps.v1", "configmaps.v1."},
        {"flp", "flprojects.v1.flops.dev"},
        {"cm.flops.dev", "flprojects.v1.flops.dev"},
        {"flprojects.v1alpha1.flops.dev", "flprojects.v1alpha1.flops.dev"},
        {"event", "events.v1."},
        {"event.events.k8s.io", "events.v1.events.k8s.io"},
        {"namespace", "namespaces.v1."}, /* without a singular name, the kind's */
        {"flprojects.v2.flops.dev", NULL},
        {"flprojects.v1", NULL},
        {"flprojects.flops", NULL},
        {"events/status", NULL},
        {"", NULL},
        {".flops.dev", NULL},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_discovery *discovery = discover(arena);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        const struct fl_api_resource *found = fl_discovery_find(discovery, cases[i].name);
        const char *is =
            found ? fl_arena_printf(arena, "%s.%s.%s", found->plural, found->version, found->group)
                  : NULL;

        if (!fl_streq(is, cases[i].is))
            fail_msg("\"%s\" is %s", cases[i].name, fl_str_or(is, "nothing"));
    }
}

static void test_kinds_and_categories(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_discovery *discovery = discover(arena);
    const struct fl_api_resource **found;

    (void)state;
    assert_string_equal(fl_discovery_find_kind(discovery, "flops.dev/v1", "FLRound")->type_name,
                        "flround.flops.dev");
    assert_string_equal(fl_discovery_find_kind(discovery, "v1", "ConfigMap")->type_name,
                        "configmap");
    assert_null(fl_discovery_find_kind(discovery, "flops.dev/v1", "flround"));
    assert_null(fl_discovery_find_kind(discovery, "flops.dev", "FLRound"));
    assert_null(fl_discovery_find_kind(discovery, "v1", "FLRound"));
    /* not twice for its versions, and not what cannot be listed */
    assert_int_equal(fl_discovery_category(discovery, "flops", &found), 1);
    assert_string_equal(found[0]->plural, "flprojects");
    assert_int_equal(fl_discovery_category(discovery, "nothing", &found), 0);
}

static const char *targets_text(struct fl_arena *arena, const struct fl_targets *targets)
{
    const char *all = targets->many_types ? "many:" : "";

    for (size_t i = 0; i < targets->count; i++)
        all = fl_arena_printf(arena, "%s %s=%s", all, targets->items[i].resource->singular,
                              fl_str_or(targets->items[i].name, "*"));
    return all;
}

static void test_targets(void **state)
{
    static const struct {
        const char *line, *is;
        int error;
    } cases[] = {
        {"cm", " configmap=*", 0},
        {"cm a b", " configmap=a configmap=b", 0},
        {"cm,flp", "many: configmap=* flproject=*", 0},
        {"cm,flp a", "many: configmap=a flproject=a", 0},
        {"cm/a flp/b cm/c", "many: configmap=a flproject=b configmap=c", 0},
        {"cm/a cm/b", " configmap=a configmap=b", 0},
        {"flops", "many: flproject=*", 0},
        {"cm/a b", NULL, FL_E_BAD_REQUEST},
        {"cm a/b", NULL, FL_E_BAD_REQUEST},
        {"cm/a/b", NULL, FL_E_BAD_REQUEST},
        {"cm/", NULL, FL_E_BAD_REQUEST},
        {"cm ..", NULL, FL_E_BAD_REQUEST},
        {"flops a", NULL, FL_E_BAD_REQUEST},
        {"nope", NULL, FL_E_NOT_FOUND},
        {"nope/a", NULL, FL_E_NOT_FOUND},
        {"cm,", NULL, FL_E_NOT_FOUND},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_discovery *discovery = discover(arena);
        const char *items[8], *rest = cases[i].line;
        struct fl_words words = {.items = items};
        struct fl_targets targets = {0};
        struct fl_error err = {0};

        while (rest)
            items[words.count++] = fl_str_next(arena, &rest, ' ');
        assert_int_equal(fl_targets_parse(discovery, &words, &targets, &err), cases[i].error);
        if (cases[i].is)
            assert_string_equal(targets_text(arena, &targets), cases[i].is);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_kinds_and_categories),
        cmocka_unit_test(test_targets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
