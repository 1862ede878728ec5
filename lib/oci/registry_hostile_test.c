/* A registry that lies, breaks off, never ends or never answers: what it sends is refused or taken
 * up where it broke, nothing half is visible, no credentials go elsewhere, and nothing hangs. */
#include "lib/oci/registry_fake.h"

#include <signal.h>
#include <sys/resource.h>

#define LAYER   ((size_t)200000)
#define MANY_MS INT64_C(60000)

struct test {
    struct fake fake, other;
    struct store here, there;
    struct fl_arena *arena;
    struct fl_registry *registry;
    struct fl_env env;
    struct fl_oci_descriptor image;
    struct fl_error err;
};

static const char *const latest[] = {"latest"};

static void reopen(struct test *test, struct fl_registry_options options)
{
    char host[64];

    fake_host(&test->fake, host);
    options.env = &test->env;
    options.host = host;
    options.plain_http = !test->fake.rig->tls;
    options.backoff_ms = 1;
    options.tries = 4;
    if (options.quiet_ms == 0)
        options.quiet_ms = 10000;
    if (options.total_ms == 0)
        options.total_ms = MANY_MS;
    options.chunk_bytes = 50000;
    fl_registry_close(test->registry);
    test->registry = NULL;
    assert_int_equal(fl_registry_open(&options, &test->registry, &test->err), 0);
}

static int push(struct test *test)
{
    return fl_registry_push(test->registry, "a", NULL, &test->image, latest, 1, test->here.blobs,
                            NULL, NULL, &test->err);
}

static int pull_named(struct test *test, const char *tag, const char *digest)
{
    const struct fl_image_reference reference = {.repository = "a", .tag = tag, .digest = digest};
    struct fl_oci_taken taken = {0};
    int r = fl_registry_pull(test->registry, &reference, NULL, 0, test->there.blobs, NULL,
                             test->arena, &taken, &test->err);

    if (r == 0)
        fl_oci_unpin(test->there.blobs, &taken);
    store_check_clean(&test->there);
    return r;
}

static int pull(struct test *test)
{
    return pull_named(test, "latest", NULL);
}

static int set_up_with(void **state, bool tls)
{
    struct test *test = fl_calloc(1, sizeof(*test));

    test->env = fl_env_real(NULL);
    fake_start(&test->fake, tls);
    fake_start(&test->other, false);
    store_open(&test->here, 0);
    store_open(&test->there, 0);
    test->arena = fl_arena_create();
    test->image = store_image(&test->here, test->arena, "amd64", LAYER, NULL);
    reopen(test, (struct fl_registry_options){.insecure = tls});
    *state = test;
    return 0;
}

static int set_up(void **state)
{
    struct test *test;
    int r = set_up_with(state, false);

    test = *state;
    assert_int_equal(push(test), 0);
    fake_misbehave(&test->fake, NULL, 0);
    return r;
}

static int set_up_empty(void **state)
{
    return set_up_with(state, false);
}

static int set_up_tls(void **state)
{
    struct test *test;
    int r = set_up_with(state, true);

    test = *state;
    assert_int_equal(push(test), 0);
    fake_misbehave(&test->fake, NULL, 0);
    return r;
}

static int tear_down(void **state)
{
    struct test *test = *state;

    fl_registry_close(test->registry);
    fl_arena_destroy(test->arena);
    store_check_clean(&test->there);
    store_close(&test->here);
    store_close(&test->there);
    fake_stop(&test->fake);
    fake_stop(&test->other);
    free(test);
    return 0;
}

/* --- what it does --- */

static bool is_method(struct fl_http_request *request, const char *method)
{
    return strcmp(fl_http_method(request), method) == 0;
}

static bool asks_for(struct fl_http_request *request, const char *method, const char *part)
{
    return is_method(request, method) && strstr(fl_http_path(request), part);
}

/* The large layer's bytes, for those who cut them. */
static const struct fl_bytes *large_of(struct fake *fake, struct fl_http_request *request)
{
    const char *digest = strstr(fl_http_path(request), "/blobs/");
    const struct fl_bytes *bytes =
        is_method(request, "GET") && digest ? fl_map_get(fake->blobs, digest + 7) : NULL;

    return bytes && bytes->len == LAYER ? bytes : NULL;
}

static size_t offset_of(struct fl_http_request *request)
{
    const char *range = fl_http_header(request, "Range");

    return range && fl_str_has_prefix(range, "bytes=") ? strtoull(range + 6, NULL, 10) : 0;
}

static void say_part(struct fl_http_request *request, size_t offset)
{
    if (offset > 0)
        fl_http_set_header(
            request, "Content-Range",
            fl_arena_printf(fl_http_arena(request), "bytes %zu-%zu/%zu", offset, LAYER - 1, LAYER));
    fl_http_stream_begin(request, offset > 0 ? 206 : 200, "application/octet-stream");
}

/* A part of what is left, and then the connection breaks, `times` times. */
static bool breaks_off(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);
    size_t offset = offset_of(request);

    if (!bytes || fake->times-- <= 0)
        return false;
    say_part(request, offset);
    (void)fl_http_stream_write(request, bytes->data + offset, 30000);
    fl_http_abort(request);
    return true;
}

static bool breaks_after_all(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);

    if (!bytes)
        return false;
    say_part(request, 0);
    (void)fl_http_stream_write(request, bytes->data, LAYER);
    fl_http_abort(request);
    return true;
}

/* The same, but the answer ends as if that had been all. */
static bool ends_early(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);
    size_t offset = offset_of(request);

    if (!bytes || fake->times-- <= 0)
        return false;
    say_part(request, offset);
    (void)fl_http_stream_write(request, bytes->data + offset, 30000);
    fl_http_stream_end(request);
    return true;
}

/* The same, but the connection stays and says nothing. */
static bool stalls(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);
    size_t offset = offset_of(request);

    if (!bytes || fake->times-- <= 0)
        return false;
    say_part(request, offset);
    (void)fl_http_stream_write(request, bytes->data + offset, 30000);
    return true;
}

static bool never_answers(struct fake *fake, struct fl_http_request *request)
{
    (void)fake;
    (void)request;
    return true;
}

static bool ignores_ranges(struct fake *fake, struct fl_http_request *request)
{
    fake->no_ranges = true;
    return breaks_off(fake, request);
}

static bool sends_another_part(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);
    size_t offset = offset_of(request);

    if (!bytes)
        return false;
    if (offset == 0)
        return breaks_off(fake, request);
    say_part(request, offset + 1);
    (void)fl_http_stream_write(request, bytes->data, LAYER - offset - 1);
    fl_http_stream_end(request);
    return true;
}

static bool flips_a_byte(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);
    char *copy;

    if (!bytes)
        return false;
    copy = fl_alloc(fl_http_arena(request), LAYER);
    memcpy(copy, bytes->data, LAYER);
    copy[LAYER / 2] ^= 1;
    fl_http_respond(request, 200, NULL, copy, LAYER);
    return true;
}

static bool sends_less(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);

    if (bytes)
        fl_http_respond(request, 200, NULL, bytes->data, LAYER - 1);
    return bytes != NULL;
}

/* Without saying so before. */
static bool sends_more(struct fake *fake, struct fl_http_request *request)
{
    const struct fl_bytes *bytes = large_of(fake, request);

    if (!bytes)
        return false;
    say_part(request, 0);
    (void)fl_http_stream_write(request, bytes->data, LAYER);
    (void)fl_http_stream_write(request, "x", 1);
    fl_http_stream_end(request);
    return true;
}

static void write_on(void *user)
{
    static const char piece[65536];

    while (fl_http_stream_write(user, piece, sizeof(piece)) &&
           fl_http_stream_queued(user) < sizeof(piece))
        continue;
}

static void ignore_end(void *user)
{
    (void)user;
}

/* As long as somebody reads. */
static bool never_ends(struct fake *fake, struct fl_http_request *request)
{
    const char *where = fake->text;

    if (!asks_for(request, "GET", where))
        return false;
    fl_http_stream_begin(request, fake->at > 0 ? (int)fake->at : 200, FL_OCI_MANIFEST);
    fl_http_on_drained(request, write_on, request);
    fl_http_on_gone(request, ignore_end, NULL);
    write_on(request);
    return true;
}

static bool answers_status(struct fake *fake, struct fl_http_request *request)
{
    if (fake->times-- <= 0)
        return false;
    if (fake->text)
        fl_http_set_header(request, "Retry-After", fake->text);
    fake_error(request, (int)fake->at, "OOPS");
    return true;
}

static bool redirects(struct fake *fake, struct fl_http_request *request)
{
    if (!asks_for(request, "GET", "/blobs/") && !asks_for(request, "HEAD", "/blobs/"))
        return false;
    fl_http_set_header(
        request, "Location",
        fl_arena_printf(fl_http_arena(request), "%s%s", fake->text, fl_http_target(request)));
    fl_http_respond(request, 307, NULL, NULL, 0);
    return true;
}

static bool redirects_content(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "PUT") && !is_method(request, "PATCH"))
        return false;
    fl_http_set_header(
        request, "Location",
        fl_arena_printf(fl_http_arena(request), "%s%s", fake->text, fl_http_target(request)));
    fl_http_respond(request, 307, NULL, NULL, 0);
    return true;
}

static bool sends_content_elsewhere(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "POST"))
        return false;
    fl_http_set_header(
        request, "Location",
        fl_arena_printf(fl_http_arena(request), "%s/v2/a/blobs/uploads/u1", fake->text));
    fl_http_respond(request, 202, NULL, NULL, 0);
    return true;
}

static void misbehave(struct test *test, fake_mischief_fn *mischief, int times, int64_t at,
                      const char *text)
{
    fake_misbehave(&test->fake, mischief, times);
    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.at = at;
    test->fake.text = text;
    (void)pthread_mutex_unlock(&test->fake.lock);
    test->err = (struct fl_error){0};
}

static int requests(struct test *test)
{
    return fake_count(&test->fake, &test->fake.requests);
}

/* --- downloads --- */

static void test_broken_downloads_go_on(void **state)
{
    struct test *test = *state;

    misbehave(test, breaks_off, 3, 0, NULL);
    assert_int_equal(pull(test), 0);
    assert_int_equal(fl_blobs_stats(test->there.blobs).count, 4);
}

static void test_answers_that_end_early_go_on(void **state)
{
    struct test *test = *state;

    misbehave(test, ends_early, 3, 0, NULL);
    assert_int_equal(pull(test), 0);
}

static void test_all_came_before_it_broke(void **state)
{
    struct test *test = *state;

    misbehave(test, breaks_after_all, 0, 0, NULL);
    assert_int_equal(pull(test), 0);
}

static void test_stalled_downloads_go_on(void **state)
{
    struct test *test = *state;

    reopen(test, (struct fl_registry_options){.quiet_ms = 300});
    misbehave(test, stalls, 2, 0, NULL);
    assert_int_equal(pull(test), 0);
}

static void test_without_ranges_all_comes_again(void **state)
{
    struct test *test = *state;

    misbehave(test, ignores_ranges, 2, 0, NULL);
    assert_int_equal(pull(test), 0);
}

static void test_downloads_that_always_break_end(void **state)
{
    struct test *test = *state;

    misbehave(test, breaks_off, 1000, 0, NULL);
    assert_int_equal(pull(test), FL_E_UNAVAILABLE);
    assert_int_equal(fl_blobs_stats(test->there.blobs).count, 1); /* the configuration */
    misbehave(test, NULL, 0, 0, NULL);
    assert_int_equal(pull(test), 0);
}

static void test_another_part_is_not_taken(void **state)
{
    struct test *test = *state;

    misbehave(test, sends_another_part, 1, 0, NULL);
    assert_int_equal(pull(test), FL_E_UNAVAILABLE);
}

static void test_lies_about_content(void **state)
{
    static const struct {
        fake_mischief_fn *mischief;
        const char *words;
    } cases[] = {
        {flips_a_byte, "the content is"},
        {sends_less, "199999"},
        {sends_more, "more came"},
    };
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        misbehave(test, cases[i].mischief, 0, 0, NULL);
        assert_int_equal(pull(test), FL_E_INVALID);
        assert_non_null(strstr(test->err.msg, cases[i].words));
        assert_int_equal(fl_blobs_stats(test->there.blobs).count, 1);
        assert_true(fake_count(&test->fake, &test->fake.gets) <= 1); /* not asked for again */
    }
}

static void test_endless_bodies(void **state)
{
    struct test *test = *state;

    misbehave(test, never_ends, 0, 200, "/blobs/");
    assert_int_equal(pull(test), FL_E_INVALID);
    misbehave(test, never_ends, 0, 200, "/manifests/");
    assert_int_equal(pull(test), FL_E_TOO_LARGE);
    misbehave(test, never_ends, 0, 503, "/manifests/");
    assert_int_equal(pull(test), FL_E_TOO_LARGE);
    assert_int_equal(requests(test), 1);
}

static void test_deadline_of_all(void **state)
{
    struct test *test = *state;

    reopen(test, (struct fl_registry_options){.total_ms = 700, .quiet_ms = 300});
    misbehave(test, never_answers, 0, 0, NULL);
    assert_int_equal(pull(test), FL_E_TIMEOUT);
    assert_int_equal(push(test), FL_E_TIMEOUT);
}

/* --- tries --- */

static void test_what_passes_is_tried_again(void **state)
{
    static const int statuses[] = {408, 429, 500, 502, 503, 504};
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(statuses); i++) {
        misbehave(test, answers_status, 3, statuses[i], NULL);
        assert_int_equal(pull(test), 0);
        misbehave(test, answers_status, 100, statuses[i], "0");
        assert_true(pull(test) < 0);
        assert_int_equal(requests(test), 4);
    }
}

static void test_what_does_not_pass_is_not(void **state)
{
    static const int statuses[] = {400, 401, 403, 404, 405, 410, 413, 415, 418, 451, 501};
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(statuses); i++) {
        misbehave(test, answers_status, 100, statuses[i], "1");
        assert_true(pull(test) < 0);
        assert_int_equal(requests(test), 1);
    }
}

static void test_delays_beyond_the_deadline_are_not_waited_for(void **state)
{
    struct test *test = *state;

    reopen(test, (struct fl_registry_options){.total_ms = 30000});
    misbehave(test, answers_status, 100, 429, "86400");
    assert_int_equal(pull(test), FL_E_TIMEOUT);
    assert_non_null(strstr(test->err.msg, "429"));
    assert_int_equal(requests(test), 1);
}

static bool stop_at_once(void *user, const char *what, int64_t done, int64_t total)
{
    (void)what;
    (void)done;
    (void)total;
    return --*(int *)user > 0;
}

static void test_broken_off_by_the_caller(void **state)
{
    struct test *test = *state;
    const struct fl_image_reference reference = {.repository = "a", .tag = "latest"};
    int left = 4;
    const struct fl_registry_progress progress = {stop_at_once, &left};
    struct fl_oci_taken taken;

    misbehave(test, NULL, 0, 0, NULL);
    assert_int_equal(fl_registry_pull(test->registry, &reference, NULL, 0, test->there.blobs,
                                      &progress, test->arena, &taken, &test->err),
                     FL_E_UNAVAILABLE);
    store_check_clean(&test->there);
    assert_true(requests(test) <= 4);

    assert_int_equal(pull(test), 0); /* and where all is there */
    for (int steps = 1;; steps++) {  /* at each moment at which it can be */
        int r;

        left = steps;
        r = fl_registry_pull(test->registry, &reference, NULL, 0, test->there.blobs, &progress,
                             test->arena, &taken, &test->err);
        if (r == 0)
            break;
        store_check_clean(&test->there);
        assert_true(steps < 1000);
    }
    fl_oci_unpin(test->there.blobs, &taken);
}

/* --- room --- */

static void test_no_room(void **state)
{
    struct test *test = *state;

    store_close(&test->there);
    store_open(&test->there, (int64_t)LAYER / 2);
    assert_int_equal(pull(test), FL_E_TOO_LARGE);
    assert_int_equal(fake_count(&test->fake, &test->fake.gets), 2);
}

/* As on a full disk, a write fails in the middle: that is not the network's fault. */
static void test_writes_that_fail(void **state)
{
    struct test *test = *state;
    struct rlimit old, small;

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){LAYER / 2, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_true(pull(test) < 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(fake_count(&test->fake, &test->fake.gets), 2);
    assert_int_equal(pull(test), 0);
}

/* --- manifests --- */

static void put_text(struct test *test, const char *reference, const char *type, const char *text,
                     size_t len)
{
    struct fl_bytes *bytes = fl_bytes_new(text, len);

    (void)pthread_mutex_lock(&test->fake.lock);
    fake_put_document(&test->fake, "a", reference, type, bytes);
    (void)pthread_mutex_unlock(&test->fake.lock);
    fl_bytes_unref(bytes);
}

static void test_manifests_that_are_none(void **state)
{
    struct test *test = *state;
    const size_t large = FL_OCI_MANIFEST_MAX + 1;
    char *text = fl_alloc(test->arena, large);

    memset(text, ' ', large);
    put_text(test, "latest", FL_OCI_MANIFEST, text, large);
    assert_int_equal(pull(test), FL_E_TOO_LARGE);
    put_text(test, "latest", FL_OCI_MANIFEST, "{", 1);
    assert_int_equal(pull(test), FL_E_INVALID);
    put_text(test, "latest", "text/html", "<html>", 6);
    assert_true(pull(test) < 0);
    put_text(test, "latest", FL_OCI_MANIFEST, "", 0);
    assert_int_equal(pull(test), FL_E_INVALID);
}

static void test_manifests_that_are_others(void **state)
{
    struct test *test = *state;
    const char *digest = "sha256:0123456789012345678901234567890123456789012345678901234567890123";

    put_text(test, digest, FL_OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[]}", 34);
    assert_int_equal(pull_named(test, NULL, digest), FL_E_INVALID);
}

/* An index can name itself only where digests are not checked. */
static void test_an_index_that_contains_itself(void **state)
{
    struct test *test = *state;
    const char *digest = "sha256:0123456789012345678901234567890123456789012345678901234567890123";
    const char *text = fl_arena_printf(test->arena,
                                       "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"%s\","
                                       "\"digest\":\"%s\",\"size\":215}]}",
                                       FL_OCI_INDEX, digest);

    put_text(test, "latest", FL_OCI_INDEX, text, strlen(text));
    put_text(test, digest, FL_OCI_INDEX, text, strlen(text));
    assert_int_equal(pull(test), FL_E_INVALID);
    assert_true(requests(test) < 10);
}

static void test_indexes_that_nest(void **state)
{
    struct test *test = *state;
    struct fl_oci_descriptor inner = test->image;

    for (int depth = 1; depth <= 6; depth++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
        const struct fl_oci_manifest index = {
            .is_index = true, .media_type = FL_OCI_INDEX, .layers = {&inner, 1}};

        text = fl_oci_manifest_encode(&index);
        inner = fl_oci_describe(test->arena, FL_OCI_INDEX, text);
        put_text(test, inner.digest, FL_OCI_INDEX, text->data, text->len);
        put_text(test, "latest", FL_OCI_INDEX, text->data, text->len);
        assert_int_equal(pull(test), depth <= FL_OCI_NESTING_MAX ? 0 : FL_E_INVALID);
    }
    assert_non_null(strstr(test->err.msg, "nested"));
}

/* --- redirects --- */

static const char *other_url(struct test *test)
{
    char host[64];

    fake_host(&test->other, host);
    return fl_arena_printf(test->arena, "http://%s", host);
}

static void give_blobs_to_other(struct test *test)
{
    void *cursor = NULL, *value;
    const char *digest;

    while (fl_map_next(test->fake.blobs, &cursor, &digest, &value))
        fl_map_put(test->other.blobs, digest, fl_bytes_ref(value));
}

static void test_redirects_lose_credentials(void **state)
{
    struct test *test = *state;

    give_blobs_to_other(test);
    test->fake.expects = "Bearer secret";
    test->fake.challenge = "Bearer realm=\"x\"";
    reopen(test, (struct fl_registry_options){.bearer_token = "secret"});
    misbehave(test, redirects, 0, 0, other_url(test));
    assert_int_equal(pull(test), 0);
    assert_int_equal(fake_count(&test->other, &test->other.gets), 3);
    assert_int_equal(fake_count(&test->other, &test->other.with_authorization), 0);
    assert_int_equal(fake_count(&test->fake, &test->fake.with_authorization), requests(test));
}

static void test_redirects_for_ever(void **state)
{
    struct test *test = *state;

    misbehave(test, redirects, 0, 0, "");
    assert_int_equal(pull(test), FL_E_INVALID);
    assert_true(requests(test) <= 1 + 6);
    misbehave(test, redirects, 0, 0, "ftp://h");
    assert_int_equal(pull(test), FL_E_INVALID);
}

static void test_redirects_to_plain_text(void **state)
{
    struct test *test = *state;

    give_blobs_to_other(test);
    misbehave(test, redirects, 0, 0, other_url(test));
    assert_int_equal(pull(test), FL_E_INVALID);
    assert_non_null(strstr(test->err.msg, "https to http"));
    assert_int_equal(fake_count(&test->other, &test->other.requests), 0);
}

static void test_content_goes_nowhere_else(void **state)
{
    struct test *test = *state;

    misbehave(test, sends_content_elsewhere, 0, 0, other_url(test));
    assert_int_equal(push(test), FL_E_INVALID);
    assert_non_null(strstr(test->err.msg, "another host"));
    misbehave(test, redirects_content, 0, 0, other_url(test));
    assert_int_equal(push(test), FL_E_INVALID);
    assert_int_equal(fake_count(&test->other, &test->other.requests), 0);
}

/* --- token services --- */

static void challenge(struct test *test, const char *text)
{
    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.expects = "Bearer nobody has it";
    test->fake.challenge = text;
    (void)pthread_mutex_unlock(&test->fake.lock);
}

static void test_passwords_stay(void **state)
{
    struct test *test = *state;

    challenge(test, fl_arena_printf(test->arena, "Bearer realm=\"%s/token\",scope=\"all\"",
                                    other_url(test)));
    reopen(test, (struct fl_registry_options){.username = "me", .password = "hush"});
    assert_int_equal(pull(test), FL_E_UNAUTHORIZED);
    assert_int_equal(fake_count(&test->other, &test->other.tokens), 1);
    assert_int_equal(fake_count(&test->other, &test->other.with_authorization), 0);
    assert_int_equal(fake_count(&test->fake, &test->fake.requests), 2);
    assert_null(strstr(test->err.msg, "hush"));
}

static void test_passwords_go_where_they_may(void **state)
{
    struct test *test = *state;
    char host[64];

    fake_host(&test->other, host);
    challenge(test, fl_arena_printf(test->arena, "Bearer realm=\"%s/token\"", other_url(test)));
    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.expects = "Bearer t1";
    (void)pthread_mutex_unlock(&test->fake.lock);
    reopen(test,
           (struct fl_registry_options){.username = "me", .password = "hush", .token_host = host});
    assert_int_equal(pull(test), 0);
    assert_string_equal(test->other.seen_authorization, "Basic bWU6aHVzaA==");
}

static bool refuses_anonymous(struct fake *fake, struct fl_http_request *request)
{
    (void)fake;
    fake_error(request, 401, "UNAUTHORIZED");
    return true;
}

static void test_says_where_the_password_would_have_to_go(void **state)
{
    struct test *test = *state;

    challenge(test, fl_arena_printf(test->arena, "Bearer realm=\"%s/token\"", other_url(test)));
    fake_misbehave(&test->other, refuses_anonymous, 0);
    reopen(test, (struct fl_registry_options){.username = "me", .password = "hush"});
    assert_int_equal(pull(test), FL_E_UNAUTHORIZED);
    assert_non_null(strstr(test->err.msg, "token host"));
}

static void test_challenges_that_lead_nowhere(void **state)
{
    static const char *const texts[] = {
        "Bearer",
        "Bearer realm=\"\"",
        "Bearer realm=\"file:///etc/passwd\"",
        "Bearer realm=\"http://127.0.0.1:1/token\"",
        "Bearer realm=\"http://user:pass@127.0.0.1/\"",
        "Digest realm=x",
        "((((",
    };
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        challenge(test, texts[i]);
        assert_true(pull(test) < 0);
    }
}

static bool sends_nonsense(struct fake *fake, struct fl_http_request *request)
{
    static const char *const texts[] = {"", "[]", "{\"token\":\"a\\nb\"}", "{\"token\":{}}"};

    fl_http_respond(request, 200, "application/json", texts[fake->times % 4],
                    strlen(texts[fake->times % 4]));
    fake->times++;
    return true;
}

static void test_token_services_that_say_nonsense(void **state)
{
    struct test *test = *state;

    challenge(test, fl_arena_printf(test->arena, "Bearer realm=\"%s/token\"", other_url(test)));
    fake_misbehave(&test->other, sends_nonsense, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pull(test), FL_E_INVALID);
    fake_misbehave(&test->other, never_ends, 0);
    test->other.text = "/token";
    assert_int_equal(pull(test), FL_E_TOO_LARGE);
}

/* --- uploads --- */

static size_t patch_offset(struct fl_http_request *request)
{
    const char *range = fl_http_header(request, "Content-Range");

    return range ? strtoull(range, NULL, 10) : 0;
}

/* Takes a chunk, or half of it, and goes away without a word. */
static bool breaks_after_chunk(struct fake *fake, struct fl_http_request *request)
{
    size_t len;
    const char *body = fl_http_body(request, &len);

    if (!is_method(request, "PATCH") || fake->times <= 0 ||
        patch_offset(request) != fake->upload.len)
        return false;
    fl_buf_append(&fake->upload, body, fake->times-- % 2 ? len : len / 2);
    fl_http_abort(request);
    return true;
}

static bool breaks_before_chunk(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "PATCH") || fake->times-- <= 0)
        return false;
    fl_http_abort(request);
    return true;
}

/* The end has come, and nobody was told. */
static bool breaks_after_end(struct fake *fake, struct fl_http_request *request)
{
    char digest[FL_DIGEST_SIZE];
    size_t len;
    const char *body = fl_http_body(request, &len);

    if (!is_method(request, "PUT") || fake->times-- <= 0)
        return false;
    fl_buf_append(&fake->upload, body, len);
    fl_digest_of(fl_buf_text(&fake->upload), fake->upload.len, digest);
    fl_map_put(fake->blobs, digest, fl_buf_to_bytes(&fake->upload));
    fl_http_abort(request);
    return true;
}

static bool forgets_session(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "PATCH") || patch_offset(request) == 0 || fake->times <= 0)
        return false;
    fake->times--;
    fake_error(request, 404, "BLOB_UPLOAD_UNKNOWN");
    fl_buf_clear(&fake->upload);
    return true;
}

/* Keeps half of each chunk and says so. */
static bool keeps_half(struct fake *fake, struct fl_http_request *request)
{
    size_t len;
    const char *body = fl_http_body(request, &len);

    if (!is_method(request, "PATCH") || patch_offset(request) != fake->upload.len || len < 2)
        return false;
    fl_buf_append(&fake->upload, body, len / 2);
    fake_say_session(fake, request, 202, "a");
    return true;
}

static void test_broken_uploads_go_on(void **state)
{
    static fake_mischief_fn *const mischief[] = {breaks_after_chunk, breaks_before_chunk,
                                                 breaks_after_end, forgets_session, keeps_half};
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(mischief); i++) {
        test->image = store_image(&test->here, test->arena, "amd64", LAYER + 1000 * i, NULL);
        misbehave(test, mischief[i], 2, 0, NULL);
        if (push(test) < 0)
            fail_msg("%zu: %s", i, test->err.msg);
        misbehave(test, NULL, 0, 0, NULL);
        assert_int_equal(pull(test), 0);
    }
}

/* A session is lost after most of a blob: the many chunks that are sent again are no failures. */
static bool forgets_session_late(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "PATCH") || patch_offset(request) < 3 * LAYER - 60000)
        return false;
    return forgets_session(fake, request);
}

static void test_a_session_lost_late(void **state)
{
    struct test *test = *state;

    test->image = store_image(&test->here, test->arena, "amd64", 3 * LAYER, NULL);
    misbehave(test, forgets_session_late, 2, 0, NULL);
    if (push(test) < 0)
        fail_msg("%s", test->err.msg);
    misbehave(test, NULL, 0, 0, NULL);
    assert_int_equal(pull(test), 0);
}

static bool lies_about_range(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "PATCH"))
        return false;
    fl_http_set_header(request, "Range", fake->text);
    fl_http_respond(request, 202, NULL, NULL, 0);
    return true;
}

static void test_offsets_that_lie(void **state)
{
    static const struct {
        const char *range;
        int code;
    } cases[] = {
        {"0-99999999", FL_E_INVALID}, {"0-9223372036854775806", FL_E_INVALID},
        {"7-9", FL_E_INVALID},        {"nonsense", FL_E_INVALID},
        {"0-0", FL_E_UNAVAILABLE}, /* nothing is ever kept */
    };
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        misbehave(test, lies_about_range, 0, 0, cases[i].range);
        assert_int_equal(push(test), cases[i].code);
        assert_true(fake_count(&test->fake, &test->fake.cancels) > 0);
        assert_true(requests(test) < 60);
    }
}

static bool always_416(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "PATCH"))
        return false;
    fake_say_session(fake, request, 416, "a");
    return true;
}

static void test_uploads_that_never_go_on_end(void **state)
{
    struct test *test = *state;

    misbehave(test, always_416, 0, 0, NULL);
    assert_true(push(test) < 0);
    assert_true(requests(test) < 60);
    misbehave(test, forgets_session, 1000000, 0, NULL);
    assert_true(push(test) < 0);
    assert_true(requests(test) < 60);
}

static bool has_no_location(struct fake *fake, struct fl_http_request *request)
{
    if (!is_method(request, "POST"))
        return false;
    if (fake->text)
        fl_http_set_header(request, "Location", fake->text);
    fl_http_respond(request, 202, NULL, NULL, 0);
    return true;
}

static void test_sessions_nowhere(void **state)
{
    static const char *const texts[] = {NULL, "http://", "ftp://h/x", "//other.example/x"};
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        misbehave(test, has_no_location, 0, 0, texts[i]);
        assert_int_equal(push(test), FL_E_INVALID);
    }
}

#define TEST(name)       cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_EMPTY(name) cmocka_unit_test_setup_teardown(name, set_up_empty, tear_down)
#define TEST_TLS(name)   cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_broken_downloads_go_on),
        TEST(test_answers_that_end_early_go_on),
        TEST(test_all_came_before_it_broke),
        TEST(test_stalled_downloads_go_on),
        TEST(test_without_ranges_all_comes_again),
        TEST(test_downloads_that_always_break_end),
        TEST(test_another_part_is_not_taken),
        TEST(test_lies_about_content),
        TEST(test_endless_bodies),
        TEST(test_deadline_of_all),
        TEST(test_what_passes_is_tried_again),
        TEST(test_what_does_not_pass_is_not),
        TEST(test_delays_beyond_the_deadline_are_not_waited_for),
        TEST(test_broken_off_by_the_caller),
        TEST(test_no_room),
        TEST(test_writes_that_fail),
        TEST(test_manifests_that_are_none),
        TEST(test_manifests_that_are_others),
        TEST(test_an_index_that_contains_itself),
        TEST(test_indexes_that_nest),
        TEST(test_redirects_lose_credentials),
        TEST(test_redirects_for_ever),
        TEST_TLS(test_redirects_to_plain_text),
        TEST_EMPTY(test_content_goes_nowhere_else),
        TEST(test_passwords_stay),
        TEST(test_passwords_go_where_they_may),
        TEST(test_says_where_the_password_would_have_to_go),
        TEST(test_challenges_that_lead_nowhere),
        TEST(test_token_services_that_say_nonsense),
        TEST_EMPTY(test_broken_uploads_go_on),
        TEST_EMPTY(test_a_session_lost_late),
        TEST_EMPTY(test_offsets_that_lie),
        TEST_EMPTY(test_uploads_that_never_go_on_end),
        TEST_EMPTY(test_sessions_nowhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
