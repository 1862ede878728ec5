#include "cmd/watcher.h"

#include "cmd/discovery.h"
#include "lib/http_server.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEADLINE_MS 20000
#define OBJECT(name, version)                                                                      \
    "{\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" version "\"}}"
#define EVENT(type, name, version) "{\"type\":\"" type "\",\"object\":" OBJECT(name, version) "}\n"
#define LIST(version, more, items)                                                                 \
    "{\"metadata\":{\"resourceVersion\":\"" version "\",\"continue\":\"" more                      \
    "\"},\"items\":[" items "]}"

/* What the server answers, one after another, and what each request must have in it. */
struct answer {
    const char *asked;
    int status; /* 0: it breaks off */
    const char *body;
};

struct rig {
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_http_server *server;
    struct fl_http_async *async;
    struct fl_client client;
    struct fl_arena *arena;
    const struct answer *answers;
    size_t answered;
    const char *wrong; /* a request that was not expected */
    struct fl_buf told;
};

static void serve(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;
    const struct answer *answer = &rig->answers[rig->answered];

    if (!answer->asked) { /* the end of the script */
        fl_http_respond(request, 403, "application/json", "{}", 2);
        return;
    }
    rig->answered++;
    if (!strstr(fl_http_target(request), answer->asked) && !rig->wrong)
        rig->wrong =
            fl_arena_printf(rig->arena, "%s, and not %s", fl_http_target(request), answer->asked);
    if (answer->status == 0)
        fl_http_abort(request);
    else
        fl_http_respond(request, answer->status, "application/json", answer->body,
                        strlen(answer->body));
}

static int setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_http_server_options server = {.address = "127.0.0.1", .handler = serve, .user = rig};
    struct fl_http_async_options async = {0};
    struct fl_http_client_options to = {0};
    struct fl_error err = {0};

    rig->env = fl_env_real(NULL);
    rig->arena = fl_arena_create();
    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    server.env = &rig->env;
    server.loop = async.loop = rig->loop;
    assert_int_equal(fl_http_server_create(&server, &rig->server, &err), 0);
    assert_int_equal(fl_http_async_create(&async, &rig->async, &err), 0);
    to.base_url =
        fl_arena_printf(rig->arena, "http://127.0.0.1:%u", fl_http_server_port(rig->server));
    rig->client = (struct fl_client){
        .command = "test", .arena = rig->arena, .env = rig->env, .request_timeout_ms = DEADLINE_MS};
    rig->client.config.server = to.base_url;
    assert_int_equal(fl_http_client_create(&to, &rig->client.http, &err), 0);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    fl_http_async_destroy(rig->async);
    fl_http_client_destroy(rig->client.http);
    fl_http_server_destroy(rig->server);
    fl_loop_destroy(rig->loop);
    fl_buf_finish(&rig->told);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

/* What is told, in short: [a b] live +c -a lost … */

static void on_begin(void *user)
{
    struct rig *rig = user;

    fl_buf_puts(&rig->told, "[ ");
}

static void on_object(void *user, const json_t *object)
{
    struct rig *rig = user;

    fl_buf_printf(&rig->told, "%s ", fl_json_str(object, "metadata.name"));
}

static void on_end(void *user)
{
    struct rig *rig = user;

    fl_buf_puts(&rig->told, "] ");
}

static void on_gone(void *user, const json_t *object)
{
    struct rig *rig = user;

    fl_buf_printf(&rig->told, "-%s ", fl_json_str(object, "metadata.name"));
}

static void on_state(void *user, enum fl_watcher_state state, const struct fl_error *why)
{
    static const char *const words[] = {"new", "live", "lost", "refused"};
    struct rig *rig = user;

    assert_true((state == FL_WATCHER_LIVE) == (why == NULL));
    fl_buf_printf(&rig->told, "%s ", words[state]);
    if (state == FL_WATCHER_REFUSED)
        fl_loop_stop(rig->loop);
}

static const struct fl_watcher_events events = {on_begin, on_object, on_end, on_gone, on_state};

/* Runs to the end of the script, where the server refuses. */
static void assert_told(struct rig *rig, const struct answer *answers, const char *expected)
{
    static const struct fl_api_resource resource = {
        .group = "flops.dev", .version = "v1", .plural = "things", .namespaced = true};
    const struct fl_watcher_options options = {.loop = rig->loop,
                                               .async = rig->async,
                                               .client = &rig->client,
                                               .resource = &resource,
                                               .ns = "a",
                                               .field_selector = "x=y",
                                               .events = &events,
                                               .user = rig};
    FL_CLEANUP(fl_watcher_destroyp) struct fl_watcher *watcher = NULL;

    rig->answers = answers;
    watcher = fl_watcher_create(&options);
    fl_loop_run_for(rig->loop, DEADLINE_MS);
    assert_string_equal(fl_buf_text(&rig->told), expected);
    if (rig->wrong)
        fail_msg("%s", rig->wrong);
}

static void a_list_then_changes(void **state)
{
    static const struct answer answers[] = {
        {"/apis/flops.dev/v1/namespaces/a/things?fieldSelector=x%3Dy&limit=500", 200,
         LIST("5", "", OBJECT("a", "1") "," OBJECT("b", "2"))},
        {"watch=true&allowWatchBookmarks=true&timeoutSeconds=50&resourceVersion=5", 200,
         EVENT("ADDED", "c", "6") EVENT("DELETED", "a", "7")},
        {"resourceVersion=7", 200,
         EVENT("MODIFIED", "b", "8") "\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":"
                                     "{\"resourceVersion\":\"20\"}}}\n"},
        {"resourceVersion=20", 200, ""},
        {0},
    };

    assert_told(*state, answers, "[ a b ] live c -a b refused ");
}

static void a_list_of_pages(void **state)
{
    static const struct answer answers[] = {
        {"limit=500", 200, LIST("5", "next", OBJECT("a", "1"))},
        {"continue=next", 200, LIST("5", "last", OBJECT("b", "2"))},
        {"continue=last", 410, "{\"kind\":\"Status\",\"reason\":\"Expired\",\"message\":\"old\"}"},
        {"limit=500", 200, LIST("9", "", OBJECT("a", "1"))}, /* from the beginning */
        {"resourceVersion=9", 200, ""},
        {0},
    };

    assert_told(*state, answers, "[ a b [ a ] live refused ");
}

/* What was missed meanwhile is in the list. */
static void what_is_lost_is_listed_anew(void **state)
{
    static const struct answer answers[] = {
        {"limit=500", 0, ""},
        {"limit=500", 503, "{}"},
        {"limit=500", 200, "no JSON"},
        {"limit=500", 200, LIST("5", "", OBJECT("a", "1"))},
        {"resourceVersion=5", 500, "{}"},
        {"limit=500", 200, LIST("6", "", OBJECT("b", "6"))},
        {"resourceVersion=6", 200, EVENT("ADDED", "c", "7") "broken\n"},
        {"limit=500", 200, LIST("8", "", "")},
        {"resourceVersion=8", 200,
         "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":"
         "\"Expired\",\"message\":\"too old\"}}\n"}, /* no trouble, but a list is due */
        {"limit=500", 200, LIST("30", "", "")},
        {0},
    };

    assert_told(*state, answers,
                "lost lost lost [ a ] live lost [ b ] live c lost [ ] live [ ] live refused ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_list_then_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_of_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_lost_is_listed_anew, setup, teardown),
    };

    return cmocka_run_group_tests_name("watcher", tests, NULL, NULL);
}
