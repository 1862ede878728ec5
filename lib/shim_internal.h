/* Within the shim. */
#ifndef FL_LIB_SHIM_INTERNAL_H
#define FL_LIB_SHIM_INTERNAL_H

#include "lib/shim.h"

#define FL_SHIM_SPEC_FD   3
#define FL_SHIM_SOCKET_FD 4
#define FL_SHIM_LOCK_FD   5
#define FL_SHIM_BACKLOG   16

/* False with errno where nobody took it. */
bool fl_shim_send(int socket, const char *text);
/* > 0: a message; 0: none now; < 0: the other side is gone. */
int fl_shim_receive(int socket, char out[FL_SHIM_MESSAGE_MAX]);

/* The file of the run's folder; "log" where name is that. The caller frees. */
int64_t fl_shim_realtime_us(void);
int64_t fl_shim_monotonic_ms(void);

/* What the program writes, line by line into the log; its end is kept at hand. */
struct fl_shim_output;
/* Never fails: without a log, lines are counted as lost. */
struct fl_shim_output *fl_shim_output_create(const struct fl_shim_spec *spec);
void fl_shim_output_destroy(struct fl_shim_output *output);
enum { FL_SHIM_STDOUT, FL_SHIM_STDERR, FL_SHIM_STREAMS };
void fl_shim_output_take(struct fl_shim_output *output, unsigned stream, const char *data,
                         size_t len);
void fl_shim_output_finish(struct fl_shim_output *output); /* lines without an end, too */
/* The last whole lines, at most FL_SHIM_TAIL_MAX bytes, without NUL; NULL: none. The caller frees.
 */
char *fl_shim_output_tail(const struct fl_shim_output *output);

/* Starts a process of the run; `fds` become 1 and 2, 0 is /dev/null; `to_program` becomes 3 where
 * it is not negative. What went wrong before the program was there is an error with the step. */
int fl_shim_run(const struct fl_shim_spec *spec, const struct fl_shim_list *command,
                const int fds[FL_SHIM_STREAMS], int to_program, pid_t *ret_pid,
                struct fl_error *err);

/* Of a container: its mounts, in a mount namespace that this process moves to. */
int fl_shim_container_mount(const struct fl_shim_spec *spec, struct fl_error *err);
/* Mounts what is lent below the working folder, which is in memory by then. */
int fl_shim_lend(const struct fl_shim_spec *spec, struct fl_error *err);
/* The program, when what starts it has ended well; 0: it does not say. */
pid_t fl_shim_container_pid(const struct fl_shim_spec *spec);
/* Why it has not: always an error. */
int fl_shim_container_problem(const struct fl_shim_spec *spec, struct fl_error *err);

/* The spec's files, and its folders' owner. */
int fl_shim_put_files(const struct fl_shim_spec *spec, struct fl_error *err);

#endif
