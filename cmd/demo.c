/* `flops demo`: a federation from nothing to a served model, by the commands that anybody would
 * type, in a temporary folder of which nothing is left. */
#include "cmd/client.h"
#include "cmd/command.h"
#include "cmd/options.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX    24
#define STEP_MS      240000
#define READY_MS     30000
#define STOP_MS      60000
#define LOOK_MS      20
#define OUTPUT_BYTES ((size_t)64 * 1024)

static const char help[] =
    "Usage: flops demo [options]\n\n"
    "Starts a control plane, four learners in two clusters and an aggregator for each, trains on\n"
    "Fashion-MNIST, serves the model, asks it about images it has not seen, and cleans up.\n\n"
    "      --data DIR          Fashion-MNIST's IDX files (default build/data/fashion-mnist; "
    "`hack/get-data.sh`\n"
    "                          fetches them)\n"
    "      --manifest FILE     what is applied (default examples/fashion-mnist.yaml)\n"
    "      --project NAME      the FLProject that it declares (default fashion-mnist)\n"
    "      --keep              stay when all is done, until Ctrl-C, to look around\n"
    "\nExit status: 0; 1 failed; 2 wrong usage.\n";

struct demo {
    const char *data, *manifest, *project;
    bool keep;
    struct fl_arena *arena;
    const char *dir, *program;
    const char *const *env;
    int up; /* pidfds; < 0: none */
    int watch;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signum)
{
    (void)signum;
    interrupted = 1;
}

static const char *in(const struct demo *demo, const char *name)
{
    return fl_arena_printf(demo->arena, "%s/%s", demo->dir, name);
}

/* Children */

static int start(const struct demo *demo, const char *const *argv, int output, int *ret_pidfd,
                 struct fl_error *err)
{
    const struct fl_process_start what = {.argv = argv, .env = demo->env, .output = output};

    return fl_process_start(&what, ret_pidfd, err);
}

/* 0 where it ended well. It is killed at the deadline, and when the user has had enough. */
static int wait_for(int pidfd, int64_t deadline_ms, struct fl_error *err)
{
    struct fl_process_end end = {0};

    for (int64_t waited = 0; !fl_process_take_end(pidfd, &end); waited += LOOK_MS) {
        if (interrupted || waited >= deadline_ms) {
            fl_process_signal_group(pidfd, SIGKILL);
            while (!fl_process_reap(pidfd))
                fl_client_pause(LOOK_MS);
            return fl_error_set(err, interrupted ? FL_E_UNAVAILABLE : FL_E_TIMEOUT, "%s",
                                interrupted ? "interrupted" : "it took too long");
        }
        fl_client_pause(LOOK_MS);
    }
    if (end.signum != 0 || end.status != 0)
        return fl_error_set(err, FL_E_INTERNAL, "the command failed");
    return 0;
}

static int run_words(const struct demo *demo, const char *line, int output, bool shown,
                     struct fl_error *err)
{
    const char *argv[WORDS_MAX + 2] = {demo->program}, *rest = line, *word;
    FL_CLEANUP(fl_fd_closep) int pidfd = -1;
    size_t count = 1;
    int r;

    while (count <= WORDS_MAX && (word = fl_str_next(demo->arena, &rest, ' ')))
        if (*word)
            argv[count++] = word;
    if (shown) {
        (void)printf("\n$ flops %s\n", line);
        (void)fflush(stdout);
    }
    r = start(demo, argv, output, &pidfd, err);
    if (r == 0)
        r = wait_for(pidfd, STEP_MS, err);
    return r < 0 ? fl_error_wrap(err, "flops %s", line) : 0;
}

/* What a user types, with its output. */
static int show(const struct demo *demo, struct fl_error *err, const char *line)
{
    return run_words(demo, line, STDOUT_FILENO, true, err);
}

/* What a command says, without the newline at the end. */
static int ask(const struct demo *demo, const char *line, const char **ret_text,
               struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    FL_CLEANUP(fl_fd_closep)
    int out = open(in(demo, "answer"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = out < 0 ? fl_error_set(err, FL_E_UNAVAILABLE, "no file can be made")
                    : run_words(demo, line, out, false, err);

    if (r == 0)
        r = fl_file_read(in(demo, "answer"), OUTPUT_BYTES, &text, err);
    if (r < 0 || !text)
        return r;
    *ret_text = fl_arena_strndup(demo->arena, (const char *)text->data,
                                 strcspn((const char *)text->data, "\n"));
    return 0;
}

/* The control plane */

static bool is_up(const struct demo *demo)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    return fl_file_read(in(demo, "up.log"), OUTPUT_BYTES, &text, NULL) == 0 &&
           memmem(text->data, text->len, "is ready", strlen("is ready")) != NULL;
}

static int start_up(struct demo *demo, struct fl_error *err)
{
    const char *const argv[] = {demo->program, "up",          "--data-dir", demo->dir,
                                "--listen",    "127.0.0.1:0", NULL};
    FL_CLEANUP(fl_fd_closep)
    int log = open(in(demo, "up.log"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r;

    (void)printf("\n$ flops up --data-dir %s &\n", demo->dir);
    (void)fflush(stdout);
    r = start(demo, argv, log, &demo->up, err);
    for (int64_t waited = 0; r == 0 && !is_up(demo); waited += LOOK_MS) {
        if (waited >= READY_MS || interrupted || !fl_process_signal(demo->up, 0))
            return fl_error_set(err, FL_E_UNAVAILABLE, "the control plane does not start; see %s",
                                in(demo, "up.log"));
        fl_client_pause(LOOK_MS);
    }
    return r;
}

static void end(int *pidfd, int signum)
{
    struct fl_error err = {0};

    if (*pidfd < 0)
        return;
    (void)fl_process_signal(*pidfd, signum);
    interrupted = 0; /* ending is not broken off */
    (void)wait_for(*pidfd, STOP_MS, &err);
    fl_fd_closep(pidfd);
    *pidfd = -1;
}

/* The story */

static int load_data(const struct demo *demo, struct fl_error *err)
{
    int r = show(demo, err,
                 fl_arena_printf(demo->arena,
                                 "data push fashion %s/train-images-idx3-ubyte "
                                 "%s/train-labels-idx1-ubyte",
                                 demo->data, demo->data));

    if (r == 0)
        r = show(demo, err,
                 fl_arena_printf(demo->arena,
                                 "data push fashion-test %s/t10k-images-idx3-ubyte "
                                 "%s/t10k-labels-idx1-ubyte --like fashion",
                                 demo->data, demo->data));
    return r < 0 ? r : show(demo, err, "data partition fashion --learners 4");
}

static int train(struct demo *demo, const char *name, struct fl_error *err)
{
    const char *const argv[] = {demo->program, "get", "flp", name, "--watch", NULL};
    int r = show(demo, err, fl_arena_printf(demo->arena, "apply -f %s", demo->manifest));

    if (r < 0)
        return r;
    (void)printf("\n$ flops get flp %s --watch\n", name);
    (void)fflush(stdout);
    r = start(demo, argv, STDOUT_FILENO, &demo->watch, err);
    if (r == 0)
        r = run_words(demo,
                      fl_arena_printf(demo->arena,
                                      "wait flp/%s --for=condition=Complete --timeout=200s", name),
                      0, false, err);
    end(&demo->watch, SIGKILL);
    if (r < 0)
        (void)show(demo, NULL, fl_arena_printf(demo->arena, "describe flp %s", name));
    return r < 0 ? r : show(demo, err, fl_arena_printf(demo->arena, "get flr,mv,wl"));
}

static int serve(const struct demo *demo, const char *name, struct fl_error *err)
{
    const char *url = NULL;
    int r = show(
        demo, err,
        fl_arena_printf(demo->arena, "wait infs/%s --for=condition=Ready --timeout=60s", name));

    if (r == 0)
        r = show(demo, err, "get infs");
    if (r == 0)
        r = ask(demo, fl_arena_printf(demo->arena, "get infs %s -o jsonpath={.status.url}", name),
                &url, err);
    if (r == 0)
        r = show(demo, err,
                 fl_arena_printf(demo->arena, "predict %s --data fashion-test --protocol v2", url));
    return r < 0 ? r
                 : show(demo, err,
                        fl_arena_printf(demo->arena,
                                        "predict %s --data fashion-test --protocol mlflow", url));
}

static int clean_up(const struct demo *demo, const char *name, struct fl_error *err)
{
    int r = show(demo, err, fl_arena_printf(demo->arena, "delete flp %s", name));

    return r < 0 ? r : show(demo, err, "get wl,infs,mv,flr");
}

static void stay(const struct demo *demo)
{
    (void)printf("\nexport KUBECONFIG=%s/kubeconfig    # Ctrl-C ends it\n", demo->dir);
    (void)fflush(stdout);
    while (!interrupted && fl_process_signal(demo->up, 0))
        fl_client_pause(LOOK_MS);
    interrupted = 0;
}

static int tell(struct demo *demo, struct fl_error *err)
{
    const char *name = demo->project;
    int r = load_data(demo, err);

    if (r == 0)
        r = start_up(demo, err);
    if (r == 0)
        r = train(demo, name, err);
    if (r == 0)
        r = serve(demo, name, err);
    if (r == 0 && demo->keep)
        stay(demo);
    return r < 0 ? r : clean_up(demo, name, err);
}

/* Before and after */

static int parse(struct demo *demo, int argc, char **argv)
{
    const struct fl_option items[] = {
        {"data", 0, FL_OPTION_TEXT, &demo->data},
        {"manifest", 0, FL_OPTION_TEXT, &demo->manifest},
        {"project", 0, FL_OPTION_TEXT, &demo->project},
        {"keep", 0, FL_OPTION_FLAG, &demo->keep},
    };
    const struct fl_options options = {"demo", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, demo->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("demo", "unexpected argument \"%s\"", words.items[0]);
    return -1;
}

static int prepare(struct demo *demo, struct fl_error *err)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    char *dir = fl_arena_strdup(demo->arena, "/tmp/flops-demo-XXXXXX");
    FL_CLEANUP(fl_freep) char *program = realpath("/proc/self/exe", NULL);
    const char **env = fl_new_array(demo->arena, const char *, 4);
    char *home = getenv("HOME"), *path = getenv("PATH");

    if (access(fl_arena_printf(demo->arena, "%s/train-images-idx3-ubyte", demo->data), R_OK) != 0)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "%s: Fashion-MNIST is not there; `hack/get-data.sh` fetches it, or say "
                            "--data DIR",
                            demo->data);
    if (!program || !mkdtemp(dir))
        return fl_error_set(err, FL_E_UNAVAILABLE, "no folder can be made in /tmp");
    demo->dir = dir;
    demo->program = fl_arena_strdup(demo->arena, program);
    env[0] = fl_arena_printf(demo->arena, "FLOPS_DATA_DIR=%s", dir);
    env[1] = fl_arena_printf(demo->arena, "HOME=%s", fl_str_or(home, "/"));
    env[2] = fl_arena_printf(demo->arena, "PATH=%s", fl_str_or(path, "/usr/bin:/bin"));
    demo->env = env;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    return 0;
}

/* What runs outlives a control plane; so what was declared goes first, however it went. */
static void leave(struct demo *demo, bool failed)
{
    struct fl_error err = {0};

    interrupted = 0;
    end(&demo->watch, SIGKILL);
    if (failed && demo->up >= 0)
        (void)run_words(demo, "delete flp --all", STDOUT_FILENO, true, &err);
    end(&demo->up, SIGTERM);
    if (demo->dir && !failed)
        (void)fl_dir_remove(demo->dir, NULL);
    else if (demo->dir)
        (void)printf("\nWhat the control plane said is in %s\n", in(demo, "up.log"));
    fl_arena_destroy(demo->arena);
}

static int run(int argc, char **argv)
{
    struct demo demo = {.data = "build/data/fashion-mnist",
                        .manifest = "examples/fashion-mnist.yaml",
                        .project = "fashion-mnist",
                        .up = -1,
                        .watch = -1,
                        .arena = fl_arena_create()};
    struct fl_error err = {0};
    int status = parse(&demo, argc, argv), r;

    if (status >= 0) {
        fl_arena_destroy(demo.arena);
        return status;
    }
    r = prepare(&demo, &err);
    if (r == 0)
        r = tell(&demo, &err);
    leave(&demo, r < 0);
    if (r < 0)
        return fl_command_fail("demo", &err);
    (void)printf("\nDone: the control plane is stopped, and nothing is left behind.\n");
    return 0;
}

const struct fl_command fl_command_demo = {"demo", "a federation, from nothing to a served model",
                                           run};
