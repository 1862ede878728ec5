#include "api/protobuf.h"

#include "lib/file.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static json_t *decode(const void *data, size_t len)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_protobuf_decode(data, len, &value, &err) < 0)
        fail_msg("%s", err.msg);
    return value;
}

static void assert_json(const json_t *value, const char *expected)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON wanted = json_loads(expected, JSON_DECODE_ANY, NULL);

    assert_non_null(wanted);
    if (!json_equal(value, wanted))
        fail_msg("got    %s\nwanted %s", fl_json_to_string(arena, value), expected);
}

/* Each kind empty and with every field, as client-go (k8s.io/api 0.35) writes it: a line of
 * protobuf in base64 and a line of the JSON that the same client sends. */
static void test_equals_what_client_go_sends_as_json(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *rest, *encoded;
    size_t vectors = 0;

    (void)state;
    assert_int_equal(fl_file_read("api/testdata/protobuf.txt", 1 << 20, &text, NULL), 0);
    rest = text->data;
    while ((encoded = fl_str_next(arena, &rest, '\n')) && *encoded) {
        const char *expected = fl_str_next(arena, &rest, '\n');
        char *data;
        size_t len;

        assert_true(fl_base64_decode(arena, encoded, strlen(encoded), &data, &len));
        {
            FL_JSON value = decode(data, len);

            assert_json(value, expected);
        }
        vectors++;
    }
    assert_int_equal(vectors, 36);
}

/* Bytes and what they are; both fit on a line. */
#define BYTES(text)                         (text), sizeof(text) - 1
#define ENVELOPE(api_version_and_kind, raw) "k8s\0" api_version_and_kind raw
#define NAMESPACE                           "\x0a\x0f\x0a\x02v1\x12\x09Namespace"
#define LEASE                                                                                      \
    "\x0a\x1f\x0a\x16"                                                                             \
    "coordination.k8s.io/v1"                                                                       \
    "\x12\x05Lease"

struct decode_case {
    const char *what, *data;
    size_t len;
    const char *expected;
};

static const struct decode_case decode_cases[] = {
    {"fields of no table, of each wire type, are skipped",
     BYTES(ENVELOPE(NAMESPACE, "\x12\x1e"
                               "\x0a\x03\x0a\x01x"
                               "\xf8\x07\x96\x01"
                               "\xf9\x07"
                               "12345678"
                               "\xfa\x07\x02hi"
                               "\xfd\x07"
                               "1234")),
     "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"x\"},"
     "\"spec\":{},\"status\":{}}"},
    {"members that JSON always has are there though nothing was sent",
     BYTES(ENVELOPE("\x0a\x31\x0a\x17"
                    "authorization.k8s.io/v1"
                    "\x12\x16SelfSubjectRulesReview",
                    "")),
     "{\"apiVersion\":\"authorization.k8s.io/v1\",\"kind\":\"SelfSubjectRulesReview\","
     "\"metadata\":{},\"spec\":{},\"status\":{\"resourceRules\":null,\"nonResourceRules\":null,"
     "\"incomplete\":false}}"},
    {"of a field that is there twice the last counts",
     BYTES(ENVELOPE(NAMESPACE, "\x12\x08"
                               "\x0a\x06\x0a\x01x\x0a\x01y")),
     "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"y\"},"
     "\"spec\":{},\"status\":{}}"},
    {"a pointer keeps its zero",
     BYTES(ENVELOPE(LEASE, "\x12\x06"
                           "\x12\x04"
                           "\x0a\x00\x10\x00")),
     "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{},"
     "\"spec\":{\"holderIdentity\":\"\",\"leaseDurationSeconds\":0}}"},
    {"the epoch is a time, and before it too",
     BYTES(ENVELOPE(LEASE, "\x12\x19"
                           "\x12\x17"
                           "\x1a\x04\x08\x00\x10\x00"
                           "\x22\x0f\x08\xff\xff\xff"
                           "\xff\xff\xff\xff\xff\xff\x01\x10\x80\x88\x7a")),
     "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{},"
     "\"spec\":{\"acquireTime\":\"1970-01-01T00:00:00.000000Z\","
     "\"renewTime\":\"1969-12-31T23:59:59.001999Z\"}}"},
};

static void test_decodes(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(decode_cases); i++) {
        const struct decode_case *c = &decode_cases[i];

        print_message("%s\n", c->what);
        {
            FL_JSON value = decode(c->data, c->len);

            assert_json(value, c->expected);
        }
    }
}

struct refuse_case {
    const char *data;
    size_t len;
    int code;
    const char *message;
};

static const struct refuse_case refuse_cases[] = {
    {BYTES(""), FL_E_BAD_REQUEST, "does not begin"},
    {BYTES("k8s"), FL_E_BAD_REQUEST, "does not begin"},
    {BYTES("{\"kind\":\"Namespace\"}"), FL_E_BAD_REQUEST, "does not begin"},
    {BYTES("k8s\0"), FL_E_UNSUPPORTED_MEDIA, "is not accepted"},
    {BYTES(ENVELOPE("\x0a\x0a\x0a\x02v1\x12\x04Node", "")), FL_E_UNSUPPORTED_MEDIA, "v1 Node"},
    {BYTES(ENVELOPE("\x0a\x0b\x0a\x02v1\x12\x05Lease", "")), FL_E_UNSUPPORTED_MEDIA, "v1 Lease"},
    {BYTES(ENVELOPE(NAMESPACE, "\x1a\x04gzip")), FL_E_BAD_REQUEST, "encoded content"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x10"
                               "\x0a")),
     FL_E_BAD_REQUEST, "cut off"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x02"
                               "\x0a\x05")),
     FL_E_BAD_REQUEST, "cut off"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")), FL_E_BAD_REQUEST,
     "cut off"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
     FL_E_BAD_REQUEST, "too long"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x01\x00")), FL_E_BAD_REQUEST, "out of range"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x02\x0b\x0c")), FL_E_BAD_REQUEST, "unknown wire type"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x02\x08\x01")), FL_E_BAD_REQUEST, "metadata has the wrong"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x06\x0a\x04\x0a\x02"
                               "a\xff")),
     FL_E_BAD_REQUEST, "Namespace: metadata: name: protobuf: a string has a NUL or is not UTF-8"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x06\x0a\x04\x0a\x02"
                               "a\0")),
     FL_E_BAD_REQUEST, "a NUL"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x08\x0a\x06\x5a\x04\x0a\x02"
                               "a\xff")),
     FL_E_BAD_REQUEST, "labels: protobuf: a string"},
    {BYTES(ENVELOPE(LEASE, "\x12\x0f\x12\x0d\x1a\x0b\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")),
     FL_E_BAD_REQUEST, "a time is out of range"},
    {BYTES(ENVELOPE(NAMESPACE, "\x12\x0b\x0a\x09\x8a\x01\x06\x3a\x04\x0a\x02{a")), FL_E_BAD_REQUEST,
     "fieldsV1: protobuf: JSON within"},
};

static void test_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(refuse_cases); i++) {
        const struct refuse_case *c = &refuse_cases[i];
        struct fl_error err = {0};
        json_t *value = NULL;

        assert_int_equal(fl_protobuf_decode(c->data, c->len, &value, &err), c->code);
        assert_null(value);
        if (!strstr(err.msg, c->message))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.msg, c->message);
    }
}

/* A body of 3 MiB that asks for a million conditions, each an object of four members. */
static void test_bounds_what_a_small_body_asks_for(void **state)
{
    static const char head[] = "k8s\0" NAMESPACE "\x12\x85\x80\xc0\x01"
                               "\x1a\x80\x80\xc0\x01";
    const size_t conditions = (size_t)3 << 20;
    struct fl_error err = {0};
    json_t *value = NULL;
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 0);
    fl_buf_append(&buf, head, sizeof(head) - 1);
    for (size_t i = 0; i < conditions / 2; i++)
        fl_buf_append(&buf, "\x12\x00", 2);
    assert_int_equal(fl_protobuf_decode(buf.data, buf.len, &value, &err), FL_E_TOO_LARGE);
    assert_non_null(strstr(err.msg, "more than 200000 values"));
    fl_buf_finish(&buf);
}

/* Cutting a body anywhere, or changing a byte of it, is refused or read, and never more. */
static void test_survives_damage(void **state)
{
    static const char body[] = ENVELOPE(LEASE, "\x12\x17"
                                               "\x0a\x08\x0a\x01x\x5a\x03\x0a\x01"
                                               "a"
                                               "\x12\x0b"
                                               "\x0a\x02me"
                                               "\x22\x05\x08\x80\x08\x10\x07");
    char copy[sizeof(body)];

    (void)state;
    for (size_t i = 0; i < sizeof(body) - 1; i++) {
        json_t *value = NULL;

        if (fl_protobuf_decode(body, i, &value, NULL) == 0)
            json_decref(value);
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(copy, body, sizeof(body));
            copy[i] = (char)(copy[i] ^ (1 << bit));
            value = NULL;
            if (fl_protobuf_decode(copy, sizeof(body) - 1, &value, NULL) == 0)
                json_decref(value);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_what_client_go_sends_as_json),
        cmocka_unit_test(test_decodes),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_bounds_what_a_small_body_asks_for),
        cmocka_unit_test(test_survives_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
