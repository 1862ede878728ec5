/* `flops router`: one stable address before inference servers that come and go. */
#include "workloads/route/router.h"
#include "cmd/command.h"
#include "cmd/node.h"
#include "cmd/options.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define TOKENS_MAX_BYTES ((size_t)64 * 1024)
#define DRAIN_MS         30000

static const char help[] =
    "Usage: flops router [options]\n\n"
    "Forwards requests to inference servers, by a table that its controller puts to the admin's\n"
    "address (PUT /v1/routes), and keeps count of how they fare.\n\n"
    "      --listen ADDR:PORT   where clients call (default 127.0.0.1:8080)\n"
    "      --port-env NAME      take the port from this variable\n"
    "      --admin ADDR:PORT    where the controller calls (default 127.0.0.1:0)\n"
    "      --admin-port-env NAME\n"
    "      --admin-token-file FILE   a token that the admin's address asks for\n"
    "      --folder DIR         where the table is kept\n"
    "      --tls-cert FILE, --tls-key FILE   serve TLS\n"
    "      --tokens-file FILE   clients must show one of these bearer tokens, one a line\n"
    "      --ca FILE, --cert FILE, --key FILE   as whom to call servers\n"
    "      --max-body BYTES     largest request (default 8 MiB)\n"
    "      --max-in-flight N    more requests at a time are refused (default 4096)\n"
    "      --timeout D          of one request (default 30s)\n"
    "      --hold D             how long a request waits for a server (default 5s)\n"
    "      --log-level LEVEL    debug, info (the default), warn or error\n"
    "\nThe admin's address without a token is on loopback only.\n"
    "\nExit status: 0 it was told to stop; 1 failed; 2 wrong usage.\n";

struct command {
    const char *listen, *port_env, *admin, *admin_port_env, *admin_token_file, *folder, *tls_cert,
        *tls_key, *tokens_file, *level, *address, *admin_address, *admin_token;
    struct fl_node_flags flags;
    int64_t max_body, max_in_flight, timeout_ms, hold_ms;
    uint16_t port, admin_port;
    const char **tokens;
    size_t token_count;

    struct fl_arena *arena;
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_tls *tls;
    struct fl_router *router;
};

static void command_finish(struct command *command)
{
    fl_router_destroy(command->router);
    fl_loop_destroy(command->loop);
    fl_tls_destroy(command->tls);
    fl_log_destroy(command->env.log);
    fl_arena_destroy(command->arena);
}

static int check(struct command *command)
{
    if (!fl_node_parse_listen(command->arena, command->listen, &command->address, &command->port))
        return fl_command_usage("router", "--listen %s: must be ADDRESS:PORT", command->listen);
    if (!fl_node_parse_listen(command->arena, command->admin, &command->admin_address,
                              &command->admin_port))
        return fl_command_usage("router", "--admin %s: must be ADDRESS:PORT", command->admin);
    if (command->port_env && !fl_node_port_from(command->port_env, &command->port))
        return fl_command_usage("router", "--port-env %s: holds no port", command->port_env);
    if (command->port_env)
        command->address = fl_node_address_from(command->address);
    if (command->admin_port_env &&
        !fl_node_port_from(command->admin_port_env, &command->admin_port))
        return fl_command_usage("router", "--admin-port-env %s: holds no port",
                                command->admin_port_env);
    if (command->admin_port_env)
        command->admin_address = fl_node_address_from(command->admin_address);
    if (!command->tls_cert != !command->tls_key)
        return fl_command_usage("router", "--tls-cert and --tls-key belong together");
    if (!command->admin_token_file && !fl_node_is_loopback(command->admin_address))
        return fl_command_usage("router",
                                "--admin %s: beyond loopback an --admin-token-file is needed",
                                command->admin);
    return -1;
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_NODE_OPTIONS(command->flags),
        {"listen", 0, FL_OPTION_TEXT, &command->listen},
        {"port-env", 0, FL_OPTION_TEXT, &command->port_env},
        {"admin", 0, FL_OPTION_TEXT, &command->admin},
        {"admin-port-env", 0, FL_OPTION_TEXT, &command->admin_port_env},
        {"admin-token-file", 0, FL_OPTION_TEXT, &command->admin_token_file},
        {"folder", 0, FL_OPTION_TEXT, &command->folder},
        {"tls-cert", 0, FL_OPTION_TEXT, &command->tls_cert},
        {"tls-key", 0, FL_OPTION_TEXT, &command->tls_key},
        {"tokens-file", 0, FL_OPTION_TEXT, &command->tokens_file},
        {"max-body", 0, FL_OPTION_INT, &command->max_body},
        {"max-in-flight", 0, FL_OPTION_INT, &command->max_in_flight},
        {"timeout", 0, FL_OPTION_DURATION, &command->timeout_ms},
        {"hold", 0, FL_OPTION_DURATION, &command->hold_ms},
        {"log-level", 0, FL_OPTION_TEXT, &command->level},
    };
    const struct fl_options options = {"router", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("router", "unexpected argument \"%s\"", words.items[0]);
    return check(command);
}

static void stop(void *user)
{
    struct command *command = user;

    fl_loop_stop(command->loop);
}

/* What is under way is answered; a second signal does not wait for it. */
static void drain(void *user)
{
    struct command *command = user;

    fl_router_drain(command->router, DRAIN_MS, stop, command);
}

static int read_tokens(struct command *command, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *rest, *line;
    int r;

    if (!command->tokens_file)
        return 0;
    r = fl_file_read(command->tokens_file, TOKENS_MAX_BYTES, &text, err);
    if (r < 0)
        return r;
    command->tokens = fl_new_array(command->arena, const char *, text->len + 1);
    rest = fl_arena_strndup(command->arena, (const char *)text->data, text->len);
    while ((line = fl_str_next(command->arena, &rest, '\n')))
        if (*line)
            command->tokens[command->token_count++] = line;
    if (command->token_count == 0)
        return fl_error_set(err, FL_E_INVALID, "%s holds no token", command->tokens_file);
    return 0;
}

static int open_router(struct command *command, struct fl_error *err)
{
    const struct fl_router_options options = {.env = &command->env,
                                              .loop = command->loop,
                                              .address = command->address,
                                              .port = command->port,
                                              .tls = command->tls,
                                              .tokens = command->tokens,
                                              .token_count = command->token_count,
                                              .admin_address = command->admin_address,
                                              .admin_port = command->admin_port,
                                              .admin_token = command->admin_token,
                                              .folder = command->folder,
                                              .backend = fl_node_http(&command->flags),
                                              .max_body_bytes = (size_t)command->max_body,
                                              .max_in_flight = (size_t)command->max_in_flight,
                                              .timeout_ms = command->timeout_ms,
                                              .hold_ms = command->hold_ms};

    return fl_router_create(&options, &command->router, err);
}

static int start(struct command *command, struct fl_error *err)
{
    const struct fl_tls_files files = {.cert = command->tls_cert, .key = command->tls_key};
    int r =
        fl_node_read_secret(command->arena, command->admin_token_file, &command->admin_token, err);

    fl_node_raise_file_limit();
    if (r == 0)
        r = read_tokens(command, err);
    if (r == 0 && command->tls_cert)
        r = fl_tls_server_create(&files, &command->tls, err);
    if (r == 0)
        r = fl_loop_create(&command->loop, err);
    if (r == 0)
        r = fl_loop_on_signal(command->loop, SIGTERM, drain, command, err);
    if (r == 0)
        r = fl_loop_on_signal(command->loop, SIGINT, stop, command, err);
    return r < 0 ? r : open_router(command, err);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(command_finish)
    struct command command = {.listen = "127.0.0.1:8080",
                              .address = "127.0.0.1",
                              .admin = "127.0.0.1:0",
                              .admin_address = "127.0.0.1",
                              .level = "info",
                              .arena = fl_arena_create()};
    enum fl_log_level level;
    struct fl_error err = {0};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (!fl_log_level_from_name(command.level, &level))
        return fl_command_usage("router", "--log-level %s: there is no such level", command.level);
    command.env = fl_env_real(fl_log_create(STDERR_FILENO, level, false));
    if (start(&command, &err) < 0)
        return fl_command_fail("router", &err);
    (void)printf("router is ready: port %u, admin port %u\n", fl_router_port(command.router),
                 fl_router_admin_port(command.router));
    (void)fflush(stdout);
    fl_loop_run(command.loop);
    return 0;
}

const struct fl_command fl_command_router = {
    "router", "run the stable address before inference servers", run};
