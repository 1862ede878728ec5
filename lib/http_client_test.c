/* What the client sends from a file, and what it understands of answers. */
#include "lib/http_client.h"
#include "lib/http_test_rig.h"

#include <fcntl.h>

static void echo(void *user, struct fl_http_request *request)
{
    size_t len;
    const char *body = fl_http_body(request, &len);

    (void)user;
    fl_http_set_header(request, "X-Method", fl_http_method(request));
    fl_http_respond(request, 200, "text/plain", body, len);
}

static int collect(void *user, const void *data, size_t len, struct fl_error *err)
{
    (void)err;
    fl_buf_append(user, data, len);
    return 0;
}

static int make_file(char *path, size_t len)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(write(fd, &(char){(char)('a' + i % 26)}, 1), 1);
    return fd;
}

static int send_part(struct fl_http_client *client, int fd, int64_t offset, size_t len,
                     struct fl_buf *answer, char *method, struct fl_error *err)
{
    const struct fl_http_transfer transfer = {.method = "PUT",
                                              .target = "/x",
                                              .from_file = true,
                                              .file = fd,
                                              .file_offset = offset,
                                              .body_len = len,
                                              .piece = collect,
                                              .user = answer};
    FL_CLEANUP(fl_freep) char *headers = NULL;
    int status, r = fl_http_transfer(client, &transfer, &status, NULL, &headers, err);

    if (r == 0)
        assert_true(fl_http_find_header(headers, "X-Method", method, 16));
    return r;
}

static void test_part_of_a_file(void **state)
{
    struct fl_http_server_options options = {.handler = echo};
    struct rig *rig = rig_start(&options, false);
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;
    char path[] = "/tmp/flops-test-XXXXXX", method[16], url[64];
    struct fl_buf answer = {0};
    struct fl_error err = {0};
    int fd = make_file(path, 3000);

    (void)state;
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", fl_http_server_port(rig->server));
    assert_int_equal(
        fl_http_client_create(&(struct fl_http_client_options){.base_url = url}, &client, NULL), 0);
    assert_int_equal(send_part(client, fd, 27, 2000, &answer, method, NULL), 0);
    assert_string_equal(method, "PUT");
    assert_int_equal(answer.len, 2000);
    assert_int_equal(answer.data[0], 'b');
    assert_int_equal(answer.data[1999], 'a' + (27 + 1999) % 26);

    fl_buf_clear(&answer);
    assert_int_equal(send_part(client, fd, 0, 0, &answer, method, NULL), 0);
    assert_int_equal(answer.len, 0);
    assert_int_equal(send_part(client, fd, 2990, 11, &answer, method, &err), FL_E_INTERNAL);
    assert_non_null(strstr(err.msg, "shorter"));
    assert_int_equal(close(fd), 0);
    assert_int_equal(send_part(client, fd, 0, 10, &answer, method, &err), FL_E_INTERNAL);
    (void)unlink(path);
    fl_buf_finish(&answer);
    rig_stop(rig);
}

/* Answers the first request, and hangs up on the second, which libcurl then sends anew. */
static void hang_up_once(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;

    if (++rig->handled == 2)
        fl_http_abort(request);
    else
        echo(user, request);
}

static void test_a_body_that_is_sent_anew(void **state)
{
    struct fl_http_server_options options = {.handler = hang_up_once};
    struct rig *rig = rig_start(&options, false);
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;
    char path[] = "/tmp/flops-test-XXXXXX", method[16], url[64];
    struct fl_buf answer = {0};
    int fd = make_file(path, 3000);

    (void)state;
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", fl_http_server_port(rig->server));
    assert_int_equal(
        fl_http_client_create(&(struct fl_http_client_options){.base_url = url}, &client, NULL), 0);
    for (int i = 0; i < 2; i++) {
        fl_buf_clear(&answer);
        assert_int_equal(send_part(client, fd, 26, 2000, &answer, method, NULL), 0);
        assert_int_equal(answer.len, 2000);
        assert_int_equal(answer.data[0], 'a');
    }
    assert_int_equal(rig_counts(rig).handled, 3);
    (void)close(fd);
    (void)unlink(path);
    fl_buf_finish(&answer);
    rig_stop(rig);
}

static void test_retry_after(void **state)
{
    static const struct {
        const char *headers;
        int64_t ms;
    } cases[] = {
        {"Retry-After: 7\n", 7000},
        {"retry-after: 0\n", 0},
        {"Retry-After: 99999999\n", 86400000},
        {"Retry-After: -4\n", 0},
        {"Retry-After: soon\n", 0},
        {"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\n", 30000},
        {"Retry-After: Sun, 06 Nov 1994 08:49:00 GMT\n", 0},
        {"Content-Length: 7\n", 0},
        {NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_int_equal(fl_http_retry_after_ms(cases[i].headers, INT64_C(784111747) * 1000000),
                         cases[i].ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_part_of_a_file),
        cmocka_unit_test(test_a_body_that_is_sent_anew),
        cmocka_unit_test(test_retry_after),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
