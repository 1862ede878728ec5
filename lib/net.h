/* Asking the network whether something is there, and what is to be said to sockets. */
#ifndef FL_LIB_NET_H
#define FL_LIB_NET_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_loop;

/* Whether the port can be bound on this address of the machine (IPv4 or IPv6) just now. Any thread.
 * False with *ret_errnum (may be NULL): EADDRINUSE, EACCES, EADDRNOTAVAIL … */
bool fl_net_port_is_free(const char *address, int64_t port, bool udp, int *ret_errnum);

/* A socket of loopback: nothing is congested there, and BBR, where a machine has it for all, paces
 * what could go at once. Any thread; where it cannot be had, it stays as it is. */
void fl_net_set_loopback(int fd);

/* A question on the loop; the loop's thread. */
struct fl_net_question {
    const char *address; /* "127.0.0.1" */
    int64_t port;
    bool http, tls;   /* a GET of `path`, or only a connection; no certificate is checked */
    const char *path; /* "/healthz" */
    int64_t timeout_ms;
};
struct fl_net_check;
/* `problem` is NULL when the answer was good (a connection; a status from 200 to 399), else what
 * went wrong, for people. The check is over then. */
typedef void fl_net_answer_fn(void *user, const char *problem);
/* Texts are copied. `fn` is called once, not before this returns. */
struct fl_net_check *fl_net_ask(struct fl_loop *loop, const struct fl_net_question *question,
                                fl_net_answer_fn *fn, void *user);
void fl_net_cancel(struct fl_net_check *check); /* no answer any more; NULL is fine */

#endif
