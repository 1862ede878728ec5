/* A shim: a small process that holds one program for somebody who may die, and loses nothing of it.
 *
 * It starts the program, writes down its output and its end, takes orders, and when the program has
 * ended kills what that left behind. It lives on when who started it is killed; whoever comes next
 * connects to it and goes on. When the shim itself is killed, its lock comes free and the kernel
 * kills the program; what the program had started is then the next one's to kill (by the control
 * group, or by the mark in the environment).
 *
 * In the folder of a run, all made by the shim but the socket:
 *   status          what happened so far, as JSON, replaced as a whole (struct fl_shim_status)
 *   log, log.1 …    output, a line each: "TIME stdout F text"; P where the line goes on
 *   socket          where orders are taken
 *
 * Secrets (environment, files) reach the shim through memory only; the files are written when the
 * program starts and removed when it has ended.
 *
 * fl_shim_launch and the functions of struct fl_shim: one thread at a time. The rest: any. */
#ifndef FL_LIB_SHIM_H
#define FL_LIB_SHIM_H

#include "lib/cgroup.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FL_SHIM_STATUS   "status"
#define FL_SHIM_LOG      "log"
#define FL_SHIM_CHECKS   3 /* commands that can be run beside the program */
#define FL_SHIM_TAIL_MAX 2048

struct fl_shim_file {
    const char *path; /* relative to the working folder, without ".." */
    const void *data;
    size_t len;
    mode_t mode;
};

struct fl_shim_list {
    const char **items;
    size_t count;
};

/* How a container is held. Then `command` is what starts it (with its output connected, under the
 * working folder, as the shim's own user) and ends soon, leaving the id of the container's first
 * process in `pid_file`; that process is the program, and checks are commands that enter it. Mounts
 * are the shim's own and end with it and the container, whoever is killed. */
#define FL_SHIM_LENT "lent-"

struct fl_shim_container {
    const char *pid_file;       /* absolute; NULL: it is no container */
    const char *error_log;      /* where `command` says in JSON what went wrong */
    struct fl_shim_list remove; /* a command, run when the container has ended */
    /* Working folder in memory, and `root` an overlay: needs root. */
    bool mounts;
    /* The program's first process is `flops-init` (cmd/init), which tells at descriptor 3 how the
     * program itself fares. */
    bool init;
    const char *program; /* for messages */
    const char *root;    /* absolute */
    const char *layers_folder;
    struct fl_shim_list layers; /* folders in it, the highest first */
    const char *changes;        /* a folder for what is written; NULL: in memory, for a little */
    /* With `mounts`: folders that are shown read-only below the working folder as FL_SHIM_LENT N,
     * and their owner's files as those of `user`, where the kernel can do that. */
    struct fl_shim_list lent;
};

/* What to run. */
struct fl_shim_spec {
    const char *folder;          /* of the run; absolute */
    const char *working_folder;  /* absolute */
    struct fl_shim_list command; /* the first is the program's path */
    struct fl_shim_list env;     /* "NAME=value", all there is */
    const char *mark;            /* one of env, that no other process has */
    struct fl_shim_list checks[FL_SHIM_CHECKS];
    struct fl_shim_list owned; /* folders that shall belong to `user` */
    struct fl_shim_file *files;
    size_t file_count;
    struct fl_cgroup cgroup;
    int64_t user; /* id to run as; < 0: the shim's own; of a container: whose its files are */
    bool privileged;
    int64_t log_max_bytes, log_files;
    struct fl_shim_container container;
};

/* The whole of it as bytes. INVALID where it is damaged; `data` must outlive the spec, whose lists
 * then have a NULL behind them. */
struct fl_bytes *fl_shim_spec_encode(const struct fl_shim_spec *spec);
int fl_shim_spec_decode(struct fl_arena *arena, const void *data, size_t len,
                        struct fl_shim_spec *ret_spec, struct fl_error *err);

/* What happened. */
struct fl_shim_status {
    int64_t pid;        /* of the program; 0: none yet */
    int64_t started_us; /* realtime; 0: not yet */
    bool ended;
    bool has_code;
    int64_t code;
    const char *signal; /* "SIGKILL"; NULL */
    bool oom_killed;
    const char *reason;  /* of the end: Completed, Error, Signal, OOMKilled, StartFailed or that of
                            the order that stopped it */
    const char *message; /* why; NULL */
    int64_t ended_us;
    const char *log_tail; /* valid UTF-8, NULL: nothing was written */
};

/* Replaces the file in `folder`; `durable`: also safe from a loss of power. */
int fl_shim_status_write(const char *folder, const struct fl_shim_status *status, bool durable,
                         struct fl_error *err);
/* NOT_FOUND: nothing happened yet. INVALID: damaged. Strings are in the arena. */
int fl_shim_status_read(struct fl_arena *arena, const char *folder,
                        struct fl_shim_status *ret_status, struct fl_error *err);
int fl_shim_status_parse(struct fl_arena *arena, const char *text, size_t len,
                         struct fl_shim_status *ret_status, struct fl_error *err);

/* A shim, as seen from outside. */
struct fl_shim {
    int socket, pidfd; /* readable: an event; has ended */
};

/* Holds the lock that a shim of this file holds while it lives: CONFLICT where one does. The caller
 * closes it, or hands it to fl_shim_launch, which keeps it in the shim. */
int fl_shim_lock(const char *path, int *ret_fd, struct fl_error *err);

/* Starts `argv` (ended by NULL) as the shim of this spec and connects to it. Takes `lock` in any
 * case. UNAVAILABLE for what another time may give. */
int fl_shim_launch(const char *const *argv, const struct fl_shim_spec *spec, int lock,
                   struct fl_shim *ret_shim, struct fl_error *err);
/* Connects to the shim of a run that lives already. NOT_FOUND: none does. */
int fl_shim_connect(const char *folder, struct fl_shim *ret_shim, struct fl_error *err);
void fl_shim_close(struct fl_shim *shim); /* it lives on */

/* What a shim that was killed could not: of `spec`, its working folder and the files' paths. */
void fl_shim_remove_files(const struct fl_shim_spec *spec);

/* Orders. UNAVAILABLE where it does not take any. */
int fl_shim_stop(const struct fl_shim *shim, int signum, int64_t grace_ms, const char *reason,
                 const char *message, struct fl_error *err);
int fl_shim_check(const struct fl_shim *shim, unsigned check, int64_t ticket, int64_t timeout_ms,
                  struct fl_error *err);

enum fl_shim_event_type {
    FL_SHIM_NOTHING,
    FL_SHIM_CHANGED, /* look at the status */
    FL_SHIM_CHECKED,
    FL_SHIM_GONE,
};
enum { FL_SHIM_CHECK_TIMEOUT = -1, FL_SHIM_CHECK_FAILED = -2 };
struct fl_shim_event {
    enum fl_shim_event_type type;
    int64_t ticket, code; /* of CHECKED: exit code, 128 + signal, or one of those above */
};
/* The next event, without waiting. What is not understood is nothing. */
struct fl_shim_event fl_shim_next(const struct fl_shim *shim);

/* Messages, for both sides and their fuzzer. */
#define FL_SHIM_MESSAGE_MAX 2048
struct fl_shim_order {
    bool is_check;
    int signum;
    int64_t grace_ms;
    char reason[64], message[1024];
    unsigned check;
    int64_t ticket, timeout_ms;
};
bool fl_shim_order_parse(const char *text, struct fl_shim_order *ret_order);
bool fl_shim_event_parse(const char *text, struct fl_shim_event *ret_event);

/* The shim's own main: descriptors 3, 4 and 5 as fl_shim_launch gives them. Returns the exit
 * status. */
int fl_shim_main(void);

#endif
