/* Reading: lists in pages and by selector, revisions, and the forms that answers take. */
#include "controller/apiserver/apiserver_testing.h"

static void add(struct rig *rig, const char *name, const char *color, const char *labels)
{
    assert_answer(do_post(rig, WIDGETS,
                          format(rig,
                                 "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":"
                                 "{\"name\":\"%s\",\"labels\":{%s}},\"spec\":{\"color\":\"%s\"}}",
                                 name, labels, color)),
                  201);
}

/* A list in pages shows one moment, whatever happens between its pages. */
static void test_pages_show_one_moment(void **state)
{
    struct rig *rig = *state;
    struct answer page;
    const char *token;
    uint64_t revision;

    for (int i = 0; i < 9; i++)
        add(rig, format(rig, "w%d", i), "red", "");
    page = do_get(rig, WIDGETS "?limit=4");
    assert_int_equal(items_in(page), 4);
    assert_string_equal(text_in(page, "kind"), "WidgetList");
    assert_int_equal(fl_json_int(page.body, "metadata.remainingItemCount", 0), 5);
    token = text_in(page, "metadata.continue");
    revision = revision_in(page);
    assert_answer(do_delete(rig, WIDGETS "/w5"), 200);
    assert_answer(do_patch(rig, WIDGETS "/w6", "{\"spec\":{\"size\":1}}"), 200);
    add(rig, "w41", "red", "");
    page = do_get(rig, format(rig, WIDGETS "?limit=4&continue=%s", token));
    assert_int_equal(items_in(page), 4);
    assert_int_equal(revision_in(page), revision);
    assert_string_equal(item_name(page, 0), "w4");
    assert_string_equal(item_name(page, 1), "w5");
    assert_null(fl_json_path(json_array_get(json_object_get(page.body, "items"), 2), "spec.size"));
    page = do_get(rig,
                  format(rig, WIDGETS "?limit=4&continue=%s", text_in(page, "metadata.continue")));
    assert_int_equal(items_in(page), 1);
    assert_string_equal(item_name(page, 0), "w8");
    assert_string_equal(text_in(page, "metadata.continue"), "");
    /* When that moment is forgotten, the list cannot go on. */
    assert_int_equal(fl_store_compact(rig->store, fl_store_revision(rig->store), NULL), 0);
    assert_refused(do_get(rig, format(rig, WIDGETS "?limit=4&continue=%s", token)), 410, "Expired",
                   "");
    assert_refused(do_get(rig, WIDGETS "?continue=nonsense!"), 400, "BadRequest",
                   "invalid continue token");
    assert_refused(do_get(rig, WIDGETS "?continue=e30"), 400, "BadRequest",
                   "invalid continue token");
}

static void test_pages_over_namespaces(void **state)
{
    struct rig *rig = *state;
    struct answer page;
    const char *token = "";
    size_t seen = 0;

    assert_answer(do_post(rig, "/api/v1/namespaces", "{\"metadata\":{\"name\":\"zone\"}}"), 201);
    for (int i = 0; i < 3; i++) {
        add(rig, format(rig, "w%d", i), "red", "");
        assert_answer(do_post(rig, "/apis/test.dev/v1/namespaces/zone/widgets",
                              widget(rig, format(rig, "w%d", i), "")),
                      201);
    }
    do {
        page = do_get(rig, format(rig, ALL_WIDGETS "?limit=2&continue=%s", token));
        assert_int_equal(items_in(page), 2);
        for (size_t i = 0; i < 2; i++, seen++)
            assert_string_equal(item_name(page, i), format(rig, "w%zu", seen % 3));
        token = text_in(page, "metadata.continue");
    } while (*token);
    assert_int_equal(seen, 6);
}

/* Names of RBAC objects may hold nearly anything; so may tokens that point behind them. */
static void test_pages_behind_odd_names(void **state)
{
    static const char *const names[] = {"a\\\"b", "a\\\\u0000b", "b:c d", "b{}"};
    struct rig *rig = *state;
    struct answer page;
    const char *token = "";
    size_t seen = 0;

    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        assert_answer(
            do_post(rig, RBAC "/namespaces/default/roles",
                    format(rig, "{\"metadata\":{\"name\":\"%s\"},\"rules\":[]}", names[i])),
            201);
    do {
        page =
            do_get(rig, format(rig, RBAC "/namespaces/default/roles?limit=1&continue=%s", token));
        assert_int_equal(items_in(page), 1);
        token = text_in(page, "metadata.continue");
        seen++;
    } while (*token && seen < 10);
    assert_int_equal(seen, FL_COUNT_OF(names));
}

static void test_selectors(void **state)
{
    static const struct {
        const char *query;
        size_t count;
    } cases[] = {
        {"", 4},
        {"?labelSelector=team%3Dred", 2},
        {"?labelSelector=team!%3Dred", 2},
        {"?labelSelector=team", 3},
        {"?labelSelector=!team", 1},
        {"?labelSelector=team+in+(red,blue)", 3},
        {"?labelSelector=team+notin+(red)", 2},
        {"?labelSelector=team%3Dred,big", 1},
        {"?labelSelector=n%3E1", 1},
        {"?fieldSelector=metadata.name%3Da", 1},
        {"?fieldSelector=metadata.name!%3Da", 3},
        {"?fieldSelector=spec.color%3Dgreen", 2},
        {"?fieldSelector=spec.color%3Dgreen,metadata.name%3Da", 1},
        {"?fieldSelector=metadata.namespace%3Dother", 0},
        {"?fieldSelector=spec.color%3Dgreen&labelSelector=team", 1},
        {"?labelSelector=team&limit=2", 2},
    };
    struct rig *rig = *state;

    add(rig, "a", "green", "\"team\":\"red\",\"big\":\"\"");
    add(rig, "b", "red", "\"team\":\"red\",\"n\":\"2\"");
    add(rig, "c", "red", "\"team\":\"blue\",\"n\":\"1\"");
    add(rig, "d", "green", "");
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        size_t count = items_in(do_get(rig, format(rig, WIDGETS "%s", cases[i].query)));

        if (count != cases[i].count)
            fail_msg("%s: %zu instead of %zu", cases[i].query, count, cases[i].count);
    }
    assert_refused(do_get(rig, WIDGETS "?fieldSelector=spec.size%3D1"), 400, "BadRequest",
                   "field label not supported: spec.size");
    assert_refused(do_get(rig, WIDGETS "?labelSelector=a%3D%3D%3Db"), 400, "BadRequest", "");
    assert_refused(do_get(rig, WIDGETS "?limit=-1"), 400, "BadRequest", "");
    assert_refused(do_get(rig, WIDGETS "?resourceVersion=-1"), 400, "BadRequest", "");
}

static void test_revisions(void **state)
{
    struct rig *rig = *state;
    uint64_t first, now;
    struct answer answer;

    add(rig, "a", "red", "");
    first = fl_store_revision(rig->store);
    add(rig, "b", "red", "");
    now = fl_store_revision(rig->store);
    assert_int_equal(items_in(do_get(rig, WIDGETS "?resourceVersion=0")), 2);
    answer = do_get(rig, format(rig, WIDGETS "?resourceVersion=%" PRIu64, first));
    assert_int_equal(items_in(answer), 2);
    assert_int_equal(revision_in(answer), now);
    answer = do_get(
        rig, format(rig, WIDGETS "?resourceVersion=%" PRIu64 "&resourceVersionMatch=Exact", first));
    assert_int_equal(items_in(answer), 1);
    assert_int_equal(revision_in(answer), first);
    assert_refused(do_get(rig, WIDGETS "?resourceVersionMatch=Exact"), 422, "Invalid",
                   "unless resourceVersion is provided");
    assert_refused(do_get(rig, WIDGETS "?resourceVersion=0&resourceVersionMatch=Exact"), 422,
                   "Invalid", "Exact");
    assert_refused(do_get(rig, WIDGETS "?resourceVersion=1&resourceVersionMatch=Near"), 422,
                   "Invalid", "Unsupported value");
    assert_refused(do_get(rig, WIDGETS "?sendInitialEvents=true"), 422, "Invalid",
                   "sendInitialEvents is forbidden for list");
    assert_int_equal(fl_store_compact(rig->store, now, NULL), 0);
    assert_refused(
        do_get(rig, format(rig, WIDGETS "?resourceVersion=%" PRIu64 "&resourceVersionMatch=Exact",
                           first)),
        410, "Expired", "");
}

static void test_future_revision(void **state)
{
    struct rig *rig = *state;
    struct ask ask = {.who = ADMIN, .method = "GET"};
    struct answer answer;
    int64_t began = fl_monotonic_ms(&rig->real);
    int fd;

    answer = do_get(rig, WIDGETS "?resourceVersion=99999");
    assert_refused(answer, 504, "Timeout", "Too large resource version: 99999, current: ");
    assert_true(fl_monotonic_ms(&rig->real) - began >= 2900);
    assert_string_equal(
        fl_json_str(json_array_get(fl_json_path(answer.body, "details.causes"), 0), "reason"),
        "ResourceVersionTooLarge");
    assert_int_equal(fl_json_int(answer.body, "details.retryAfterSeconds", 0), 1);
    /* One that arrives in time is waited for. */
    ask.target =
        format(rig, WIDGETS "/a?resourceVersion=%" PRIu64, fl_store_revision(rig->store) + 1);
    fd = rig_connect(rig);
    rig_send_ask(fd, &ask);
    rig_pause(50);
    add(rig, "a", "red", "");
    assert_answer(rig_take_answer(rig, fd), 200);
    /* And who waits may leave. */
    fd = rig_connect(rig);
    rig_send_ask(
        fd,
        &(struct ask){.who = ADMIN, .method = "GET", .target = WIDGETS "?resourceVersion=99999"});
    rig_pause(30);
    (void)close(fd);
    rig_pause(100);
    assert_answer(do_get(rig, WIDGETS), 200);
}

/* Forms */

static struct answer get_accepting(struct rig *rig, const char *target, const char *accept)
{
    return rig_ask(rig, &(struct ask){.who = ADMIN,
                                      .method = "GET",
                                      .target = target,
                                      .headers = format(rig, "Accept: %s\r\n", accept)});
}

#define TABLE "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

static void test_views(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    add(rig, "a", "red", "");
    add(rig, "b", "red", "");
    answer = get_accepting(rig, WIDGETS, TABLE);
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "kind"), "Table");
    assert_int_equal(json_array_size(json_object_get(answer.body, "rows")), 2);
    answer = get_accepting(rig, WIDGETS "/a", TABLE);
    assert_int_equal(json_array_size(json_object_get(answer.body, "rows")), 1);
    answer = get_accepting(rig, WIDGETS "/none", TABLE);
    assert_refused(answer, 404, "NotFound", "");
    answer = get_accepting(rig, WIDGETS "?limit=1", TABLE);
    assert_true(*text_in(answer, "metadata.continue"));
    answer = get_accepting(rig, WIDGETS "/a",
                           "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
    assert_string_equal(text_in(answer, "kind"), "PartialObjectMetadata");
    assert_null(json_object_get(answer.body, "spec"));
    answer = get_accepting(rig, WIDGETS,
                           "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    assert_string_equal(text_in(answer, "kind"), "PartialObjectMetadataList");
    assert_int_equal(items_in(answer), 2);
    answer = get_accepting(rig, WIDGETS "/a", "application/yaml");
    assert_answer(answer, 200);
    assert_non_null(strstr(answer.headers, "application/yaml"));
    assert_memory_equal(answer.text, "apiVersion: test.dev/v1\n", 24);
    answer = get_accepting(rig, WIDGETS, "application/yaml");
    assert_non_null(strstr(answer.text, "kind: WidgetList"));
    answer = do_get(rig, WIDGETS "/a?pretty=true");
    assert_memory_equal(answer.text, "{\n  \"apiVersion\"", 16);
    assert_refused(get_accepting(rig, WIDGETS, "text/html"), 406, "NotAcceptable",
                   "only the following media types are accepted");
    assert_refused(get_accepting(rig, WIDGETS, "application/vnd.kubernetes.protobuf"), 406,
                   "NotAcceptable", "");
    assert_answer(get_accepting(rig, WIDGETS, "text/html, */*;q=0.1"), 200);
}

static void test_other_version(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    add(rig, "a", "red", "");
    answer = do_get(rig, "/apis/test.dev/v2/namespaces/default/widgets");
    assert_int_equal(items_in(answer), 1);
    assert_string_equal(text_in(answer, "apiVersion"), "test.dev/v2");
    assert_string_equal(
        fl_json_str(json_array_get(json_object_get(answer.body, "items"), 0), "apiVersion"),
        "test.dev/v2");
    assert_string_equal(
        text_in(do_get(rig, "/apis/test.dev/v2/namespaces/default/widgets/a"), "apiVersion"),
        "test.dev/v2");
    assert_answer(
        do_patch(rig, "/apis/test.dev/v2/namespaces/default/widgets/a", "{\"spec\":{\"size\":4}}"),
        200);
    answer = do_get(rig, WIDGETS "/a");
    assert_string_equal(text_in(answer, "apiVersion"), "test.dev/v1");
    assert_int_equal(fl_json_int(answer.body, "spec.size", 0), 4);
    /* What changes nothing writes nothing, through either version. */
    assert_int_equal(revision_in(do_patch(rig, WIDGETS "/a", "{}")), revision_in(answer));
    assert_refused(
        do_post(rig, "/apis/test.dev/v2/namespaces/default/widgets", widget(rig, "b", "")), 400,
        "BadRequest", "does not match the expected API version");
}

static void test_gzip(void **state)
{
    struct rig *rig = *state;
    char *big = fl_alloc(rig->arena, 200 * 1024 + 1);
    struct ask ask = {.who = ADMIN,
                      .method = "GET",
                      .target = CONFIGMAPS,
                      .headers = "Accept-Encoding: gzip, br\r\n"};
    struct answer answer;
    FL_CLEANUP(fl_freep) char *body = NULL;

    memset(big, 'x', 200 * 1024);
    body = fl_asprintf("{\"metadata\":{\"name\":\"big\"},\"data\":{\"k\":\"%s\"}}", big);
    assert_answer(do_post(rig, CONFIGMAPS, body), 201);
    answer = rig_ask(rig, &ask);
    assert_answer(answer, 200);
    assert_non_null(strstr(answer.headers, "Content-Encoding: gzip\r\n"));
    assert_true(answer.len < 5000);
    assert_int_equal((unsigned char)answer.text[0], 0x1f);
    ask.target = WIDGETS;
    assert_null(strstr(rig_ask(rig, &ask).headers, "Content-Encoding"));
    assert_null(strstr(do_get(rig, CONFIGMAPS).headers, "Content-Encoding"));
}

static const char *header(struct rig *rig, struct answer answer, const char *name)
{
    const char *at = strstr(answer.headers, name);

    if (!at)
        return NULL;
    at += strlen(name) + 2;
    return fl_arena_strndup(rig->arena, at, strcspn(at, "\r"));
}

static void test_etags_and_heads(void **state)
{
    static const char *const documents[] = {"/openapi/v2", "/openapi/v3/apis/test.dev/v1"};
    struct rig *rig = *state;
    struct answer answer;

    for (size_t i = 0; i < FL_COUNT_OF(documents); i++) {
        const char *etag;

        answer = do_get(rig, documents[i]);
        assert_answer(answer, 200);
        etag = header(rig, answer, "ETag");
        assert_non_null(etag);
        answer = rig_ask(rig, &(struct ask){.who = ADMIN,
                                            .method = "GET",
                                            .target = documents[i],
                                            .headers = format(rig, "If-None-Match: %s\r\n", etag)});
        assert_answer(answer, 304);
        assert_int_equal(answer.len, 0);
        assert_answer(do_delete(rig, i == 0 ? CRDS "/gadgets.test.dev" : CRDS "/widgets.test.dev"),
                      200);
        WAIT_FOR(rig_ask(rig, &(struct ask){.who = ADMIN,
                                            .method = "GET",
                                            .target = documents[i],
                                            .headers = format(rig, "If-None-Match: %s\r\n", etag)})
                     .status != 304);
    }
    answer = do_as(rig, ADMIN, "HEAD", CONFIGMAPS, NULL);
    assert_answer(answer, 200);
    assert_int_equal(answer.len, 0);
    assert_true(atoi(header(rig, answer, "Content-Length")) > 50);
    assert_answer(do_as(rig, ADMIN, "HEAD", CONFIGMAPS "/none", NULL), 404);
    assert_answer(do_as(rig, ADMIN, "HEAD", "/version", NULL), 200);
    /* There is nothing to watch where nothing is sent. */
    assert_answer(do_as(rig, ADMIN, "HEAD", CONFIGMAPS "?watch=true", NULL), 200);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *method, *target;
        int status;
        const char *reason;
    } cases[] = {
        {"POST", WIDGETS "/a", 405, "MethodNotAllowed"},
        {"PUT", WIDGETS, 405, "MethodNotAllowed"},
        {"PATCH", WIDGETS, 405, "MethodNotAllowed"},
        {"DELETE", WIDGETS "/a/status", 405, "MethodNotAllowed"},
        {"OPTIONS", WIDGETS, 405, "MethodNotAllowed"},
        {"DELETE", "/api/v1/namespaces", 405, "MethodNotAllowed"},
        {"GET", WIDGETS "/a", 404, "NotFound"},
    };
    static const struct {
        const char *method, *target;
    } nothing[] = {
        {"GET", "/no"},
        {"GET", "/apis/no"},
        {"GET", "/apis/test.dev/v9"},
        {"GET", "/apis/test.dev/v1/no"},
        {"GET", "/apis/test.dev/v1/namespaces/default/gadgets"},
        {"GET", WIDGETS "/a/no"},
        {"GET", WIDGETS "/a/status/more"},
        {"GET", CONFIGMAPS "/a/status"},
        {"POST", "/version"},
        {"GET", "/api/v1/widgets"},
        {"GET", "/apis/test.dev/v1/widgets/a"},
    };
    struct rig *rig = *state;
    char *big = fl_alloc(rig->arena, 4 * 1024 * 1024);
    FL_CLEANUP(fl_freep) char *large = NULL;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_refused(do_as(rig, ADMIN, cases[i].method, cases[i].target, NULL), cases[i].status,
                       cases[i].reason, "");
    for (size_t i = 0; i < FL_COUNT_OF(nothing); i++) {
        struct answer answer = do_as(rig, ADMIN, nothing[i].method, nothing[i].target, NULL);

        if (answer.status != 404)
            fail_msg("%s %s: %d", nothing[i].method, nothing[i].target, answer.status);
    }
    assert_refused(rig_ask(rig, &(struct ask){.who = ADMIN,
                                              .method = "POST",
                                              .target = WIDGETS,
                                              .type = "text/plain",
                                              .body = "{}"}),
                   415, "UnsupportedMediaType", "accepted media types include");
    assert_refused(rig_ask(rig, &(struct ask){.who = ADMIN,
                                              .method = "POST",
                                              .target = WIDGETS,
                                              .type = "application/merge-patch+json",
                                              .body = widget(rig, "a", "")}),
                   415, "UnsupportedMediaType", "accepted media types include");
    memset(big, 'x', 1700 * 1024);
    large = fl_asprintf("{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Gadget\",\"metadata\":"
                        "{\"name\":\"x\"},\"text\":\"%s\"}",
                        big);
    assert_refused(do_post(rig, GADGETS, large), 413, "RequestEntityTooLarge", "");
    memset(big, 'x', 4 * 1024 * 1024 - 1);
    assert_refused(do_post(rig, WIDGETS, big), 413, "RequestEntityTooLarge", "");
}

static void test_health_and_version(void **state)
{
    struct rig *rig = *state;
    struct answer answer;
    const char *line, *rest;

    assert_string_equal(do_get(rig, "/readyz").text, "ok");
    assert_non_null(strstr(do_get(rig, "/readyz?verbose").text, "[+]store ok\n"));
    assert_string_equal(text_in(do_get(rig, "/version"), "major"), "1");
    assert_true(json_array_size(json_object_get(do_get(rig, "/").body, "paths")) > 10);
    /* No series twice: a scraper refuses the whole page. */
    answer = do_get(rig, "/metrics");
    rest = answer.text;
    while ((line = fl_str_next(rig->arena, &rest, '\n'))) {
        const char *name = fl_arena_printf(rig->arena, "\n%s ",
                                           fl_arena_strndup(rig->arena, line, strcspn(line, " ")));
        const char *first = strstr(answer.text, name);

        if (*line && *line != '#' && first && strstr(first + 1, name))
            fail_msg("twice: %s", line);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pages_show_one_moment),
        TEST(test_pages_over_namespaces),
        TEST(test_pages_behind_odd_names),
        TEST(test_selectors),
        TEST(test_revisions),
        TEST(test_future_revision),
        TEST(test_views),
        TEST(test_other_version),
        TEST(test_gzip),
        TEST(test_etags_and_heads),
        TEST(test_refusals),
        TEST(test_health_and_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
