/* Processes of the machine: starting one with exactly the descriptors it shall have, holding on to
 * one by a descriptor (a pid may be given to somebody else, a pidfd cannot), and finding what else
 * belongs to it.
 *
 * Everything that this opens is close-on-exec. A pidfd is the caller's to close. Any thread. */
#ifndef FL_LIB_PROCESS_H
#define FL_LIB_PROCESS_H

#include "lib/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fl_process_start {
    const char *const *argv; /* ended by NULL; argv[0] is the program's path */
    const char *const *env;  /* ended by NULL; all that the program gets */
    const int *fds;          /* become 3, 4, …; 0, 1 and 2 are /dev/null, nothing else is open */
    size_t fd_count;
    int output; /* becomes 1 and 2; 0: /dev/null, too */
};
#define FL_PROCESS_FDS_MAX 8

/* Starts it in a session of its own with all signals as they are by default, and without copying
 * the caller's memory. What cannot be executed is an error, not a process. The caller reaps it. */
int fl_process_start(const struct fl_process_start *start, int *ret_pidfd, struct fl_error *err);

/* A pidfd of a process, somebody else's too. NOT_FOUND: gone. */
int fl_process_open(pid_t pid, int *ret_pidfd, struct fl_error *err);
/* False where it has ended. Signal 0 asks only. */
bool fl_process_signal(int pidfd, int signum);
/* Takes the exit of a child that has ended. False: it still runs, or is none of ours. */
bool fl_process_reap(int pidfd);

/* The same, and how it ended. */
struct fl_process_end {
    int status; /* of exit; -1: a signal */
    int signum; /* 0: exited */
};
bool fl_process_take_end(int pidfd, struct fl_process_end *ret_end);
/* Of a process that was started here and not reaped yet: everyone in its group gets the signal. */
void fl_process_signal_group(int pidfd, int signum);
/* Bytes of memory it has in use. 0: it is gone. */
uint64_t fl_process_memory(int pidfd);

/* When the process began, in ticks since boot: with its pid it names the process for ever. 0: there
 * is none. */
uint64_t fl_process_begin(pid_t pid);

/* Those that a process began, and those that these began, as long as all in between live. Zombies
 * are left out. Returns how many there are, of which at most `max` are written. */
size_t fl_process_descendants(pid_t pid, pid_t *out, size_t max);
/* Those of a session. */
size_t fl_process_session(pid_t session, pid_t *out, size_t max);
/* Those in whose environment at their start stood exactly `entry` ("NAME=value"). */
size_t fl_process_marked(const char *entry, pid_t *out, size_t max);

/* Whether this process may become another user, and see and do all. */
bool fl_process_is_root(void);
/* The capabilities that it has in force, a bit each, as the kernel numbers them. */
uint64_t fl_process_capabilities(void);

/* "SIGKILL"; "SIG42" for one without a name. */
#define FL_SIGNAL_NAME_SIZE 16
void fl_signal_name(int signum, char out[FL_SIGNAL_NAME_SIZE]);

void fl_fd_closep(int *fd); /* for FL_CLEANUP; negative ones are left alone */

#endif
