#include "workloads/trainer/protocol.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static struct fl_buf wire;

static void put(const struct fl_frame *frame, const char *head)
{
    unsigned char header[FL_TRAINER_HEADER_SIZE];

    fl_frame_header(frame, strlen(head), header);
    fl_buf_append(&wire, header, sizeof(header));
    fl_buf_puts(&wire, head);
    if (frame->body)
        fl_buf_append(&wire, frame->body, (size_t)frame->body_size);
}

/* Feeds at most `step` bytes at once; `fd` goes with the first. */
static int feed(struct fl_frame_reader *reader, size_t *at, size_t step, int fd,
                struct fl_frame *ret_frame, struct fl_error *err)
{
    int r = 0;

    while (r == 0 && *at < wire.len) {
        size_t size;
        void *room = fl_frame_reader_room(reader, &size);

        size = size < step ? size : step;
        size = size < wire.len - *at ? size : wire.len - *at;
        memcpy(room, wire.data + *at, size);
        *at += size;
        r = fl_frame_reader_got(reader, size, fd, ret_frame, err);
        fd = -1;
    }
    return r;
}

static void frames_come_in_any_pieces(void **state)
{
    const struct fl_frame fit = {
        .type = FL_FRAME_FIT, .id = 7, .body = (void *)"tensors", .body_size = 7};
    const struct fl_frame stop = {.type = FL_FRAME_STOP, .id = 0xffffffff};
    const struct fl_frame strange = {
        .type = 999, .flags = FL_FRAME_SKIPPABLE, .body = (void *)"skipped", .body_size = 7};

    (void)state;
    for (size_t step = 1; step < 200; step++) {
        FL_CLEANUP(fl_frame_reader_destroyp)
        struct fl_frame_reader *reader = fl_frame_reader_create(100);
        FL_CLEANUP(fl_frame_finish) struct fl_frame first = {.fd = -1}, second = {.fd = -1};
        size_t at = 0;

        fl_buf_clear(&wire);
        put(&strange, "{\"new\":true}");
        put(&fit, "{\"epochs\":3}");
        put(&strange, "");
        put(&stop, "");
        assert_int_equal(feed(reader, &at, step, -1, &first, NULL), 1);
        assert_int_equal(first.type, FL_FRAME_FIT);
        assert_int_equal(first.id, 7);
        assert_int_equal(fl_json_int(first.head, "epochs", 0), 3);
        assert_int_equal(first.body_size, 7);
        assert_memory_equal(first.body, "tensors", 7);
        assert_false(fl_frame_reader_is_within(reader));
        assert_int_equal(feed(reader, &at, step, -1, &second, NULL), 1);
        assert_int_equal(second.type, FL_FRAME_STOP);
        assert_int_equal(second.id, 0xffffffff);
        assert_int_equal(json_object_size(second.head), 0);
        assert_null(second.body);
        assert_int_equal(at, wire.len);
    }
}

static void what_breaks_the_protocol_is_said(void **state)
{
    static const struct {
        struct fl_frame frame;
        const char *head, *message;
    } cases[] = {
        {{.type = 5, .flags = 4}, "", "a frame with the unknown flags 0x4"},
        {{.type = 40}, "", "a frame of the unknown type 40"},
        {{.type = 0}, "", "a frame of the unknown type 0"},
        {{.type = 3, .body_size = 101}, "", "a frame's body of 101 bytes, more than 100"},
        {{.type = 3, .flags = FL_FRAME_DESCRIPTOR}, "", "descriptor did not come with it"},
        {{.type = 3}, "[]", "a frame's head must be an object, not array"},
        {{.type = 3}, "{\"a\"", "a frame's head: "},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_frame_reader_destroyp)
        struct fl_frame_reader *reader = fl_frame_reader_create(100);
        struct fl_frame frame;
        struct fl_error err = {0};
        size_t at = 0;

        fl_buf_clear(&wire);
        put(&cases[i].frame, cases[i].head);
        assert_int_equal(feed(reader, &at, 1000, -1, &frame, &err), FL_E_INVALID);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("\"%s\" instead of \"%s\"", err.msg, cases[i].message);
    }
}

static void garbage_and_lengths(void **state)
{
    FL_CLEANUP(fl_frame_reader_destroyp)
    struct fl_frame_reader *reader = fl_frame_reader_create(100);
    FL_CLEANUP(fl_frame_reader_destroyp)
    struct fl_frame_reader *other = fl_frame_reader_create(100);
    unsigned char header[FL_TRAINER_HEADER_SIZE];
    struct fl_error err = {0};
    struct fl_frame frame = {.type = FL_FRAME_FIT};
    size_t at = 0;

    (void)state;
    fl_buf_clear(&wire);
    fl_buf_puts(&wire, "Epoch 1/5: loss 0.3 accuracy 0.9\n");
    assert_int_equal(feed(reader, &at, 1000, -1, &frame, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "what came is no frame (it begins 45 70 6f 63)");
    frame = (struct fl_frame){.type = FL_FRAME_FIT};
    fl_frame_header(&frame, FL_TRAINER_HEAD_MAX + 1, header);
    fl_buf_clear(&wire);
    fl_buf_append(&wire, header, sizeof(header));
    at = 0;
    assert_int_equal(feed(other, &at, 1000, -1, &frame, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "a frame's head of 1048577 bytes, more than 1048576");
}

static void descriptors_go_with_their_frame(void **state)
{
    FL_CLEANUP(fl_frame_reader_destroyp)
    struct fl_frame_reader *reader = fl_frame_reader_create(100);
    const struct fl_frame fit = {
        .type = FL_FRAME_FIT, .flags = FL_FRAME_DESCRIPTOR, .body_size = 50};
    struct fl_frame frame = {.fd = -1};
    struct fl_error err = {0};
    size_t at = 0;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    fl_buf_clear(&wire);
    put(&fit, "{}");
    assert_int_equal(feed(reader, &at, 5, fd, &frame, &err), 1);
    assert_int_equal(frame.fd, fd);
    assert_null(frame.body);
    assert_int_equal(frame.body_size, 50);
    fl_frame_finish(&frame);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    fl_buf_clear(&wire);
    put(&(struct fl_frame){.type = FL_FRAME_STOP}, "");
    at = 0;
    assert_int_equal(feed(reader, &at, 1000, fd, &frame, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "a descriptor came with a frame that has none");
}

static int end(void **state)
{
    (void)state;
    fl_buf_finish(&wire);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_in_any_pieces),
        cmocka_unit_test(what_breaks_the_protocol_is_said),
        cmocka_unit_test(garbage_and_lengths),
        cmocka_unit_test(descriptors_go_with_their_frame),
    };

    return cmocka_run_group_tests(tests, NULL, end);
}
