#include "lib/channel.h"

#include "lib/process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define SOON_MS 30000

static void bytes_and_a_descriptor(void **state)
{
    FL_CLEANUP(fl_fd_closep) int ours = -1, theirs = -1, sealed = -1, got = -1;
    const struct iovec content = {.iov_base = (void *)"model", .iov_len = 5};
    struct iovec parts[] = {{(void *)"he", 2}, {(void *)"llo", 3}};
    struct fl_channel_wait wait = {0};
    char text[16] = {0};
    size_t len;
    int fds[2];

    (void)state;
    assert_int_equal(fl_channel_pair(fds, NULL), 0);
    ours = fds[0], theirs = fds[1];
    assert_int_equal(fl_channel_receive(ours, text, sizeof(text), &len, &got, NULL), 0);
    assert_int_equal(len, 0);
    assert_int_equal(fl_sealed_create("test", &content, 1, &sealed, NULL), 0);
    assert_int_equal(fl_channel_send(ours, parts, 2, sealed, &len, NULL), 0);
    assert_int_equal(len, 5);
    assert_int_equal(parts[1].iov_len, 0);
    wait.fd = theirs;
    assert_int_equal(fl_channel_wait(&wait, 1, SOON_MS), 1);
    assert_true(wait.ready);
    assert_int_equal(fl_channel_receive(theirs, text, sizeof(text), &len, &got, NULL), 0);
    assert_int_equal(len, 5);
    assert_string_equal(text, "hello");
    assert_int_equal(fl_sealed_check(got, 5, NULL), 0);
    assert_int_equal(fl_sealed_check(got, 6, NULL), FL_E_INVALID);
    assert_int_equal(pread(got, text, sizeof(text), 0), 5);
    assert_memory_equal(text, "model", 5);
    assert_true(pwrite(got, "x", 1, 0) < 0);
    assert_true(ftruncate(got, 1) < 0);
}

static void the_end_is_told(void **state)
{
    struct iovec part = {(void *)"x", 1};
    char text[4];
    size_t len;
    int fds[2], fd;

    (void)state;
    assert_int_equal(fl_channel_pair(fds, NULL), 0);
    (void)close(fds[1]);
    assert_int_equal(fl_channel_receive(fds[0], text, sizeof(text), &len, &fd, NULL), 1);
    assert_int_equal(fl_channel_send(fds[0], &part, 1, -1, &len, NULL), FL_E_UNAVAILABLE);
    (void)close(fds[0]);
}

static void a_full_socket_sends_what_it_can(void **state)
{
    FL_CLEANUP(fl_fd_closep) int ours = -1, theirs = -1;
    size_t sent = 0, total = 0, size = (size_t)8 << 20;
    char *data = calloc(1, size);
    struct iovec part = {data, size};
    int fds[2];

    (void)state;
    assert_int_equal(fl_channel_pair(fds, NULL), 0);
    ours = fds[0], theirs = fds[1];
    do {
        assert_int_equal(fl_channel_send(ours, &part, 1, -1, &sent, NULL), 0);
        total += sent;
    } while (sent > 0);
    assert_true(total > 0 && total < size);
    assert_int_equal(part.iov_len, size - total);
    free(data);
}

static void what_can_change_is_refused(void **state)
{
    FL_CLEANUP(fl_fd_closep) int open_memory = memfd_create("open", MFD_ALLOW_SEALING);
    FL_CLEANUP(fl_fd_closep) int file = -1;
    char path[] = "/tmp/flops-channel-XXXXXX";

    (void)state;
    file = mkstemp(path);
    (void)unlink(path);
    assert_true(write(open_memory, "abc", 3) == 3 && write(file, "abc", 3) == 3);
    assert_int_equal(fl_sealed_check(open_memory, 3, NULL), FL_E_INVALID);
    assert_int_equal(fl_sealed_check(file, 3, NULL), FL_E_INVALID);
    assert_int_equal(fl_channel_adopt(file, NULL), FL_E_INVALID);
}

static void a_child_is_heard_and_its_end_known(void **state)
{
    static const char *const argv[] = {"/bin/sh", "-c",
                                       "echo out; echo err >&2; read x <&3; exit 7", NULL};
    static const char *const env[] = {NULL};
    FL_CLEANUP(fl_fd_closep) int ours = -1, output = -1, pidfd = -1;
    struct fl_process_end end = {0};
    struct iovec part = {(void *)"go\n", 3};
    char text[32] = {0};
    size_t used = 0, len;
    int channel[2], pipe_fds[2], r = 0;

    (void)state;
    assert_int_equal(fl_channel_pair(channel, NULL), 0);
    assert_int_equal(fl_pipe_create(pipe_fds, NULL), 0);
    ours = channel[0], output = pipe_fds[0];
    const struct fl_process_start start = {
        .argv = argv, .env = env, .fds = &channel[1], .fd_count = 1, .output = pipe_fds[1]};
    assert_int_equal(fl_process_start(&start, &pidfd, NULL), 0);
    (void)close(channel[1]);
    (void)close(pipe_fds[1]);
    assert_false(fl_process_take_end(pidfd, &end));
    assert_true(fl_process_memory(pidfd) > 0);
    assert_int_equal(fl_channel_send(ours, &part, 1, -1, &len, NULL), 0);
    while (r == 0) {
        struct fl_channel_wait wait = {.fd = output};

        assert_int_equal(fl_channel_wait(&wait, 1, SOON_MS), 1);
        r = fl_pipe_read(output, text + used, sizeof(text) - 1 - used, &len);
        used += len;
    }
    assert_string_equal(text, "out\nerr\n");
    struct fl_channel_wait wait = {.fd = pidfd};
    assert_int_equal(fl_channel_wait(&wait, 1, SOON_MS), 1);
    assert_true(fl_process_take_end(pidfd, &end));
    assert_int_equal(end.status, 7);
    assert_int_equal(end.signum, 0);
    fl_process_signal_group(pidfd, SIGKILL); /* nobody is there any more */
    assert_int_equal(fl_process_memory(pidfd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_a_descriptor),
        cmocka_unit_test(the_end_is_told),
        cmocka_unit_test(a_full_socket_sends_what_it_can),
        cmocka_unit_test(what_can_change_is_refused),
        cmocka_unit_test(a_child_is_heard_and_its_end_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
