/* Who may do what: tokens, RBAC, granting, impersonation, reviews, and the record of it. */
#include "controller/apiserver/apiserver_testing.h"

static void allow(struct rig *rig, const char *ns, const char *role_kind, const char *role,
                  const char *user)
{
    const char *target =
        *ns ? format(rig, RBAC "/namespaces/%s/rolebindings", ns) : RBAC "/clusterrolebindings";

    assert_answer(
        do_post(rig, target,
                format(rig,
                       "{\"metadata\":{\"generateName\":\"b-\"},\"roleRef\":{\"apiGroup\":"
                       "\"rbac.authorization.k8s.io\",\"kind\":\"%s\",\"name\":\"%s\"},"
                       "\"subjects\":[{\"apiGroup\":\"rbac.authorization.k8s.io\","
                       "\"kind\":\"User\",\"name\":\"%s\"}]}",
                       role_kind, role, user)),
        201);
}

static void add_role(struct rig *rig, const char *name, const char *rules)
{
    assert_answer(
        do_post(rig, RBAC "/clusterroles",
                format(rig, "{\"metadata\":{\"name\":\"%s\"},\"rules\":[%s]}", name, rules)),
        201);
}

static void add_namespace(struct rig *rig, const char *name)
{
    assert_answer(
        do_post(rig, "/api/v1/namespaces", format(rig, "{\"metadata\":{\"name\":\"%s\"}}", name)),
        201);
}

static void test_no_credentials(void **state)
{
    static const char *const targets[] = {
        "/",     "/api",     "/apis",         "/version",   "/metrics",    "/openapi/v2",
        WIDGETS, "/no/such", "/healthz/ping", "/apis/none", "/api/v1/%zz", WIDGETS "?%zz",
    };
    static const char *const open[] = {"/healthz", "/livez", "/readyz"};
    struct rig *rig = *state;
    struct answer answer;

    for (size_t i = 0; i < FL_COUNT_OF(targets); i++)
        assert_refused(do_as(rig, NOBODY, "GET", targets[i], NULL), 401, "Unauthorized",
                       "Unauthorized");
    for (size_t i = 0; i < FL_COUNT_OF(open); i++)
        assert_answer(do_as(rig, NOBODY, "GET", open[i], NULL), 200);
    assert_refused(do_as(rig, NOBODY, "OPTIONS", WIDGETS, NULL), 401, "Unauthorized", "");
    answer = do_as(rig, NOBODY, "POST", WIDGETS, "{");
    assert_refused(answer, 401, "Unauthorized", "");
    assert_non_null(strstr(answer.headers, "WWW-Authenticate: Bearer"));
}

static void test_unknown_token(void **state)
{
    static const char *const headers[] = {
        "Authorization: Bearer wrong\r\n",           "Authorization: Bearer \r\n",
        "Authorization: Basic YWRtaW46YWRtaW4=\r\n", "Authorization: Bearer admin-token2\r\n",
        "Authorization: Bearer admin-tokeN\r\n",
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(headers); i++)
        assert_refused(
            rig_ask(rig, &(struct ask){.method = "GET", .target = WIDGETS, .headers = headers[i]}),
            401, "Unauthorized", "Unauthorized");
    assert_answer(rig_ask(rig, &(struct ask){.method = "GET",
                                             .target = WIDGETS,
                                             .headers = "authorization: bearer  admin-token\r\n"}),
                  200);
}

/* A file that changes is noticed within two seconds. */
static void test_token_file_changes(void **state)
{
    struct rig *rig = *state;
    const struct ask ask = {
        .method = "GET", .target = "/version", .headers = "Authorization: Bearer carol-token\r\n"};
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof(hash) + 1];

    assert_answer(do_get(rig, WIDGETS), 200);
    assert_answer(rig_ask(rig, &ask), 401);
    (void)crypto_hash_sha256(hash, (const unsigned char *)"carol-token", strlen("carol-token"));
    fl_hex_encode(hash, sizeof(hash), hex);
    rig_write_tokens(rig, format(rig, "%s,carol,4,\nnot a line\n,,,\n", hex));
    atomic_fetch_add(&rig->shift_ms, 2000);
    assert_answer(rig_ask(rig, &ask), 200);
    rig_write_tokens(rig, "");
    atomic_fetch_add(&rig->shift_ms, 2000);
    assert_answer(rig_ask(rig, &ask), 401);
    assert_answer(do_get(rig, WIDGETS), 200);
}

static void test_discovery_is_for_all_who_are_known(void **state)
{
    static const char *const targets[] = {"/api",        "/apis",        "/api/v1",
                                          "/version",    "/openapi/v3",  "/apis/test.dev/v1",
                                          "/openapi/v2", "/healthz/ping"};
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(targets); i++)
        assert_answer(do_as(rig, BOB, "GET", targets[i], NULL), 200);
    assert_refused(do_as(rig, BOB, "GET", "/metrics", NULL), 403, "Forbidden",
                   "forbidden: User \"bob\" cannot get path \"/metrics\"");
    assert_answer(do_get(rig, "/metrics"), 200);
}

static void test_rights_in_one_namespace(void **state)
{
    struct rig *rig = *state;

    add_role(rig, "widgets",
             "{\"verbs\":[\"*\"],\"apiGroups\":[\"test.dev\"],\"resources\":[\"widgets\"]}");
    add_namespace(rig, "other");
    assert_refused(do_as(rig, ALICE, "GET", WIDGETS, NULL), 403, "Forbidden",
                   "widgets.test.dev is forbidden: User \"alice\" cannot list resource \"widgets\" "
                   "in API group \"test.dev\" in the namespace \"default\"");
    allow(rig, "default", "ClusterRole", "widgets", "alice");
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS, NULL), 200);
    assert_answer(do_as(rig, ALICE, "POST", WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS "/a", NULL), 200);
    assert_refused(do_as(rig, ALICE, "GET", "/apis/test.dev/v1/namespaces/other/widgets", NULL),
                   403, "Forbidden", "in the namespace \"other\"");
    assert_refused(do_as(rig, ALICE, "GET", ALL_WIDGETS, NULL), 403, "Forbidden",
                   "at the cluster scope");
    assert_refused(do_as(rig, ALICE, "PATCH", WIDGETS "/a/status", "{}"), 403, "Forbidden",
                   "cannot patch resource \"widgets/status\"");
    assert_refused(do_as(rig, BOB, "DELETE", WIDGETS "/a", NULL), 403, "Forbidden",
                   "User \"bob\" cannot delete resource");
    assert_answer(do_as(rig, ALICE, "DELETE", WIDGETS "/a", NULL), 200);
}

/* What is not in a namespace is not reached through one: access would be checked for that one. */
static void test_cluster_scoped_through_a_namespace(void **state)
{
    static const char *const methods[] = {"GET", "PUT", "PATCH", "DELETE"};
    struct rig *rig = *state;

    add_role(rig, "all", "{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}");
    add_namespace(rig, "a");
    add_namespace(rig, "b");
    allow(rig, "a", "ClusterRole", "all", "alice");
    assert_answer(do_as(rig, ALICE, "GET", "/api/v1/namespaces/a", NULL), 200);
    assert_answer(do_as(rig, ALICE, "GET", "/api/v1/namespaces/b", NULL), 403);
    for (size_t i = 0; i < FL_COUNT_OF(methods); i++)
        assert_answer(do_as(rig, ALICE, methods[i], "/api/v1/namespaces/a/namespaces/b", "{}"),
                      404);
    assert_answer(do_as(rig, ALICE, "GET", "/api/v1/namespaces/a/namespaces", NULL), 404);
    assert_answer(do_as(rig, ALICE, "POST", "/api/v1/namespaces/a/namespaces", "{}"), 404);
    assert_answer(do_as(rig, ALICE, "GET",
                        "/apis/rbac.authorization.k8s.io/v1/namespaces/a/clusterroles", NULL),
                  404);
    assert_answer(do_get(rig, "/api/v1/namespaces/b"), 200);
}

static void test_groups_and_names(void **state)
{
    struct rig *rig = *state;

    add_role(rig, "one",
             "{\"verbs\":[\"get\",\"update\"],\"apiGroups\":[\"test.dev\"],\"resources\":"
             "[\"widgets\",\"widgets/status\"],\"resourceNames\":[\"a\"]}");
    assert_answer(
        do_post(rig, RBAC "/clusterrolebindings",
                "{\"metadata\":{\"name\":\"makers\"},\"roleRef\":{\"apiGroup\":"
                "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"one\"},"
                "\"subjects\":[{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":"
                "\"Group\",\"name\":\"testers\"}]}"),
        201);
    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_post(rig, WIDGETS, widget(rig, "b", "")), 201);
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS "/a", NULL), 200);
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS "/a/status", NULL), 200);
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS "/a/scale", NULL), 403);
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS "/b", NULL), 403);
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS, NULL), 403);
    assert_answer(do_as(rig, BOB, "GET", WIDGETS "/a", NULL), 403);
    assert_answer(do_delete(rig, RBAC "/clusterrolebindings/makers"), 200);
    assert_answer(do_as(rig, ALICE, "GET", WIDGETS "/a", NULL), 403);
}

/* A list, watch or deletion of many that asks for one name is access to that one. */
static void test_a_selected_name_is_a_name(void **state)
{
    static const struct {
        const char *method, *query;
        int status;
    } cases[] = {
        {"GET", "?fieldSelector=metadata.name%3Da", 200},
        {"GET", "?fieldSelector=metadata.name%3Da,metadata.name%3Db", 200}, /* which is nothing */
        {"GET", "?fieldSelector=metadata.name%3Db", 403},
        {"GET", "?fieldSelector=metadata.name%3D*", 403},
        {"GET", "?fieldSelector=metadata.name!%3Da", 403},
        {"GET", "?fieldSelector=metadata.namespace%3Da", 403},
        {"GET", "?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Da", 200},
        {"GET", "?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Db", 403},
        {"DELETE", "?fieldSelector=metadata.name%3Db", 403},
        {"DELETE", "?fieldSelector=metadata.name%3Da", 200},
        {"POST", "?fieldSelector=metadata.name%3Da", 403},
    };
    struct rig *rig = *state;

    add_role(rig, "one",
             "{\"verbs\":[\"*\"],\"apiGroups\":[\"test.dev\"],\"resources\":[\"widgets\"],"
             "\"resourceNames\":[\"a\"]},"
             "{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"],"
             "\"resourceNames\":[\"*\"]}");
    allow(rig, "default", "ClusterRole", "one", "alice");
    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_post(rig, WIDGETS, widget(rig, "b", "")), 201);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct answer answer =
            do_as(rig, ALICE, cases[i].method, format(rig, WIDGETS "%s", cases[i].query),
                  *cases[i].method == 'P' ? widget(rig, "c", "") : NULL);

        if (answer.status != cases[i].status)
            fail_msg("%s %s: %s", cases[i].method, cases[i].query, answer.text);
    }
    assert_true(is_gone(rig, WIDGETS "/a"));
    assert_answer(do_get(rig, WIDGETS "/b"), 200);
    /* In names '*' is no pattern. */
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "a", "b")), 201);
    assert_answer(do_as(rig, ALICE, "GET", CONFIGMAPS "/a", NULL), 403);
}

static void test_default_roles(void **state)
{
    struct rig *rig = *state;
    const char *secret = "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"a\":\"b\"}}";

    assert_answer(do_post(rig, SECRETS, secret), 201);
    allow(rig, "default", "ClusterRole", "view", "bob");
    allow(rig, "default", "ClusterRole", "edit", "alice");
    assert_answer(do_as(rig, BOB, "GET", CONFIGMAPS, NULL), 200);
    assert_answer(do_as(rig, BOB, "POST", CONFIGMAPS, configmap(rig, "a", "b")), 403);
    assert_answer(do_as(rig, BOB, "GET", SECRETS, NULL), 403);
    assert_answer(do_as(rig, BOB, "GET", SECRETS "/s", NULL), 403);
    assert_answer(do_as(rig, BOB, "GET", SECRETS "?watch=true", NULL), 403);
    assert_answer(do_as(rig, BOB, "GET", "/api/v1/watch/namespaces/default/secrets", NULL), 403);
    assert_answer(do_as(rig, BOB, "GET", "/api/v1/secrets", NULL), 403);
    assert_answer(do_as(rig, ALICE, "GET", SECRETS "/s", NULL), 200);
    assert_answer(do_as(rig, ALICE, "POST", CONFIGMAPS, configmap(rig, "a", "b")), 201);
    assert_answer(do_as(rig, ALICE, "GET", RBAC "/namespaces/default/roles", NULL), 403);
}

/* The path is judged as it is served, however it is written. */
static void test_odd_paths(void **state)
{
    static const char *const targets[] = {
        "//api/v1/namespaces/default/secrets",  "/api/v1//namespaces/default/secrets",
        "/api/v1/namespaces/default/secrets/",  "/api/v1/namespaces/default/%73ecrets",
        "/%61pi/v1/namespaces/default/secrets", "/api/v1/namespaces/default/secrets/s/",
        "/api/v1/namespaces/default/./secrets", "/openapi/../api/v1/namespaces/default/secrets",
        "/healthz/../api/v1/secrets",           "/apis/../api/v1/secrets",
        "/api/v1/namespaces/default%2Fsecrets", "/apis/v1/namespaces/default/secrets",
    };
    struct rig *rig = *state;

    assert_answer(do_post(rig, SECRETS,
                          "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"a\":"
                          "\"hidden words\"}}"),
                  201);
    for (size_t i = 0; i < FL_COUNT_OF(targets); i++) {
        struct answer answer = do_as(rig, BOB, "GET", targets[i], NULL);

        if (answer.status != 403 && answer.status != 404)
            fail_msg("%s: %d", targets[i], answer.status);
        assert_null(strstr(answer.text, "aGlkZGVu"));
    }
}

/* Applying what does not exist is creating it. */
static void test_patch_alone_does_not_create(void **state)
{
    struct rig *rig = *state;
    const struct ask apply = {.who = ALICE,
                              .method = "PATCH",
                              .target = WIDGETS "/a?fieldManager=x",
                              .type = "application/apply-patch+yaml",
                              .body = widget(rig, "a", "")};

    add_role(rig, "patch",
             "{\"verbs\":[\"patch\"],\"apiGroups\":[\"test.dev\"],\"resources\":[\"widgets\"]}");
    allow(rig, "default", "ClusterRole", "patch", "alice");
    assert_refused(rig_ask(rig, &apply), 403, "Forbidden", "cannot create resource \"widgets\"");
    assert_true(is_gone(rig, WIDGETS "/a"));
    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(rig_ask(rig, &apply), 200);
}

#define BIG_RULE          "{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"secrets\"]}"
#define HELD_RULE         "{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"]}"
#define ROLE(name, rules) "{\"metadata\":{\"name\":\"" name "\"},\"rules\":[" rules "]}"
#define BINDING(name, kind, role)                                                                  \
    "{\"metadata\":{\"name\":\"" name "\"},\"roleRef\":{\"apiGroup\":"                             \
    "\"rbac.authorization.k8s.io\",\"kind\":\"" kind "\",\"name\":\"" role "\"},"                  \
    "\"subjects\":[{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"User\",\"name\":"        \
    "\"alice\"}]}"
#define SUBJECT(user)                                                                              \
    "{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"User\",\"name\":\"" user "\"}"
#define ROLES         RBAC "/namespaces/default/roles"
#define ROLE_BINDINGS RBAC "/namespaces/default/rolebindings"

static void test_nobody_grants_more_than_they_have(void **state)
{
    static const struct {
        const char *target, *body;
        bool allowed;
    } cases[] = {
        {ROLES, ROLE("r1", BIG_RULE), false},
        {ROLES, ROLE("r2", HELD_RULE), true},
        {ROLES, ROLE("r3", HELD_RULE "," BIG_RULE), false},
        {ROLES,
         ROLE("r4", "{\"verbs\":[\"*\"],\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"]}"),
         false},
        {ROLES,
         ROLE("r5", "{\"verbs\":[\"get\"],\"apiGroups\":[\"*\"],\"resources\":"
                    "[\"configmaps\"]}"),
         false},
        {ROLES, ROLE("r6", "{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"*\"]}"),
         false},
        {ROLES,
         ROLE("r7", "{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":"
                    "[\"configmaps/status\"]}"),
         false},
        {ROLES,
         ROLE("r8", "{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":"
                    "[\"configmaps\"],\"resourceNames\":[\"one\"]}"),
         true},
        {RBAC "/clusterroles", ROLE("c1", BIG_RULE), false},
        {RBAC "/clusterroles", ROLE("c2", HELD_RULE), true},
        {RBAC "/clusterroles",
         ROLE("c3", "{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/metrics\"]}"), false},
        {RBAC "/clusterroles", ROLE("c4", "{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/api/*\"]}"),
         true},
        {RBAC "/clusterroles", ROLE("c5", "{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/*\"]}"),
         false},
        {ROLE_BINDINGS, BINDING("b1", "ClusterRole", "cluster-admin"), false},
        {ROLE_BINDINGS, BINDING("b2", "ClusterRole", "secrets"), false},
        {ROLE_BINDINGS, BINDING("b4", "ClusterRole", "granter"), true},
        {RBAC "/clusterrolebindings", BINDING("cb1", "ClusterRole", "cluster-admin"), false},
        {RBAC "/clusterrolebindings", BINDING("cb2", "ClusterRole", "granter"), true},
    };
    struct rig *rig = *state;

    add_role(rig, "secrets", BIG_RULE);
    add_role(rig, "granter",
             HELD_RULE ",{\"verbs\":[\"*\"],\"apiGroups\":[\"rbac.authorization.k8s.io\"],"
                       "\"resources\":[\"roles/x\"]}");
    add_role(rig, "rbac",
             "{\"verbs\":[\"get\",\"create\",\"update\",\"patch\"],\"apiGroups\":"
             "[\"rbac.authorization.k8s.io\"],\"resources\":[\"roles\",\"rolebindings\","
             "\"clusterroles\",\"clusterrolebindings\"]}");
    allow(rig, "", "ClusterRole", "granter", "alice");
    allow(rig, "", "ClusterRole", "rbac", "alice");
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct answer answer = do_as(rig, ALICE, "POST", cases[i].target, cases[i].body);

        if (answer.status != (cases[i].allowed ? 201 : 403))
            fail_msg("%s: %s", cases[i].body, answer.text);
        if (!cases[i].allowed)
            assert_refused(answer, 403, "Forbidden",
                           "is attempting to grant RBAC permissions not currently held");
    }
    assert_refused(do_as(rig, ALICE, "POST", ROLE_BINDINGS, BINDING("b3", "Role", "nothing")), 404,
                   "NotFound", "roles.rbac.authorization.k8s.io \"nothing\" not found");
    /* What grants the same as before may be labelled and written again, and only that. */
    assert_answer(do_post(rig, ROLES, ROLE("old", BIG_RULE)), 201);
    assert_answer(do_post(rig, ROLE_BINDINGS,
                          "{\"metadata\":{\"name\":\"old\"},\"roleRef\":{\"apiGroup\":"
                          "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":"
                          "\"secrets\"},\"subjects\":[" SUBJECT("bob") "]}"),
                  201);
    assert_answer(
        do_as(rig, ALICE, "PATCH", ROLES "/old", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}"), 200);
    assert_answer(do_as(rig, ALICE, "PATCH", ROLE_BINDINGS "/old",
                        "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}"),
                  200);
    assert_answer(
        do_as(rig, ALICE, "PATCH", ROLES "/old", "{\"rules\":[" BIG_RULE "," BIG_RULE "]}"), 403);
    assert_answer(do_as(rig, ALICE, "PATCH", ROLE_BINDINGS "/old",
                        "{\"subjects\":[" SUBJECT("bob") "," SUBJECT("alice") "]}"),
                  403);
    /* Nor by changing what is there, nor in a dry run of it. */
    assert_answer(do_as(rig, ALICE, "PATCH", ROLES "/r2", "{\"rules\":[" BIG_RULE "]}"), 403);
    assert_answer(do_as(rig, ALICE, "PUT", ROLES "/r2", ROLE("r2", BIG_RULE)), 403);
    assert_answer(do_as(rig, ALICE, "PUT", ROLES "/r2?dryRun=All", ROLE("r2", BIG_RULE)), 403);
    assert_answer(
        rig_ask(rig, &(struct ask){.who = ALICE,
                                   .method = "PATCH",
                                   .target = ROLES "/r9?fieldManager=x",
                                   .type = "application/apply-patch+yaml",
                                   .body = "{\"apiVersion\":\"rbac.authorization.k8s.io/"
                                           "v1\",\"kind\":\"Role\",\"metadata\":{\"name\":"
                                           "\"r9\"},\"rules\":[" BIG_RULE "]}"}),
        403);
    /* Those who may escalate or bind may. */
    add_role(rig, "escalate",
             "{\"verbs\":[\"escalate\",\"bind\"],\"apiGroups\":[\"rbac.authorization.k8s.io\"],"
             "\"resources\":[\"roles\",\"clusterroles\"]}");
    allow(rig, "", "ClusterRole", "escalate", "alice");
    assert_answer(do_as(rig, ALICE, "POST", ROLES, ROLE("r1", BIG_RULE)), 201);
    assert_answer(do_as(rig, ALICE, "POST", ROLE_BINDINGS, BINDING("b2", "ClusterRole", "secrets")),
                  201);
}

/* Rights held in one namespace grant nothing in another, nor everywhere. */
static void test_rights_stay_in_their_namespace(void **state)
{
    struct rig *rig = *state;

    add_namespace(rig, "other");
    add_role(rig, "everything", "{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}");
    add_role(rig, "rbac",
             "{\"verbs\":[\"create\"],\"apiGroups\":[\"rbac.authorization.k8s.io\"],"
             "\"resources\":[\"rolebindings\",\"clusterrolebindings\",\"clusterroles\"]}");
    allow(rig, "", "ClusterRole", "rbac", "alice");
    allow(rig, "default", "ClusterRole", "everything", "alice");
    assert_answer(do_as(rig, ALICE, "POST", ROLE_BINDINGS, BINDING("a", "ClusterRole", "secrets")),
                  201);
    assert_answer(do_as(rig, ALICE, "POST", RBAC "/namespaces/other/rolebindings",
                        BINDING("a", "ClusterRole", "everything")),
                  403);
    assert_answer(do_as(rig, ALICE, "POST", RBAC "/clusterrolebindings",
                        BINDING("a", "ClusterRole", "everything")),
                  403);
    assert_answer(do_as(rig, ALICE, "POST", RBAC "/clusterroles", ROLE("x", BIG_RULE)), 403);
}

static void test_a_bindings_role_stays(void **state)
{
    struct rig *rig = *state;

    assert_answer(do_post(rig, ROLE_BINDINGS, BINDING("a", "ClusterRole", "view")), 201);
    assert_refused(do_patch(rig, ROLE_BINDINGS "/a", "{\"roleRef\":{\"name\":\"admin\"}}"), 422,
                   "Invalid", "cannot change roleRef");
}

static struct answer ask_impersonating(struct rig *rig, enum who who, const char *headers,
                                       const char *target)
{
    return rig_ask(
        rig, &(struct ask){.who = who, .method = "GET", .target = target, .headers = headers});
}

static void test_impersonation(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_refused(ask_impersonating(rig, ALICE, "Impersonate-User: bob\r\n", "/version"), 403,
                   "Forbidden", "User \"alice\" cannot impersonate resource \"users\"");
    answer = ask_impersonating(rig, ADMIN, "Impersonate-User: bob\r\n", WIDGETS);
    assert_refused(answer, 403, "Forbidden", "User \"bob\" cannot list");
    assert_refused(ask_impersonating(rig, ADMIN, "Impersonate-Group: system:masters\r\n", WIDGETS),
                   400, "BadRequest", "needs a user");
    add_role(rig, "impersonate",
             "{\"verbs\":[\"impersonate\"],\"apiGroups\":[\"\"],\"resources\":[\"users\"],"
             "\"resourceNames\":[\"bob\"]}");
    allow(rig, "", "ClusterRole", "impersonate", "alice");
    assert_answer(ask_impersonating(rig, ALICE, "Impersonate-User: bob\r\n", "/version"), 200);
    assert_answer(ask_impersonating(rig, ALICE, "Impersonate-User: admin\r\n", "/version"), 403);
    assert_refused(ask_impersonating(rig, ALICE,
                                     "Impersonate-User: bob\r\nImpersonate-Group: "
                                     "system:masters\r\n",
                                     WIDGETS),
                   403, "Forbidden", "cannot impersonate resource \"groups\"");
    assert_answer(ask_impersonating(rig, ADMIN,
                                    "Impersonate-User: x\r\nImpersonate-Group: a\r\n"
                                    "Impersonate-Group: system:masters\r\n",
                                    WIDGETS),
                  200);
    assert_refused(ask_impersonating(rig, ADMIN,
                                     "Impersonate-User: bob\r\nimpersonate-extra-scopes: a\r\n",
                                     "/version"),
                   400, "BadRequest", "impersonate-extra-scopes: extras cannot be impersonated");
    assert_refused(ask_impersonating(rig, ADMIN, "Impersonate-Extra-a: b\r\n", "/version"), 400,
                   "BadRequest", "needs a user");
    assert_refused(ask_impersonating(rig, ALICE, "Impersonate-User: bob\r\nImpersonate-Uid: 7\r\n",
                                     "/version"),
                   403, "Forbidden", "uids.authentication.k8s.io \"7\" is forbidden");
}

static struct answer review(struct rig *rig, enum who who, const char *group, const char *plural,
                            const char *spec)
{
    return do_as(rig, who, "POST", format(rig, "/apis/%s/v1/%s", group, plural),
                 format(rig, "{\"spec\":%s}", spec));
}

static void test_reviews(void **state)
{
    static const char list[] = "{\"resourceAttributes\":{\"verb\":\"list\",\"group\":\"test.dev\","
                               "\"resource\":\"widgets\",\"namespace\":\"default\"}}";
    struct rig *rig = *state;
    struct answer answer;

    answer = review(rig, ALICE, "authorization.k8s.io", "selfsubjectaccessreviews", list);
    assert_answer(answer, 201);
    assert_string_equal(text_in(answer, "kind"), "SelfSubjectAccessReview");
    assert_false(fl_json_bool(answer.body, "status.allowed", true));
    answer = review(rig, ADMIN, "authorization.k8s.io", "selfsubjectaccessreviews", list);
    assert_true(fl_json_bool(answer.body, "status.allowed", false));
    answer = review(rig, BOB, "authorization.k8s.io", "selfsubjectaccessreviews",
                    "{\"nonResourceAttributes\":{\"verb\":\"get\",\"path\":\"/version\"}}");
    assert_true(fl_json_bool(answer.body, "status.allowed", false));
    assert_refused(review(rig, BOB, "authorization.k8s.io", "selfsubjectaccessreviews", "{}"), 422,
                   "Invalid", "exactly one of");
    assert_answer(review(rig, BOB, "authorization.k8s.io", "subjectaccessreviews", list), 403);
    answer = review(rig, ADMIN, "authorization.k8s.io", "subjectaccessreviews",
                    "{\"user\":\"x\",\"groups\":[\"system:masters\"],\"resourceAttributes\":{"
                    "\"verb\":\"list\",\"resource\":\"secrets\"}}");
    assert_true(fl_json_bool(answer.body, "status.allowed", false));
    answer = review(rig, BOB, "authorization.k8s.io", "selfsubjectrulesreviews",
                    "{\"namespace\":\"default\"}");
    assert_answer(answer, 201);
    assert_true(json_array_size(fl_json_path(answer.body, "status.resourceRules")) >= 2);
    answer = review(rig, ALICE, "authentication.k8s.io", "selfsubjectreviews", "{}");
    assert_answer(answer, 201);
    assert_string_equal(text_in(answer, "status.userInfo.username"), "alice");
    assert_int_equal(json_array_size(fl_json_path(answer.body, "status.userInfo.groups")), 3);
    answer =
        review(rig, ADMIN, "authentication.k8s.io", "tokenreviews", "{\"token\":\"alice-token\"}");
    assert_true(fl_json_bool(answer.body, "status.authenticated", false));
    assert_string_equal(text_in(answer, "status.user.username"), "alice");
    answer = review(rig, ADMIN, "authentication.k8s.io", "tokenreviews", "{\"token\":\"wrong\"}");
    assert_false(fl_json_bool(answer.body, "status.authenticated", false));
    assert_answer(review(rig, BOB, "authentication.k8s.io", "tokenreviews", "{}"), 403);
    assert_answer(do_as(rig, ADMIN, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", "[]"),
                  400);
    assert_answer(do_get(rig, "/apis/authentication.k8s.io/v1/tokenreviews"), 405);
}

/* The audit log */

static json_t *audit_lines(struct rig *rig)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    json_t *lines = fl_json_in_arena(rig->arena, json_array());
    const char *rest;
    char *line;

    assert_int_equal(fl_file_read(rig->audit, 1 << 20, &text, NULL), 0);
    assert_null(strstr(text->data, "-token"));
    assert_null(strstr(text->data, "hidden"));
    assert_null(strstr(text->data, "aGlkZGVu"));
    rest = text->data;
    while ((line = fl_str_next(rig->arena, &rest, '\n'))) {
        json_t *value;

        if (!*line)
            continue;
        assert_int_equal(fl_json_parse(line, strlen(line), NULL, NULL, NULL, &value, NULL), 0);
        (void)json_array_append_new(lines, value);
    }
    return lines;
}

static void test_audit(void **state)
{
    static const struct {
        enum who who;
        const char *method, *target, *body;
        const char *verb, *name;
        int code;
    } cases[] = {
        {ADMIN, "POST", SECRETS,
         "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"a\":\"hidden\"}}", "create", "s", 201},
        {ADMIN, "PATCH", SECRETS "/s", "{\"stringData\":{\"a\":\"hidden too\"}}", "patch", "s",
         200},
        {ADMIN, "POST", SECRETS, "{\"metadata\":{\"name\":\"s\"}}", "create", "s", 409},
        {BOB, "POST", SECRETS, "{}", "create", NULL, 403},
        {BOB, "PUT", SECRETS "/s", "{}", "update", "s", 403},
        {BOB, "PATCH", SECRETS "/s", "{}", "patch", "s", 403},
        {BOB, "DELETE", SECRETS "/s", NULL, "delete", "s", 403},
        {BOB, "DELETE", SECRETS, NULL, "deletecollection", NULL, 403},
        {NOBODY, "DELETE", SECRETS "/s", NULL, "delete", "s", 401},
        {ADMIN, "DELETE", SECRETS "/s?dryRun=All", NULL, "delete", "s", 200},
        {ADMIN, "DELETE", SECRETS "/s", NULL, "delete", "s", 200},
        {ADMIN, "DELETE", SECRETS "/s", NULL, "delete", "s", 404},
    };
    static const char *const users[] = {NULL, "admin", "alice", "bob"};
    struct rig *rig = *state;
    const json_t *lines;

    assert_answer(do_get(rig, SECRETS), 200);
    assert_answer(do_as(rig, BOB, "GET", SECRETS, NULL), 403);
    assert_answer(review(rig, BOB, "authorization.k8s.io", "selfsubjectrulesreviews", "{}"), 201);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_answer(do_as(rig, cases[i].who, cases[i].method, cases[i].target, cases[i].body),
                      cases[i].code);
    lines = audit_lines(rig);
    assert_int_equal(json_array_size(lines), FL_COUNT_OF(cases));
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        const json_t *line = json_array_get(lines, i);

        assert_string_equal(fl_json_str(line, "verb"), cases[i].verb);
        assert_int_equal(fl_json_int(line, "code", 0), cases[i].code);
        assert_true(fl_streq(fl_json_str(line, "user"), users[cases[i].who]));
        assert_true(fl_streq(fl_json_str(line, "name"), cases[i].name));
        assert_string_equal(fl_json_str(line, "resource"), "secrets");
        assert_string_equal(fl_json_str(line, "namespace"), "default");
        assert_string_equal(fl_json_str(line, "source"), "127.0.0.1");
        assert_int_equal(strlen(fl_json_str(line, "auditID")), 36);
        assert_int_equal(fl_json_bool(line, "dryRun", false), i == 9);
    }
}

static void test_audit_of_impersonation(void **state)
{
    struct rig *rig = *state;
    const json_t *line;

    assert_answer(rig_ask(rig, &(struct ask){.who = ADMIN,
                                             .method = "DELETE",
                                             .target = WIDGETS "/a",
                                             .headers = "Impersonate-User: bob\r\n"}),
                  403);
    line = json_array_get(audit_lines(rig), 0);
    assert_string_equal(fl_json_str(line, "user"), "bob");
    assert_string_equal(fl_json_str(line, "impersonator"), "admin");
    /* Who tries and may not is known all the same. */
    assert_answer(rig_ask(rig, &(struct ask){.who = ALICE,
                                             .method = "DELETE",
                                             .target = WIDGETS "/a",
                                             .headers = "Impersonate-User: bob\r\n"}),
                  403);
    line = json_array_get(audit_lines(rig), 1);
    assert_string_equal(fl_json_str(line, "user"), "alice");
    assert_null(fl_json_str(line, "impersonator"));
}

/* Nobody writes past the log by a name that is too long for a line. */
static void test_audit_of_long_names(void **state)
{
    struct rig *rig = *state;
    char *agent = fl_alloc(rig->arena, 17001);
    const json_t *lines;

    memset(agent, 'x', 17000);
    assert_answer(rig_ask(rig, &(struct ask){.who = ADMIN,
                                             .method = "POST",
                                             .target = WIDGETS,
                                             .body = widget(rig, "a", ""),
                                             .headers = fl_arena_printf(
                                                 rig->arena, "User-Agent: %s\r\n", agent)}),
                  201);
    lines = audit_lines(rig);
    assert_int_equal(json_array_size(lines), 1);
    assert_int_equal(strlen(fl_json_str(json_array_get(lines, 0), "userAgent")), 1024);
}

static void ask_and_leave(struct rig *rig, const char *body)
{
    struct linger at_once = {.l_onoff = 1}; /* a reset, not an end */
    int fd = rig_connect(rig);

    rig_send_ask(fd,
                 &(struct ask){.who = ADMIN, .method = "POST", .target = WIDGETS, .body = body});
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    (void)close(fd);
}

/* A client that leaves before its write is durable is recorded all the same. */
static void test_audit_without_client(void **state)
{
    struct rig *rig = *state;
    size_t lines = 0;

    for (int i = 0; i < 20; i++)
        ask_and_leave(rig, widget(rig, format(rig, "w%d", i), ""));
    for (int i = 0; i < 200; i++) {
        struct answer answer = do_get(rig, WIDGETS);
        const json_t *items = json_object_get(answer.body, "items");

        lines = json_array_size(audit_lines(rig));
        if (json_array_size(items) == 20 && lines == 20)
            return;
        rig_pause(10);
    }
    fail_msg("%zu lines", lines);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_credentials),
        TEST(test_unknown_token),
        TEST(test_token_file_changes),
        TEST(test_discovery_is_for_all_who_are_known),
        TEST(test_rights_in_one_namespace),
        TEST(test_cluster_scoped_through_a_namespace),
        TEST(test_groups_and_names),
        TEST(test_a_selected_name_is_a_name),
        TEST(test_default_roles),
        TEST(test_odd_paths),
        TEST(test_patch_alone_does_not_create),
        TEST(test_nobody_grants_more_than_they_have),
        TEST(test_rights_stay_in_their_namespace),
        TEST(test_a_bindings_role_stays),
        TEST(test_impersonation),
        TEST(test_reviews),
        TEST(test_audit),
        TEST(test_audit_of_impersonation),
        TEST(test_audit_of_long_names),
        TEST(test_audit_without_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
