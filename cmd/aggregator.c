/* `flops aggregator`: collects updates and makes models of them. */
#include "workloads/aggregator/aggregator.h"
#include "cmd/command.h"
#include "cmd/node.h"
#include "cmd/options.h"
#include "lib/log.h"
#include "lib/str.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define LEAVE_MS 2000 /* after it, it goes without a goodbye */

static const char help[] =
    "Usage: flops aggregator --folder DIR [options]\n\n"
    "Runs federated training's rounds: gives tasks and models to learners, takes their updates, "
    "and\n"
    "makes the next model of them. With --parent it is a tier: a learner to the one above. What\n"
    "rounds there are, its controller says (PUT /v1/rounds/N).\n\n"
    "      --folder DIR        where it keeps its journal and models; killed and started again\n"
    "                          over the same folder, it goes on\n"
    "      --listen ADDR:PORT  where to serve (default 127.0.0.1:7070; port 0: any free one)\n"
    "      --port-env NAME     take the port from this variable of the environment\n"
    "      --name ID           its own, stable (default \"root\")\n"
    "      --project NAME      serve this one only\n"
    "      --parent URL        the aggregator above\n"
    "      --token-file FILE   a token that the control interface asks for\n"
    "      --tls-cert FILE, --tls-key FILE   serve TLS\n"
    "      --client-ca FILE    ask everybody for a certificate of this authority\n"
    "      --ca FILE, --cert FILE, --key FILE   as whom to call the parent\n"
    "      --poll D            how long an idle poll is held (default 30s)\n"
    "      --silence D         who is not heard of for so long is dropped (default 90s)\n"
    "      --keep-models N     committed models that are kept (default 2)\n"
    "      --uploads N         updates on their way at a time (default 16)\n"
    "      --chunk-bytes N     updates come in pieces of so many bytes (default 4194304; at least\n"
    "                          1024)\n"
    "      --journal-bytes N   the journal is shortened when it is longer (default 1048576)\n"
    "      --log-level LEVEL   debug, info (the default), warn or error\n"
    "\nWithout a token or --client-ca it listens on loopback only.\n"
    "\nExit status: 0 training is over, or it was told to stop; 1 failed; 2 wrong "
    "usage.\n" FL_NODE_DEATH_HELP;

struct command {
    const char *folder, *listen, *port_env, *name, *project, *parent, *token_file, *tls_cert,
        *tls_key, *client_ca, *level, *address, *token, *die_at;
    struct fl_node_flags flags;
    int64_t poll_ms, silence_ms, keep_models, uploads, chunk_bytes, journal_bytes;
    uint16_t port;

    struct fl_arena *arena;
    struct fl_node_death death;
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_timer *leaving;
    struct fl_tls *tls;
    struct fl_aggregator *aggregator;
};

static void command_finish(struct command *command)
{
    fl_aggregator_close(command->aggregator);
    fl_timer_destroy(command->leaving);
    fl_loop_destroy(command->loop);
    fl_tls_destroy(command->tls);
    fl_log_destroy(command->env.log);
    fl_arena_destroy(command->arena);
}

static int check(struct command *command)
{
    if (!command->folder)
        return fl_command_usage("aggregator", "--folder is missing");
    if (!fl_node_parse_listen(command->arena, command->listen, &command->address, &command->port))
        return fl_command_usage("aggregator", "--listen %s: must be ADDRESS:PORT", command->listen);
    if (command->port_env && !fl_node_port_from(command->port_env, &command->port))
        return fl_command_usage("aggregator", "--port-env %s: holds no port", command->port_env);
    if (command->port_env)
        command->address = fl_node_address_from(command->address);
    if (command->chunk_bytes && (command->chunk_bytes < 1024 || command->chunk_bytes > 1 << 30))
        return fl_command_usage("aggregator", "--chunk-bytes %lld: must be 1024 to 1073741824",
                                (long long)command->chunk_bytes);
    if (!command->tls_cert != !command->tls_key)
        return fl_command_usage("aggregator", "--tls-cert and --tls-key belong together");
    if (command->client_ca && !command->tls_cert)
        return fl_command_usage("aggregator", "--client-ca needs --tls-cert");
    if (!command->token_file && !command->client_ca && !fl_node_is_loopback(command->address))
        return fl_command_usage("aggregator",
                                "--listen %s: beyond loopback a --token-file or --client-ca is "
                                "needed",
                                command->listen);
    return -1;
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_NODE_OPTIONS(command->flags),
        {"folder", 0, FL_OPTION_TEXT, &command->folder},
        {"listen", 0, FL_OPTION_TEXT, &command->listen},
        {"port-env", 0, FL_OPTION_TEXT, &command->port_env},
        {"name", 0, FL_OPTION_TEXT, &command->name},
        {"project", 0, FL_OPTION_TEXT, &command->project},
        {"parent", 0, FL_OPTION_TEXT, &command->parent},
        {"token-file", 0, FL_OPTION_TEXT, &command->token_file},
        {"tls-cert", 0, FL_OPTION_TEXT, &command->tls_cert},
        {"tls-key", 0, FL_OPTION_TEXT, &command->tls_key},
        {"client-ca", 0, FL_OPTION_TEXT, &command->client_ca},
        {"poll", 0, FL_OPTION_DURATION, &command->poll_ms},
        {"silence", 0, FL_OPTION_DURATION, &command->silence_ms},
        {"keep-models", 0, FL_OPTION_INT, &command->keep_models},
        {"uploads", 0, FL_OPTION_INT, &command->uploads},
        {"chunk-bytes", 0, FL_OPTION_INT, &command->chunk_bytes},
        {"journal-bytes", 0, FL_OPTION_INT, &command->journal_bytes},
        {"log-level", 0, FL_OPTION_TEXT, &command->level},
        {"die-at", 0, FL_OPTION_TEXT, &command->die_at},
    };
    const struct fl_options options = {"aggregator", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("aggregator", "unexpected argument \"%s\"", words.items[0]);
    return check(command);
}

static void stop(void *user)
{
    struct command *command = user;

    fl_loop_stop(command->loop);
}

/* Gone at the latest when its parent has had the time to hear of it. */
static void on_stop_signal(void *user)
{
    struct command *command = user;

    fl_timer_arm(command->leaving, LEAVE_MS);
    fl_aggregator_leave(command->aggregator, "it was told to stop");
}

static int open_tls(struct command *command, struct fl_error *err)
{
    const struct fl_tls_files files = {
        .cert = command->tls_cert, .key = command->tls_key, .client_ca = command->client_ca};

    return command->tls_cert ? fl_tls_server_create(&files, &command->tls, err) : 0;
}

static int open_aggregator(struct command *command, struct fl_error *err)
{
    const struct fl_aggregator_program program = {.env = &command->env,
                                                  .loop = command->loop,
                                                  .core = {.id = command->name,
                                                           .project = command->project,
                                                           .poll_ms = command->poll_ms,
                                                           .silence_ms = command->silence_ms,
                                                           .keep_models = command->keep_models,
                                                           .max_uploads = command->uploads,
                                                           .chunk_bytes = command->chunk_bytes,
                                                           .journal_bytes = command->journal_bytes},
                                                  .parent = command->parent,
                                                  .parent_http = fl_node_http(&command->flags),
                                                  .folder = command->folder,
                                                  .address = command->address,
                                                  .port = command->port,
                                                  .tls = command->tls,
                                                  .client_certificates = command->client_ca != NULL,
                                                  .token = command->token,
                                                  .max_connections = 65536,
                                                  .stopped = stop,
                                                  .user = command};

    return fl_aggregator_open(&program, &command->aggregator, err);
}

static int start(struct command *command, struct fl_error *err)
{
    int r = fl_node_read_secret(command->arena, command->token_file, &command->token, err);

    fl_node_raise_file_limit();
    if (r == 0)
        r = open_tls(command, err);
    if (r == 0)
        r = fl_loop_create(&command->loop, err);
    if (r < 0)
        return r;
    command->leaving = fl_timer_create(command->loop, stop, command);
    if (r == 0)
        r = fl_loop_on_signal(command->loop, SIGTERM, on_stop_signal, command, err);
    if (r == 0)
        r = fl_loop_on_signal(command->loop, SIGINT, on_stop_signal, command, err);
    return r < 0 ? r : open_aggregator(command, err);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(command_finish)
    struct command command = {.listen = "127.0.0.1:7070",
                              .address = "127.0.0.1",
                              .name = "root",
                              .level = "info",
                              .arena = fl_arena_create()};
    enum fl_log_level level;
    struct fl_error err = {0};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (!fl_log_level_from_name(command.level, &level))
        return fl_command_usage("aggregator", "--log-level %s: there is no such level",
                                command.level);
    command.env = fl_env_real(fl_log_create(STDERR_FILENO, level, false));
    status = fl_node_parse_death("aggregator", command.arena, command.die_at, &command.death,
                                 &command.env);
    if (status >= 0)
        return status;
    if (start(&command, &err) < 0)
        return fl_command_fail("aggregator", &err);
    (void)printf("aggregator %s is ready: %s://%s%s%s:%u\n", command.name,
                 command.tls ? "https" : "http", strchr(command.address, ':') ? "[" : "",
                 command.address, strchr(command.address, ':') ? "]" : "",
                 fl_aggregator_port(command.aggregator));
    (void)fflush(stdout);
    fl_loop_run(command.loop);
    return 0;
}

const struct fl_command fl_command_aggregator = {"aggregator", "run an aggregator of a training",
                                                 run};
