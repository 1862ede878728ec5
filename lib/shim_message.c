/* Messages between a shim and who gives it orders: one packet each, words of text. */
#include "lib/buf.h"
#include "lib/shim.h"
#include "lib/shim_internal.h"
#include "lib/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GRACE_MAX_MS ((int64_t)10 * 366 * 24 * 3600 * 1000)

/* The next word goes to `out`; false where there is none or it does not fit. */
static bool next_word(const char **rest, char *out, size_t size)
{
    size_t len = strcspn(*rest, " ");

    if (len == 0 || len >= size)
        return false;
    memcpy(out, *rest, len);
    out[len] = '\0';
    *rest += len;
    *rest += **rest == ' ';
    return true;
}

static bool next_int(const char **rest, int64_t min, int64_t max, int64_t *ret_value)
{
    char word[24];

    return next_word(rest, word, sizeof(word)) && fl_str_to_int64(word, min, max, ret_value);
}

static bool parse_stop(const char *rest, struct fl_shim_order *order)
{
    int64_t signum;

    if (!next_int(&rest, 1, 64, &signum) || !next_int(&rest, 0, GRACE_MAX_MS, &order->grace_ms) ||
        !next_word(&rest, order->reason, sizeof(order->reason)))
        return false;
    order->signum = (int)signum;
    (void)snprintf(order->message, sizeof(order->message), "%s", rest);
    return true;
}

static bool parse_check(const char *rest, struct fl_shim_order *order)
{
    int64_t check;

    if (!next_int(&rest, 0, FL_SHIM_CHECKS - 1, &check) ||
        !next_int(&rest, 0, INT64_MAX, &order->ticket) ||
        !next_int(&rest, 1, GRACE_MAX_MS, &order->timeout_ms) || *rest)
        return false;
    order->check = (unsigned)check;
    order->is_check = true;
    return true;
}

bool fl_shim_order_parse(const char *text, struct fl_shim_order *ret_order)
{
    struct fl_shim_order order = {0};
    char verb[8];
    bool good;

    if (!next_word(&text, verb, sizeof(verb)))
        return false;
    if (strcmp(verb, "stop") == 0)
        good = parse_stop(text, &order);
    else
        good = strcmp(verb, "check") == 0 && parse_check(text, &order);
    if (good)
        *ret_order = order;
    return good;
}

bool fl_shim_event_parse(const char *text, struct fl_shim_event *ret_event)
{
    struct fl_shim_event event = {.type = FL_SHIM_CHECKED};
    char verb[12];

    if (!next_word(&text, verb, sizeof(verb)))
        return false;
    if (strcmp(verb, "changed") == 0 && !*text)
        event.type = FL_SHIM_CHANGED;
    else if (strcmp(verb, "checked") != 0 || !next_int(&text, 0, INT64_MAX, &event.ticket) ||
             !next_int(&text, FL_SHIM_CHECK_FAILED, 255, &event.code) || *text)
        return false;
    *ret_event = event;
    return true;
}

bool fl_shim_send(int socket, const char *text)
{
    ssize_t n;

    do
        n = send(socket, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n >= 0;
}

/* A peer that closes before it has read everything resets the connection: said once, and before
 * what it had still sent, which counts all the same. */
int fl_shim_receive(int socket, char out[FL_SHIM_MESSAGE_MAX])
{
    ssize_t n;

    do
        n = recv(socket, out, FL_SHIM_MESSAGE_MAX - 1, MSG_DONTWAIT);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        return -1;
    out[n] = '\0';
    return 1;
}

int fl_shim_stop(const struct fl_shim *shim, int signum, int64_t grace_ms, const char *reason,
                 const char *message, struct fl_error *err)
{
    char text[FL_SHIM_MESSAGE_MAX];

    if (grace_ms < 0)
        grace_ms = 0;
    (void)snprintf(text, sizeof(text), "stop %d %" PRId64 " %s %.1000s", signum,
                   grace_ms < GRACE_MAX_MS ? grace_ms : GRACE_MAX_MS, reason,
                   fl_str_or(message, ""));
    return fl_shim_send(shim->socket, text)
               ? 0
               : fl_error_errno(err, errno, "tell the shim to stop its program");
}

int fl_shim_check(const struct fl_shim *shim, unsigned check, int64_t ticket, int64_t timeout_ms,
                  struct fl_error *err)
{
    char text[128];

    (void)snprintf(text, sizeof(text), "check %u %" PRId64 " %" PRId64, check, ticket,
                   timeout_ms > 0 ? timeout_ms : 1);
    return fl_shim_send(shim->socket, text) ? 0
                                            : fl_error_errno(err, errno, "ask the shim to check");
}

struct fl_shim_event fl_shim_next(const struct fl_shim *shim)
{
    struct fl_shim_event event = {FL_SHIM_NOTHING, 0, 0};
    char text[FL_SHIM_MESSAGE_MAX];
    int r;

    while ((r = fl_shim_receive(shim->socket, text)) > 0)
        if (fl_shim_event_parse(text, &event))
            return event;
    if (r < 0)
        event.type = FL_SHIM_GONE;
    return event;
}
