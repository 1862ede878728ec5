#include "cmd/node.h"

#include "cmd/command.h"
#include "lib/file.h"
#include "lib/str.h"
#include "workloads/steps/steps.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define SECRET_MAX ((size_t)4096)

bool fl_node_parse_listen(struct fl_arena *arena, const char *text, const char **ret_address,
                          uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;

    if (!fl_str_to_uint64(colon ? colon + 1 : text, 65535, &port))
        return false;
    *ret_port = (uint16_t)port;
    if (!colon)
        return true;
    if (*text == '[' && colon > text && colon[-1] == ']')
        *ret_address = fl_arena_strndup(arena, text + 1, (size_t)(colon - text - 2));
    else
        *ret_address = fl_arena_strndup(arena, text, (size_t)(colon - text));
    return **ret_address != '\0';
}

bool fl_node_is_loopback(const char *address)
{
    return fl_str_has_prefix(address, "127.") || strcmp(address, "::1") == 0;
}

bool fl_node_port_from(const char *variable, uint16_t *ret_port)
{
    const char *text = getenv(variable);
    uint64_t port;

    if (!text || !fl_str_to_uint64(text, 65535, &port) || port == 0)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

const char *fl_node_address_from(const char *address)
{
    const char *chosen = getenv("FLOPS_LISTEN");

    return chosen && *chosen ? chosen : address;
}

void fl_node_raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int fl_node_read_secret(struct fl_arena *arena, const char *path, const char **ret_secret,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r;

    *ret_secret = NULL;
    if (!path)
        return 0;
    r = fl_file_read(path, SECRET_MAX, &text, err);
    if (r < 0)
        return r;
    *ret_secret = fl_arena_strndup(arena, text->data, strcspn(text->data, "\r\n"));
    return **ret_secret ? 0 : fl_error_set(err, FL_E_INVALID, "%s is empty", path);
}

struct fl_http_client_options fl_node_http(const struct fl_node_flags *flags)
{
    return (struct fl_http_client_options){.ca_file = flags->ca,
                                           .cert_file = flags->cert,
                                           .key_file = flags->key,
                                           .user_agent = "flops"};
}

static void die_at_step(void *user, const char *step)
{
    struct fl_node_death *death = user;

    if (strcmp(step, death->step) == 0 && atomic_fetch_sub(&death->left, 1) == 1)
        (void)raise(SIGKILL);
}

static int list_steps(void)
{
    for (size_t i = 0; i < FL_STEP_COUNT; i++)
        (void)printf("%-18s %c%c%c  %s\n", fl_steps[i].name,
                     fl_steps[i].who & FL_STEP_ROOT ? 'R' : '-',
                     fl_steps[i].who & FL_STEP_TIER ? 'T' : '-',
                     fl_steps[i].who & FL_STEP_LEARNER ? 'L' : '-', fl_steps[i].what);
    return 0;
}

static bool is_step(const char *name)
{
    for (size_t i = 0; i < FL_STEP_COUNT; i++)
        if (strcmp(fl_steps[i].name, name) == 0)
            return true;
    return false;
}

int fl_node_parse_death(const char *command, struct fl_arena *arena, const char *text,
                        struct fl_node_death *death, struct fl_env *env)
{
    const char *colon = text ? strrchr(text, ':') : NULL;
    uint64_t times = 1;

    if (!text)
        return -1;
    if (strcmp(text, "list") == 0)
        return list_steps();
    if (colon && (!fl_str_to_uint64(colon + 1, INT32_MAX, &times) || times == 0))
        return fl_command_usage(command, "--die-at %s: must be STEP:N", text);
    death->step = colon ? fl_arena_strndup(arena, text, (size_t)(colon - text)) : text;
    if (!is_step(death->step))
        return fl_command_usage(command, "--die-at %s: there is no such step", text);
    atomic_store(&death->left, (long)times);
    env->reached = die_at_step;
    env->reached_user = death;
    return -1;
}
