#include "lib/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static char folder[64];

static int enter_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/flops-file-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static void remove_below(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        FL_CLEANUP(fl_freep) char *child = fl_asprintf("%s/%s", path, entry->d_name);

        if (entry->d_name[0] == '.')
            continue;
        if (unlink(child) != 0) {
            remove_below(child);
            (void)rmdir(child);
        }
    }
    if (dir)
        (void)closedir(dir);
}

static int leave_folder(void **state)
{
    (void)state;
    remove_below(folder);
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static size_t count_entries(void)
{
    DIR *dir = opendir(".");
    size_t count = 0;

    while (readdir(dir))
        count++;
    (void)closedir(dir);
    return count - 2;
}

static void test_what_is_written_is_read(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
    FL_CLEANUP(fl_freep) char *data = fl_calloc(1, 100000);
    struct stat st;

    (void)state;
    for (size_t i = 0; i < 100000; i++)
        data[i] = (char)(i * 7);
    for (size_t i = 0; i < FL_COUNT_OF(sizes); i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

        assert_int_equal(fl_file_write("a", data, sizes[i], 0600, NULL), 0);
        assert_int_equal(fl_file_read("a", 100000, &bytes, NULL), 0);
        assert_int_equal(bytes->len, sizes[i]);
        assert_memory_equal(bytes->data, data, sizes[i]);
        assert_int_equal(bytes->data[bytes->len], '\0');
    }
    assert_int_equal(stat("a", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(count_entries(), 1); /* no temporary file is left */
}

static void test_reading_is_bounded(void **state)
{
    struct fl_bytes *bytes = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_file_write("a", "12345", 5, 0644, NULL), 0);
    assert_int_equal(fl_file_read("a", 4, &bytes, &err), FL_E_TOO_LARGE);
    assert_null(bytes);
    assert_int_equal(fl_file_read("a", 5, &bytes, &err), 0);
    fl_bytes_unref(bytes);
    assert_int_equal(fl_file_read("/dev/zero", 100000, &bytes, &err), FL_E_TOO_LARGE);
    assert_int_equal(fl_file_read("none", 5, &bytes, &err), FL_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "none"));
    assert_int_equal(fl_file_read(".", 5, &bytes, &err), FL_E_BAD_REQUEST);
    /* what does not say its size */
    assert_int_equal(fl_file_read("/proc/self/status", 100000, &bytes, &err), 0);
    assert_true(bytes->len > 100);
    fl_bytes_unref(bytes);
}

static void *write_pipe(void *user)
{
    int fd = *(int *)user;

    for (int i = 0; i < 1000; i++)
        assert_int_equal(write(fd, "0123456789", 10), 10);
    (void)close(fd);
    return NULL;
}

static void test_a_pipe_is_read_to_its_end(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    pthread_t thread;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pthread_create(&thread, NULL, write_pipe, &fds[1]), 0);
    assert_int_equal(fl_fd_read(fds[0], 1000000, &bytes, NULL), 0);
    (void)pthread_join(thread, NULL);
    assert_int_equal(bytes->len, 10000);
    (void)close(fds[0]);
}

/* A reader sees one whole content or the other, however often it is replaced. */
static atomic_bool writing;

static void *replace_often(void *user)
{
    char data[9000];

    (void)user;
    for (int i = 0; i < 300; i++) {
        memset(data, 'a' + i % 26, sizeof(data));
        assert_int_equal(fl_file_write("shared", data, sizeof(data), 0644, NULL), 0);
    }
    atomic_store(&writing, false);
    return NULL;
}

static void test_a_replaced_file_is_whole(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(fl_file_write("shared", "", 0, 0644, NULL), 0);
    atomic_store(&writing, true);
    assert_int_equal(pthread_create(&thread, NULL, replace_often, NULL), 0);
    while (atomic_load(&writing)) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

        assert_int_equal(fl_file_read("shared", 100000, &bytes, NULL), 0);
        assert_true(bytes->len == 0 || bytes->len == 9000);
        for (size_t i = 1; i < bytes->len; i++)
            assert_int_equal(bytes->data[i], bytes->data[0]);
    }
    (void)pthread_join(thread, NULL);
}

static void test_a_failed_write_leaves_all_as_it_was(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_error err = {0};
    size_t before;

    (void)state;
    assert_int_equal(fl_file_write("none/a", "x", 1, 0644, &err), FL_E_NOT_FOUND);
    assert_int_equal(fl_dir_ensure("taken/below", 0755, NULL), 0);
    before = count_entries();
    assert_true(fl_file_write("taken", "x", 1, 0644, &err) < 0);
    assert_int_equal(count_entries(), before);
}

static void test_folders_are_made_with_their_parents(void **state)
{
    struct fl_error err = {0};
    struct stat st;

    (void)state;
    assert_int_equal(fl_dir_ensure("a1/b/c", 0700, NULL), 0);
    assert_int_equal(fl_dir_ensure("a1/b/c", 0700, NULL), 0);
    assert_int_equal(fl_dir_ensure("a1//b/d/", 0700, NULL), 0);
    assert_int_equal(fl_dir_ensure("/", 0700, NULL), 0);
    assert_int_equal(stat("a1/b", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat("a1/b/d", &st), 0);
    assert_int_equal(fl_file_write("a1/file", "x", 1, 0644, NULL), 0);
    assert_int_equal(fl_dir_ensure("a1/file", 0700, &err), FL_E_ALREADY_EXISTS);
    assert_true(fl_dir_ensure("a1/file/x", 0700, &err) < 0);
    assert_int_equal(fl_dir_ensure("", 0700, &err), FL_E_BAD_REQUEST);
}

static void test_a_folder_goes_with_all_in_it(void **state)
{
    struct stat st;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_dir_ensure("r1/b/c", 0700, NULL), 0);
    assert_int_equal(fl_dir_ensure("kept", 0700, NULL), 0);
    assert_int_equal(fl_file_write("kept/file", "x", 1, 0600, NULL), 0);
    assert_int_equal(fl_file_write("r1/b/file", "x", 1, 0400, NULL), 0);
    assert_int_equal(symlink("../../kept", "r1/b/way"), 0);
    assert_int_equal(symlink("/nowhere", "r1/dangling"), 0);
    assert_int_equal(fl_dir_empty("none", &err), 0);
    assert_int_equal(fl_dir_ensure("full/of/folders", 0700, &err), 0);
    assert_int_equal(fl_dir_empty("full", &err), 0);
    assert_true(rmdir("full") == 0);
    assert_int_equal(fl_dir_remove("r1", &err), 0);
    assert_int_equal(stat("r1", &st), -1);
    assert_int_equal(stat("kept/file", &st), 0);
    assert_int_equal(fl_dir_remove("r1", &err), 0);
    assert_int_equal(symlink("kept", "way"), 0);
    assert_true(fl_dir_remove("way", &err) < 0);
    assert_true(fl_dir_remove("kept/file", &err) < 0);
    assert_int_equal(stat("kept/file", &st), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_reading_is_bounded, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_a_pipe_is_read_to_its_end, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_a_replaced_file_is_whole, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_a_failed_write_leaves_all_as_it_was, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(test_folders_are_made_with_their_parents, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(test_a_folder_goes_with_all_in_it, enter_folder,
                                        leave_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
