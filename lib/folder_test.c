#include "lib/folder.h"

#include "lib/file.h"
#include "lib/machine.h"
#include "lib/process.h"
#include "lib/str.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants some of the above first */
#include <cmocka.h>

static void knows_what_stays_below(void **state)
{
    static const char *const good[] = {"a", "a/b", ".a", "a..b", "..a", "a/...", "\xc3\xa4"};
    static const char *const bad[] = {"",   "/",    "/a",   "a/",    "a//b", ".",
                                      "..", "a/..", "../a", "a/./b", "a\nb", "a/\x7f"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(good); i++)
        assert_true(fl_path_is_below(good[i]));
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        assert_false(fl_path_is_below(bad[i]));
}

static void makes_labels_of_host_names(void **state)
{
    static const char *const rows[][2] = {
        {"host", "host"},
        {"My_Host.example.org", "my-host"},
        {"-a-", "a"},
        {"", "node"},
        {"...", "node"},
        {"_", "node"},
        {"\xc3\xa4rger", "rger"},
    };
    char label[64];

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        fl_machine_label(rows[i][0], label);
        assert_string_equal(label, rows[i][1]);
    }
}

static void lists_and_links(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char folder[] = "/tmp/flops-folder-XXXXXX";
    struct fl_folder_list list = {0};
    const char *link, *file;

    (void)state;
    assert_non_null(mkdtemp(folder));
    link = fl_arena_printf(arena, "%s/link", folder);
    file = fl_arena_printf(arena, "%s/file", folder);
    assert_int_equal(fl_dir_ensure(fl_arena_printf(arena, "%s/b/c", folder), 0700, NULL), 0);
    assert_int_equal(fl_dir_ensure(fl_arena_printf(arena, "%s/a", folder), 0700, NULL), 0);
    assert_int_equal(fl_file_write(file, "x", 1, 0600, NULL), 0);
    assert_int_equal(fl_folder_link(link, folder, NULL), 0);
    assert_int_equal(fl_folder_link(link, "/tmp", NULL), 0); /* a link is replaced */
    assert_int_equal(fl_folder_link(file, "/tmp", NULL), FL_E_ALREADY_EXISTS);
    assert_int_equal(fl_folder_list(arena, folder, false, 100, &list, NULL), 0);
    assert_int_equal(list.count, 4);
    assert_string_equal(list.names[0], "a");
    assert_string_equal(list.names[3], "link");
    assert_int_equal(fl_folder_list(arena, folder, true, 100, &list, NULL), 0);
    assert_int_equal(list.count, 2);
    assert_int_equal(fl_folder_list(arena, folder, false, 3, &list, NULL), FL_E_TOO_LARGE);
    assert_int_equal(fl_folder_list(arena, "/no/such/folder", false, 3, &list, NULL), 0);
    assert_int_equal(list.count, 0);
    assert_int_equal(fl_dir_remove(folder, NULL), 0);
}

static void holds_processes(void **state)
{
    static const char *const argv[] = {"/bin/sleep", "1000", NULL}, *const env[] = {"MARK=x", NULL},
                             *const nothing[] = {"/no/such/program", NULL};
    struct fl_process_start start = {.argv = argv, .env = env}, bad = {.argv = nothing, .env = env};
    char mark[64];
    const char *const marked[] = {mark, NULL};
    pid_t pids[4];
    int pidfd = -1;

    (void)state;
    (void)snprintf(mark, sizeof(mark), "MARK=%d", (int)getpid());
    start.env = marked;
    assert_int_equal(fl_process_start(&bad, &pidfd, NULL), FL_E_NOT_FOUND);
    assert_int_equal(fl_process_start(&start, &pidfd, NULL), 0);
    for (unsigned i = 0; i < 5000 && fl_process_marked(mark, pids, 4) == 0; i++)
        (void)usleep(1000);
    assert_int_equal(fl_process_marked(mark, pids, 4), 1);
    assert_true(fl_process_begin(pids[0]) > 0);
    assert_true(fl_process_descendants(getpid(), pids, 4) >= 1);
    assert_int_equal(fl_process_session(pids[0], pids, 4), 1);
    assert_false(fl_process_reap(pidfd));
    assert_true(fl_process_signal(pidfd, SIGKILL));
    for (unsigned i = 0; i < 5000 && !fl_process_reap(pidfd); i++)
        (void)usleep(1000);
    assert_false(fl_process_signal(pidfd, 0));
    assert_int_equal(fl_process_marked(mark, pids, 4), 0);
    (void)close(pidfd);
}

static void names_signals(void **state)
{
    char name[FL_SIGNAL_NAME_SIZE];

    (void)state;
    fl_signal_name(SIGKILL, name);
    assert_string_equal(name, "SIGKILL");
    fl_signal_name(63, name);
    assert_string_equal(name, "SIG63");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_stays_below), cmocka_unit_test(makes_labels_of_host_names),
        cmocka_unit_test(lists_and_links),        cmocka_unit_test(holds_processes),
        cmocka_unit_test(names_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
