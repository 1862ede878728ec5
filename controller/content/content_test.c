/* The content store as the API server serves it, and what becomes of content that nothing refers
 * to. */
#include "controller/content/content.h"

#include "controller/apiserver/apiserver_testing.h"
#include "lib/digest.h"

#define BLOBS    FL_CONTENTS_BLOBS
#define GRACE_MS 60000
#define MAX      5000000

struct fixture {
    struct rig *rig;
    struct fl_contents *contents;
    struct fl_apiserver_raw raw;
    char path[96];
};

static void contents_open(struct fixture *f)
{
    const struct fl_contents_options options = {
        .env = &f->rig->env, .path = f->path, .max_bytes = MAX, .grace_ms = GRACE_MS};
    struct fl_error err = {0};

    if (fl_contents_open(&options, &f->contents, &err) < 0)
        fail_msg("%s", err.msg);
    f->raw = fl_contents_raw(f->contents);
}

static int setup(void **state)
{
    struct fixture *f = fl_calloc(1, sizeof(*f));

    f->rig = rig_create("faulty-memory");
    (void)snprintf(f->path, sizeof(f->path), "%s/content", f->rig->folder);
    contents_open(f);
    f->rig->raws = &f->raw;
    f->rig->raw_count = 1;
    rig_open(f->rig);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *rig = f->rig;
    int r;

    rig_on_loop(f->rig, rig_drain);
    assert_int_equal(pthread_join(f->rig->thread, NULL), 0);
    f->rig->running = false;
    fl_apiserver_hang_up(f->rig->server);
    fl_contents_close(f->contents);
    assert_int_equal(fl_dir_remove(f->path, NULL), 0);
    r = rig_teardown(&rig);
    free(f);
    return r;
}

static const char *path_of(struct fixture *f, const char *digest)
{
    return format(f->rig, BLOBS "/%s", digest);
}

static const char *put(struct fixture *f, const char *text)
{
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(
        fl_blobs_put(fl_contents_blobs(f->contents), text, strlen(text), false, digest, NULL), 0);
    return fl_arena_strdup(f->rig->arena, digest);
}

static struct answer ask_with(struct fixture *f, const char *method, const char *target,
                              const char *headers)
{
    return rig_ask(
        f->rig,
        &(struct ask){.who = ADMIN, .method = method, .target = target, .headers = headers});
}

static void content_comes_and_goes_whole(void **state)
{
    struct fixture *f = *state;
    const size_t len = 4000000; /* more than the API takes of an object, and than one read */
    char *text = fl_alloc(f->rig->arena, len + 1);
    char digest[FL_DIGEST_SIZE];
    struct answer answer;

    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + i % 23);
    fl_digest_of(text, len, digest);
    assert_answer(do_put(f->rig, path_of(f, digest), text), 201);
    answer = do_get(f->rig, path_of(f, digest));
    assert_answer(answer, 200);
    assert_int_equal(answer.len, len);
    assert_memory_equal(answer.text, text, len);
    assert_non_null(strstr(answer.headers, format(f->rig, "ETag: \"%s\"", digest)));
    assert_answer(do_put(f->rig, path_of(f, digest), text), 201); /* once more is the same */
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(f->contents)).count, 1);
}

static void parts_are_served(void **state)
{
    struct fixture *f = *state;
    const char *digest = put(f, "0123456789");
    struct answer answer = ask_with(f, "GET", path_of(f, digest), "Range: bytes=3-5\r\n");

    assert_answer(answer, 206);
    assert_string_equal(answer.text, "345");
    assert_non_null(strstr(answer.headers, "Content-Range: bytes 3-5/10\r\n"));
    assert_int_equal(ask_with(f, "GET", path_of(f, digest), "Range: bytes=10-\r\n").status, 416);
    assert_int_equal(
        ask_with(f, "GET", path_of(f, digest), format(f->rig, "If-None-Match: \"%s\"\r\n", digest))
            .status,
        304);
    answer = ask_with(f, "HEAD", path_of(f, digest), NULL);
    assert_answer(answer, 200);
    assert_int_equal(answer.len, 0);
    assert_non_null(strstr(answer.headers, "Content-Length: 10\r\n"));
}

static void what_is_wrong_is_refused(void **state)
{
    struct fixture *f = *state;
    char digest[FL_DIGEST_SIZE];

    fl_digest_of("other", 5, digest);
    assert_refused(do_get(f->rig, path_of(f, digest)), 404, "NotFound",
                   format(f->rig, "%s is not here", digest));
    assert_int_equal(do_get(f->rig, BLOBS "/sha256:12").status, 400);
    assert_int_equal(do_put(f->rig, BLOBS "/sha256:12", "x").status, 400);
    assert_int_equal(do_put(f->rig, BLOBS, "x").status, 400);
    assert_int_equal(do_put(f->rig, path_of(f, digest), "not that").status, 422);
    assert_int_equal(do_delete(f->rig, path_of(f, digest)).status, 405);
    assert_int_equal(do_get(f->rig, FL_CONTENTS_PREFIX "models").status, 404);
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(f->contents)).count, 0);
}

static void what_does_not_fit_is_refused_before_it_comes(void **state)
{
    struct fixture *f = *state;
    char digest[FL_DIGEST_SIZE];
    struct answer answer;
    int fd = rig_connect(f->rig);
    const char *head;

    fl_digest_of("big", 3, digest);
    head = format(f->rig,
                  "PUT %s HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer admin-token\r\n"
                  "Connection: close\r\nContent-Length: %d\r\n\r\nx",
                  path_of(f, digest), MAX + 1);
    rig_send(fd, head, strlen(head)); /* and nothing more */
    answer = rig_take_answer(f->rig, fd);
    assert_int_equal(answer.status, 413);
    assert_non_null(strstr(text_in(answer, "message"), "the content store is full"));
}

/* Rights are for paths; an upload by who has none is not even read. */
static void rights_decide(void **state)
{
    struct fixture *f = *state;
    const char *digest = put(f, "0123456789"), *path = path_of(f, digest), *head;
    char other[FL_DIGEST_SIZE];
    struct answer answer;
    int fd;

    assert_int_equal(do_as(f->rig, NOBODY, "GET", path, NULL).status, 401);
    assert_int_equal(do_as(f->rig, ALICE, "GET", path, NULL).status, 403);
    assert_answer(do_post(f->rig, RBAC "/clusterrolebindings",
                          "{\"metadata\":{\"name\":\"reader\"},\"roleRef\":{\"apiGroup\":"
                          "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":"
                          "\"flops:content-reader\"},\"subjects\":[{\"kind\":\"User\","
                          "\"name\":\"alice\"}]}"),
                  201);
    assert_answer(do_as(f->rig, ALICE, "GET", path, NULL), 200);
    fl_digest_of("alice's", 7, other);
    assert_int_equal(do_as(f->rig, ALICE, "PUT", path_of(f, other), "alice's").status, 403);
    fd = rig_connect(f->rig);
    head = format(f->rig,
                  "PUT %s HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer alice-token\r\n"
                  "Connection: close\r\nContent-Length: 1000000\r\n\r\nx",
                  path_of(f, other));
    rig_send(fd, head, strlen(head));
    answer = rig_take_answer(f->rig, fd);
    assert_int_equal(answer.status, 403);
    assert_false(fl_blobs_has(fl_contents_blobs(f->contents), other));
}

/* A client that leaves in the middle leaves nothing. */
static void half_an_upload_is_nothing(void **state)
{
    struct fixture *f = *state;
    char digest[FL_DIGEST_SIZE];
    const char *head;

    fl_digest_of("half", 4, digest);
    for (int i = 0; i < 70; i++) { /* more than may be under way at once */
        int fd = rig_connect(f->rig);

        head = format(f->rig,
                      "PUT %s HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer admin-token\r\n"
                      "Content-Length: 4\r\n\r\nha",
                      path_of(f, digest));
        rig_send(fd, head, strlen(head));
        (void)close(fd);
        if (i % 10 == 9) /* the server has seen these by now */
            assert_int_equal(do_get(f->rig, path_of(f, digest)).status, 404);
    }
    assert_answer(do_put(f->rig, path_of(f, digest), "half"), 201);
}

static struct fl_swept sweep(struct fixture *f, const char *digest, const char *who)
{
    struct fl_marks *marks = fl_marks_create();

    if (digest)
        fl_marks_add(marks, digest, who);
    return fl_contents_sweep(f->contents, marks);
}

static void pass(struct fixture *f, int64_t ms)
{
    (void)atomic_fetch_add(&f->rig->shift_ms, ms);
}

static void what_nothing_refers_to_goes_after_a_while(void **state)
{
    struct fixture *f = *state;
    const char *kept = put(f, "kept"), *gone = put(f, "gone");

    assert_int_equal(sweep(f, kept, "ModelVersion default/m").waiting, 1);
    pass(f, GRACE_MS / 2);
    assert_int_equal(sweep(f, kept, "ModelVersion default/m").removed, 0);
    assert_answer(do_get(f->rig, path_of(f, gone)), 200); /* a use: it begins anew */
    pass(f, GRACE_MS / 2 + 1000);
    assert_int_equal(sweep(f, kept, "ModelVersion default/m").removed, 0);
    pass(f, GRACE_MS + 1000);
    assert_int_equal(sweep(f, kept, "ModelVersion default/m").removed, 1);
    assert_int_equal(do_get(f->rig, path_of(f, gone)).status, 404);
    assert_answer(do_get(f->rig, path_of(f, kept)), 200);
    /* The other one is no longer referred to, and has its time from now on. */
    assert_int_equal(sweep(f, NULL, NULL).waiting, 1);
    pass(f, GRACE_MS + 1000);
    assert_int_equal(sweep(f, NULL, NULL).removed, 1);
}

static void the_list_says_who_needs_what(void **state)
{
    struct fixture *f = *state;
    const char *one = put(f, "one");
    FL_JSON object = json_pack("{s:s, s:{s:s, s:s}, s:{s:[s], s:{s:s}}}", "kind", "ModelVersion",
                               "metadata", "namespace", "default", "name", "m", "spec", "more",
                               "no digest", "lineage", "base", one);
    struct fl_marks *marks = fl_marks_create();
    struct answer answer;
    const json_t *item;

    fl_marks_add_object(marks, object);
    (void)fl_contents_sweep(f->contents, marks);
    answer = do_get(f->rig, BLOBS);
    assert_answer(answer, 200);
    item = json_array_get(json_object_get(answer.body, "items"), 0);
    assert_string_equal(fl_json_str(item, "digest"), one);
    item = json_array_get(json_object_get(item, "references"), 0);
    assert_string_equal(json_string_value(item), "ModelVersion default/m");
    assert_int_equal(fl_json_int(answer.body, "bytes", 0), 3);
    assert_int_equal(fl_json_int(answer.body, "maxBytes", 0), MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(content_comes_and_goes_whole),
        TEST(parts_are_served),
        TEST(what_is_wrong_is_refused),
        TEST(what_does_not_fit_is_refused_before_it_comes),
        TEST(rights_decide),
        TEST(half_an_upload_is_nothing),
        TEST(what_nothing_refers_to_goes_after_a_while),
        TEST(the_list_says_who_needs_what),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
