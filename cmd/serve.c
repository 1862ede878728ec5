/* `flops serve`: a model over HTTP. */
#include "workloads/serve/serve.h"
#include "cmd/command.h"
#include "cmd/node.h"
#include "cmd/options.h"
#include "cmd/training.h"
#include "lib/digest.h"
#include "lib/log.h"
#include "lib/machine.h"
#include "lib/str.h"
#include "workloads/tensor/kernels.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRAIN_MS    30000
#define TIMEOUT_MS  30000
#define THREADS_MAX 64

static const char help[] =
    "Usage: flops serve --model FILE [options] [-- PROGRAM [ARG...]]\n"
    "       flops serve --model-url URL --digest sha256:… [options] [-- PROGRAM [ARG...]]\n\n"
    "Serves a model: Open Inference Protocol v2 (/v2/models/NAME/infer, also with binary "
    "tensors),\n"
    "MLflow's scoring protocol (/invocations, JSON and CSV), KServe v1 (/v1/models/NAME:predict),\n"
    "and /metrics.\n\n"
    "      --model FILE, --model-url URL   the model: safetensors of a builtin trainer, or\n"
    "                           any that the PROGRAM knows\n"
    "      --digest sha256:…    what it must be\n"
    "      --token-file FILE    a bearer token to fetch the model with\n"
    "      --ca FILE, --cert FILE, --key FILE   whom to trust, and as whom to fetch\n"
    "      --folder DIR         where the last two fetched models are kept: who is started again\n"
    "                           need not ask for them\n"
    "      --name NAME          of the model in addresses (default \"model\")\n"
    "      --listen ADDR:PORT   (default 127.0.0.1:8080)\n"
    "      --port-env NAME      take the port from this variable\n"
    "      --protocols LIST     OpenInference,MLflow,KServeV1 (default: all)\n"
    "      --tls-cert FILE, --tls-key FILE   serve TLS\n"
    "      --client-token-file FILE   clients must show this bearer token\n"
    "      --admin ADDR:PORT    where the control plane replaces the model: PUT /v1/admin/model\n"
    "                           {\"path\" or \"url\": …, \"digest\": \"sha256:…\"}; without a "
    "token on\n"
    "                           loopback only (default: nowhere)\n"
    "      --admin-port-env NAME, --admin-token-file FILE\n"
    "      --max-body BYTES     largest request (default 8 MiB)\n"
    "      --max-rows N         most rows in a request (default 4096)\n"
    "      --max-concurrency N  more requests at a time are refused: 429 (default 1024)\n"
    "      --max-waiting N      more rows may not wait: 503 (default 65536)\n"
    "      --timeout D          of one request (default 30s)\n"
    "      --threads N          for models whose runs are not quick (default: a processor each, "
    "at\n"
    "                           most 8; with a PROGRAM 2)\n"
    "      --batch-size N       most rows in one run of the model (default 32)\n"
    "      --batch-delay D      how long to wait for others, where there are others\n"
    "      --drain D            how long to answer what is under way when told to stop\n"
    "                           (default 30s)\n"
    "      --log-level LEVEL    debug, info (the default), warn or error\n"
    "\nA PROGRAM predicts with a model that no builtin trainer made: as many processes of it as\n"
    "--threads says. It is started with a socket as descriptor 3 and speaks the protocol of\n"
    "workloads/trainer/protocol.h; flops-trainer does so for Python code (flops-trainer --code "
    "DIR).\n"
    "One that ends or hangs costs what it was asked, and is started again.\n\n"
    "      --program-start D    until it has loaded the model (default 2m)\n"
    "      --program-memory N   MiB that each may have in use (default: any)\n"
    "\nSIGTERM: it is not ready any more, answers what is under way and what still comes on open\n"
    "connections, and ends.\n"
    "\nExit status: 0 it was told to stop, and all was answered; 1 failed; 2 wrong usage.\n";

struct command {
    const char *model, *model_url, *digest, *token_file, *folder, *name, *listen, *port_env,
        *protocol_list, *tls_cert, *tls_key, *client_token_file, *admin, *admin_port_env,
        *admin_token_file, *level, *address, *admin_address, *token, *client_token, *admin_token;
    struct fl_node_flags flags;
    int64_t max_body, max_rows, max_concurrency, max_waiting, timeout_ms, threads, batch_size,
        batch_delay_ms, drain_ms, program_start_ms, program_memory;
    struct fl_words program_words;
    const char **program_argv;
    struct fl_trainer_program program;
    unsigned protocols;
    uint16_t port, admin_port;

    struct fl_arena *arena;
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_tls *tls;
    struct fl_serve *serve;
    int status;
};

static void command_finish(struct command *command)
{
    fl_serve_destroy(command->serve);
    fl_loop_destroy(command->loop);
    fl_tls_destroy(command->tls);
    fl_log_destroy(command->env.log);
    fl_arena_destroy(command->arena);
}

static bool read_protocols(struct command *command)
{
    static const char *const names[] = {"OpenInference", "MLflow", "KServeV1"};
    const char *rest = command->protocol_list, *name;

    while (rest && (name = fl_str_next(command->arena, &rest, ','))) {
        size_t i = 0;

        while (i < FL_COUNT_OF(names) && strcmp(names[i], name) != 0)
            i++;
        if (i == FL_COUNT_OF(names))
            return false;
        command->protocols |= 1U << i;
    }
    return true;
}

static int check_admin(struct command *command)
{
    if (command->admin_port_env && !command->admin)
        command->admin = "127.0.0.1:0";
    if (!command->admin)
        return -1;
    command->admin_address = "127.0.0.1";
    if (!fl_node_parse_listen(command->arena, command->admin, &command->admin_address,
                              &command->admin_port))
        return fl_command_usage("serve", "--admin %s: must be ADDRESS:PORT", command->admin);
    if (command->admin_port_env &&
        !fl_node_port_from(command->admin_port_env, &command->admin_port))
        return fl_command_usage("serve", "--admin-port-env %s: holds no port",
                                command->admin_port_env);
    if (command->admin_port_env)
        command->admin_address = fl_node_address_from(command->admin_address);
    if (!command->admin_token_file && !fl_node_is_loopback(command->admin_address))
        return fl_command_usage(
            "serve", "--admin %s: beyond loopback an --admin-token-file is needed", command->admin);
    return -1;
}

static int check(struct command *command)
{
    if (!command->model == !command->model_url)
        return fl_command_usage("serve", "one of --model and --model-url is needed");
    if (command->digest && !fl_digest_is_valid(command->digest))
        return fl_command_usage("serve", "--digest %s: must be sha256:…", command->digest);
    if (!fl_node_parse_listen(command->arena, command->listen, &command->address, &command->port))
        return fl_command_usage("serve", "--listen %s: must be ADDRESS:PORT", command->listen);
    if (command->port_env && !fl_node_port_from(command->port_env, &command->port))
        return fl_command_usage("serve", "--port-env %s: holds no port", command->port_env);
    if (command->port_env)
        command->address = fl_node_address_from(command->address);
    if (!read_protocols(command))
        return fl_command_usage("serve", "--protocols %s: there is no such protocol",
                                command->protocol_list);
    if (!command->tls_cert != !command->tls_key)
        return fl_command_usage("serve", "--tls-cert and --tls-key belong together");
    if (command->threads > THREADS_MAX)
        return fl_command_usage("serve", "--threads %" PRId64 ": at most %d", command->threads,
                                THREADS_MAX);
    return check_admin(command);
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_NODE_OPTIONS(command->flags),
        {"model", 0, FL_OPTION_TEXT, &command->model},
        {"model-url", 0, FL_OPTION_TEXT, &command->model_url},
        {"digest", 0, FL_OPTION_TEXT, &command->digest},
        {"token-file", 0, FL_OPTION_TEXT, &command->token_file},
        {"folder", 0, FL_OPTION_TEXT, &command->folder},
        {"name", 0, FL_OPTION_TEXT, &command->name},
        {"listen", 0, FL_OPTION_TEXT, &command->listen},
        {"port-env", 0, FL_OPTION_TEXT, &command->port_env},
        {"protocols", 0, FL_OPTION_TEXT, &command->protocol_list},
        {"tls-cert", 0, FL_OPTION_TEXT, &command->tls_cert},
        {"tls-key", 0, FL_OPTION_TEXT, &command->tls_key},
        {"client-token-file", 0, FL_OPTION_TEXT, &command->client_token_file},
        {"admin", 0, FL_OPTION_TEXT, &command->admin},
        {"admin-port-env", 0, FL_OPTION_TEXT, &command->admin_port_env},
        {"admin-token-file", 0, FL_OPTION_TEXT, &command->admin_token_file},
        {"max-body", 0, FL_OPTION_INT, &command->max_body},
        {"max-rows", 0, FL_OPTION_INT, &command->max_rows},
        {"max-concurrency", 0, FL_OPTION_INT, &command->max_concurrency},
        {"max-waiting", 0, FL_OPTION_INT, &command->max_waiting},
        {"threads", 0, FL_OPTION_INT, &command->threads},
        {"drain", 0, FL_OPTION_DURATION, &command->drain_ms},
        {"timeout", 0, FL_OPTION_DURATION, &command->timeout_ms},
        {"batch-size", 0, FL_OPTION_INT, &command->batch_size},
        {"batch-delay", 0, FL_OPTION_DURATION, &command->batch_delay_ms},
        {"program-start", 0, FL_OPTION_DURATION, &command->program_start_ms},
        {"program-memory", 0, FL_OPTION_INT, &command->program_memory},
        {"log-level", 0, FL_OPTION_TEXT, &command->level},
    };
    const struct fl_options options = {"serve", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    command->program_words = words;
    return check(command);
}

static void stop(void *user)
{
    struct command *command = user;

    fl_loop_stop(command->loop);
}

static void drained(void *user)
{
    struct command *command = user;
    const size_t left = fl_serve_unanswered(command->serve);

    if (left > 0) {
        fl_log_warn(command->env.log, "ended before all was answered",
                    FL_INT("left", (int64_t)left));
        command->status = 1;
    }
    fl_loop_stop(command->loop);
}

/* What is under way is answered first. */
static void drain(void *user)
{
    struct command *command = user;

    fl_serve_drain(command->serve, command->drain_ms, drained, command);
}

static void failed(void *user, const struct fl_error *err)
{
    struct command *command = user;

    command->status = fl_command_fail("serve", err);
    fl_loop_stop(command->loop);
}

static int open_serve(struct command *command, struct fl_error *err)
{
    struct fl_serve_options options = {.env = &command->env,
                                       .loop = command->loop,
                                       .address = command->address,
                                       .port = command->port,
                                       .tls = command->tls,
                                       .name = command->name,
                                       .protocols = command->protocols,
                                       .token = command->client_token,
                                       .admin_address = command->admin_address,
                                       .admin_port = command->admin_port,
                                       .admin_token = command->admin_token,
                                       .fetch = fl_node_http(&command->flags),
                                       .folder = command->folder,
                                       .max_body_bytes = (size_t)command->max_body,
                                       .max_rows = (size_t)command->max_rows,
                                       .max_concurrency = (size_t)command->max_concurrency,
                                       .max_waiting = (size_t)command->max_waiting,
                                       .threads = (unsigned)command->threads,
                                       .timeout_ms = command->timeout_ms,
                                       .max_batch = (size_t)command->batch_size,
                                       .batch_delay_ms = command->batch_delay_ms,
                                       .program = command->program_argv ? &command->program : NULL,
                                       .failed = failed,
                                       .user = command};

    options.fetch.bearer_token = command->token;
    return fl_serve_create(&options, &command->serve, err);
}

static void log_line(void *user, const char *line)
{
    const struct command *command = user;

    fl_log_info(command->env.log, "the program says", FL_STR("line", line));
}

/* Each has a processor of its own, as far as there are any: it needs no threads for its sums, but
 * where somebody says so. */
static int find_program(struct command *command, struct fl_error *err)
{
    const struct fl_words *words = &command->program_words;
    const char *path;

    if (words->count == 0)
        return 0;
    path = fl_find_trainer(command->arena, words->items[0]);
    if (!path)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no program \"%s\"", words->items[0]);
    if (command->threads > 1)
        (void)setenv("OMP_NUM_THREADS", "1", 0);
    command->program_argv = fl_new_array(command->arena, const char *, words->count + 1);
    memcpy(command->program_argv, words->items, words->count * sizeof(*words->items));
    command->program_argv[0] = path;
    command->program =
        (struct fl_trainer_program){.argv = command->program_argv,
                                    .environ = (const char *const *)environ,
                                    .start_timeout_ms = command->program_start_ms,
                                    .silence_timeout_ms = command->timeout_ms,
                                    .max_memory_bytes = (uint64_t)command->program_memory << 20,
                                    .output = log_line,
                                    .user = command};
    return 0;
}

static int read_secrets(struct command *command, struct fl_error *err)
{
    const struct {
        const char *path, **value;
    } secrets[] = {{command->token_file, &command->token},
                   {command->client_token_file, &command->client_token},
                   {command->admin_token_file, &command->admin_token}};
    int r = 0;

    for (size_t i = 0; i < FL_COUNT_OF(secrets) && r == 0; i++)
        r = fl_node_read_secret(command->arena, secrets[i].path, secrets[i].value, err);
    return r;
}

/* Each process of a program has a framework in memory of its own. */
static int64_t default_threads(bool programs)
{
    const int64_t cpus = fl_machine_get("/").cpus, most = programs ? 2 : 8;

    return cpus < 1 ? 1 : cpus > most ? most : cpus;
}

static int start(struct command *command, struct fl_error *err)
{
    const struct fl_tls_files files = {.cert = command->tls_cert, .key = command->tls_key};
    int r = read_secrets(command, err);

    fl_node_raise_file_limit();
    if (r == 0 && fl_kernels_init(err) < 0 && command->program_words.count == 0)
        r = err->code; /* images of code need not have what the program's own models want */
    if (command->threads == 0)
        command->threads = default_threads(command->program_words.count > 0);
    if (r == 0)
        r = find_program(command, err);
    if (r == 0 && command->tls_cert)
        r = fl_tls_server_create(&files, &command->tls, err);
    if (r == 0)
        r = fl_loop_create(&command->loop, err);
    if (r == 0)
        r = fl_loop_on_signal(command->loop, SIGTERM, drain, command, err);
    if (r == 0)
        r = fl_loop_on_signal(command->loop, SIGINT, stop, command, err);
    return r < 0 ? r : open_serve(command, err);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(command_finish)
    struct command command = {.listen = "127.0.0.1:8080",
                              .timeout_ms = TIMEOUT_MS,
                              .address = "127.0.0.1",
                              .level = "info",
                              .drain_ms = DRAIN_MS,
                              .arena = fl_arena_create()};
    enum fl_log_level level;
    struct fl_error err = {0};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (!fl_log_level_from_name(command.level, &level))
        return fl_command_usage("serve", "--log-level %s: there is no such level", command.level);
    command.env = fl_env_real(fl_log_create(STDERR_FILENO, level, false));
    if (start(&command, &err) < 0)
        return fl_command_fail("serve", &err);
    fl_serve_load(command.serve, fl_str_or(command.model, command.model_url), command.digest);
    (void)printf("serve is listening: %s://%s:%u", command.tls ? "https" : "http", command.address,
                 fl_serve_port(command.serve));
    if (command.admin)
        (void)printf(", admin port %u", fl_serve_admin_port(command.serve));
    (void)printf("\n");
    (void)fflush(stdout);
    fl_loop_run(command.loop);
    return command.status;
}

const struct fl_command fl_command_serve = {"serve", "serve a model over HTTP", run};
