/* `flops up`: the control plane, in one process. */
#include "api/gen/crds_embedded.h"
#include "cmd/command.h"
#include "cmd/controllers.h"
#include "cmd/credentials.h"
#include "controller/apiserver/apiserver.h"
#include "controller/apiserver/capability.h"
#include "controller/content/content.h"
#include "controller/registry/registry.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/str.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAIN_MS 5000

static const char help[] =
    "Usage: flops up [options]\n\n"
    "Runs the control plane until it is told to stop (SIGTERM, Ctrl-C).\n\n"
    "  --data-dir DIR       state, certificates and DIR/kubeconfig (default ~/.flops)\n"
    "  --listen ADDR:PORT   where to serve (default 127.0.0.1:6443; port 0: any free one)\n"
    "  --tls-san NAME       one more name or address in the server's certificate (repeatable)\n"
    "  --tls-cert FILE      serve with this certificate (PEM), with --tls-key, instead of one of\n"
    "  --tls-key FILE       the CA in the data directory\n"
    "  --store DRIVER       sqlite (default) or memory (nothing survives)\n"
    "  --content-max-bytes N  bound of the content store (models, images; default: the disk's)\n"
    "  --manifests DIR      apply what is in this folder, and keep it applied\n"
    "  --git URL            apply what is in this repository, and keep it applied; with\n"
    "  --git-branch NAME    its default branch, and\n"
    "  --git-path DIR       all of it, if not said otherwise\n"
    "  --no-controllers     serve the API only: nothing that is declared is acted upon\n"
    "  --no-audit           write no DIR/audit.log\n"
    "  --log-level LEVEL    debug, info (default), warn, error\n"
    "  --log-format FORMAT  text (default on a terminal) or json\n";

struct up_options {
    const char *data_dir, *address, *store, *tls_cert, *tls_key;
    const char *manifests, *git_url, *git_branch, *git_path;
    const char *sans[FL_SANS_MAX];
    size_t san_count;
    uint16_t port;
    int64_t content_max_bytes; /* 0: no bound */
    bool no_audit, no_controllers, json;
    enum fl_log_level level;
};

struct up {
    struct up_options options;
    struct fl_arena *arena;
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_contents *contents;
    struct fl_repositories *repositories;
    unsigned char capability_key[FL_CAPABILITY_KEY_SIZE];
    struct fl_apiserver_raw raws[2];
    struct fl_tls *tls;
    struct fl_apiserver *server;
    struct fl_credentials credentials;
    struct fl_controllers_options controllers_options;
    struct fl_controllers *controllers;
    struct fl_apiserver_subresource logs[FL_CONTROLLERS_LOGS];
    bool stopping, failed;
};

/* "127.0.0.1:6443", "[::1]:6443", "6443" */
static bool parse_listen(struct fl_arena *arena, const char *text, struct up_options *options)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;

    if (!fl_str_to_uint64(colon ? colon + 1 : text, 65535, &port))
        return false;
    options->port = (uint16_t)port;
    if (!colon)
        return true;
    if (*text == '[' && colon > text && colon[-1] == ']')
        options->address = fl_arena_strndup(arena, text + 1, (size_t)(colon - text - 2));
    else
        options->address = fl_arena_strndup(arena, text, (size_t)(colon - text));
    return *options->address != '\0';
}

enum {
    OPT_DATA_DIR = 256,
    OPT_LISTEN,
    OPT_SAN,
    OPT_CERT,
    OPT_KEY,
    OPT_STORE,
    OPT_CONTENT_MAX,
    OPT_MANIFESTS,
    OPT_GIT,
    OPT_GIT_BRANCH,
    OPT_GIT_PATH,
    OPT_NO_CONTROLLERS,
    OPT_NO_AUDIT,
    OPT_LEVEL,
    OPT_FORMAT
};

static const struct option long_options[] = {
    {"data-dir", required_argument, NULL, OPT_DATA_DIR},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"tls-san", required_argument, NULL, OPT_SAN},
    {"tls-cert", required_argument, NULL, OPT_CERT},
    {"tls-key", required_argument, NULL, OPT_KEY},
    {"store", required_argument, NULL, OPT_STORE},
    {"content-max-bytes", required_argument, NULL, OPT_CONTENT_MAX},
    {"manifests", required_argument, NULL, OPT_MANIFESTS},
    {"git", required_argument, NULL, OPT_GIT},
    {"git-branch", required_argument, NULL, OPT_GIT_BRANCH},
    {"git-path", required_argument, NULL, OPT_GIT_PATH},
    {"no-controllers", no_argument, NULL, OPT_NO_CONTROLLERS},
    {"no-audit", no_argument, NULL, OPT_NO_AUDIT},
    {"log-level", required_argument, NULL, OPT_LEVEL},
    {"log-format", required_argument, NULL, OPT_FORMAT},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int take_option(struct up *up, int option)
{
    struct up_options *options = &up->options;

    switch (option) {
    case OPT_DATA_DIR:
        options->data_dir = optarg;
        return 0;
    case OPT_LISTEN:
        return parse_listen(up->arena, optarg, options)
                   ? 0
                   : fl_command_usage("up", "--listen %s: must be ADDRESS:PORT", optarg);
    case OPT_SAN:
        if (options->san_count == FL_SANS_MAX - 4)
            return fl_command_usage("up", "too many --tls-san");
        options->sans[options->san_count++] = optarg;
        return 0;
    case OPT_CERT:
        options->tls_cert = optarg;
        return 0;
    case OPT_KEY:
        options->tls_key = optarg;
        return 0;
    case OPT_STORE:
        options->store = optarg;
        return 0;
    case OPT_CONTENT_MAX:
        return fl_str_to_int64(optarg, 1, INT64_MAX, &options->content_max_bytes)
                   ? 0
                   : fl_command_usage("up", "--content-max-bytes %s: must be a number", optarg);
    case OPT_MANIFESTS:
        options->manifests = optarg;
        return 0;
    case OPT_GIT:
        options->git_url = optarg;
        return 0;
    case OPT_GIT_BRANCH:
        options->git_branch = optarg;
        return 0;
    case OPT_GIT_PATH:
        options->git_path = optarg;
        return 0;
    case OPT_NO_CONTROLLERS:
        options->no_controllers = true;
        return 0;
    case OPT_NO_AUDIT:
        options->no_audit = true;
        return 0;
    case OPT_LEVEL:
        return fl_log_level_from_name(optarg, &options->level)
                   ? 0
                   : fl_command_usage("up", "--log-level %s: unknown", optarg);
    case OPT_FORMAT:
        options->json = strcmp(optarg, "json") == 0;
        return options->json || strcmp(optarg, "text") == 0
                   ? 0
                   : fl_command_usage("up", "--log-format %s: text or json", optarg);
    default:
        return fl_command_usage("up", "unknown option");
    }
}

/* < 0: go on; otherwise the exit status. */
static int parse_options(struct up *up, int argc, char **argv)
{
    int option;

    up->options = (struct up_options){.data_dir = fl_default_data_dir(up->arena),
                                      .address = "127.0.0.1",
                                      .port = 6443,
                                      .store = "sqlite",
                                      .json = !isatty(STDERR_FILENO),
                                      .level = FL_LOG_INFO};
    opterr = 0;
    while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        int status;

        if (option == 'h') {
            (void)fputs(help, stdout);
            return 0;
        }
        status = take_option(up, option);
        if (status)
            return status;
    }
    if (optind < argc)
        return fl_command_usage("up", "unexpected argument \"%s\"", argv[optind]);
    if (!up->options.tls_cert != !up->options.tls_key)
        return fl_command_usage("up", "--tls-cert and --tls-key go together");
    if ((up->options.git_branch || up->options.git_path) && !up->options.git_url)
        return fl_command_usage("up", "--git-branch and --git-path go with --git");
    if (up->options.no_controllers && (up->options.manifests || up->options.git_url))
        return fl_command_usage("up", "--no-controllers leaves nobody for --manifests and --git");
    return -1;
}

/* A GitSync names the folder, whatever the next process' working directory is. */
static int resolve_manifests(struct up *up, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = NULL;

    if (!up->options.manifests)
        return 0;
    path = realpath(up->options.manifests, NULL);
    if (!path)
        return fl_error_errno(err, errno, "--manifests %s", up->options.manifests);
    up->options.manifests = fl_arena_strdup(up->arena, path);
    return 0;
}

/* Each watch is a connection: take what the system allows. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void drained(void *user)
{
    struct up *up = user;

    fl_loop_stop(up->loop);
}

static void controllers_stopped(void *user)
{
    struct up *up = user;

    fl_apiserver_drain(up->server, DRAIN_MS, drained, up);
}

static void on_stop_signal(void *user)
{
    struct up *up = user;

    if (up->stopping) { /* the second time: nothing that was acknowledged is lost by it */
        fl_log_warn(up->env.log, "stopping at once");
        _exit(1);
    }
    up->stopping = true;
    fl_log_info(up->env.log, "stopping");
    if (up->controllers)
        fl_controllers_stop(up->controllers, controllers_stopped, up);
    else
        controllers_stopped(up);
}

static void on_controllers_failed(void *user, const struct fl_error *err)
{
    struct up *up = user;

    fl_log_error(up->env.log, "control loops", FL_STR("error", err->msg));
    up->failed = true;
    if (!up->stopping)
        on_stop_signal(up);
}

static int make_controllers(struct up *up, struct fl_error *err)
{
    up->controllers_options = (struct fl_controllers_options){
        .env = &up->env,
        .loop = up->loop,
        .store = up->store,
        .contents = up->contents,
        .repositories = up->repositories,
        .data_dir = up->options.data_dir,
        .capability_key = up->capability_key,
        .ca_file = up->options.tls_cert ? up->options.tls_cert : up->credentials.ca_cert,
        .manifests = up->options.manifests,
        .git_url = up->options.git_url,
        .git_branch = up->options.git_branch,
        .git_path = up->options.git_path,
        .failed = on_controllers_failed,
        .user = up,
    };
    return fl_controllers_create(&up->controllers_options, &up->controllers, err);
}

static int open_store(struct up *up, struct fl_error *err)
{
    struct fl_store_options options = {
        .env = &up->env,
        .driver = up->options.store,
        .path = fl_arena_printf(up->arena, "%s/store.db", up->options.data_dir),
        .sealed = fl_apiserver_seals,
        .seal_key = up->credentials.seal_key,
    };
    int r = fl_store_open(&options, &up->store, err);

    (void)crypto_generichash(up->capability_key, sizeof(up->capability_key),
                             up->credentials.seal_key, sizeof(up->credentials.seal_key),
                             (const unsigned char *)"flops capability", strlen("flops capability"));
    sodium_memzero(up->credentials.seal_key, sizeof(up->credentials.seal_key));
    return r;
}

static int open_contents(struct up *up, struct fl_error *err)
{
    const struct fl_contents_options options = {
        .env = &up->env,
        .path = fl_arena_printf(up->arena, "%s/content", up->options.data_dir),
        .max_bytes = up->options.content_max_bytes,
    };
    struct fl_repositories_options repositories = {
        .env = &up->env,
        .path = fl_arena_printf(up->arena, "%s/registry.db", up->options.data_dir),
    };
    int r = fl_contents_open(&options, &up->contents, err);

    repositories.contents = up->contents;
    if (r == 0)
        r = fl_repositories_open(&repositories, &up->repositories, err);
    if (r < 0)
        return r;
    up->raws[0] = fl_contents_raw(up->contents);
    up->raws[1] = fl_repositories_raw(up->repositories);
    return 0;
}

static int open_tls(struct up *up, struct fl_error *err)
{
    struct fl_tls_files files = {
        .cert = up->options.tls_cert ? up->options.tls_cert : up->credentials.server_cert,
        .key = up->options.tls_key ? up->options.tls_key : up->credentials.server_key,
        .client_ca = up->credentials.ca_cert,
    };

    return fl_tls_server_create(&files, &up->tls, err);
}

static int start_server(struct up *up, struct fl_error *err)
{
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_apiserver_options options = {
        .env = &up->env,
        .loop = up->loop,
        .store = up->store,
        .tls = up->tls,
        .address = up->options.address,
        .port = up->options.port,
        .token_file = up->credentials.token_file,
        .capability_key = up->capability_key,
        .audit_file = up->options.no_audit
                          ? NULL
                          : fl_arena_printf(up->arena, "%s/audit.log", up->options.data_dir),
        .version = fl_version(),
        .definitions = definitions,
        .definition_count = FL_EMBEDDED_CRD_COUNT,
        .raws = up->raws,
        .raw_count = FL_COUNT_OF(up->raws),
    };

    if (up->controllers) {
        fl_controllers_logs(up->controllers, up->logs);
        options.subresources = up->logs;
        options.subresource_count = FL_CONTROLLERS_LOGS;
        options.metrics = fl_controllers_metrics;
        options.metrics_user = up->controllers;
    }

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    return fl_apiserver_create(&options, &up->server, err);
}

static const char *server_url(struct up *up)
{
    const char *address = up->options.address;

    if (strcmp(address, "0.0.0.0") == 0)
        address = "127.0.0.1";
    else if (strcmp(address, "::") == 0)
        address = "::1";
    return fl_arena_printf(up->arena, strchr(address, ':') ? "https://[%s]:%u" : "https://%s:%u",
                           address, fl_apiserver_port(up->server));
}

static int start(struct up *up, struct fl_error *err)
{
    const struct up_options *options = &up->options;
    const char *names[FL_SANS_MAX];
    size_t count = 0;
    int r;

    names[count++] = options->address;
    for (size_t i = 0; i < options->san_count; i++)
        names[count++] = options->sans[i];
    (void)umask(077); /* all that is made here is the owner's alone */
    raise_file_limit();
    r = resolve_manifests(up, err);
    if (r == 0)
        r = fl_dir_ensure(options->data_dir, 0700, err);
    if (r == 0)
        r = fl_credentials_ensure(&up->env, up->arena, options->data_dir, names, count,
                                  &up->credentials, err);
    if (r == 0)
        r = fl_loop_create(&up->loop, err);
    if (r == 0)
        r = open_store(up, err);
    if (r == 0)
        r = open_contents(up, err);
    if (r == 0)
        r = open_tls(up, err);
    if (r == 0 && !options->no_controllers)
        r = make_controllers(up, err);
    if (r == 0)
        r = start_server(up, err);
    if (r == 0)
        r = fl_kubeconfig_ensure(&up->env, up->arena, options->data_dir, server_url(up), err);
    if (r == 0)
        r = fl_loop_on_signal(up->loop, SIGTERM, on_stop_signal, up, err);
    if (r == 0)
        r = fl_loop_on_signal(up->loop, SIGINT, on_stop_signal, up, err);
    if (r == 0 && up->controllers) {
        up->controllers_options.url = server_url(up);
        r = fl_controllers_start(up->controllers, up->server, err);
    }
    return r;
}

/* Nobody is served any more, then the store is closed before the server, and what it told the loop
 * last is heard, so that nobody is called about a write after they are gone. */
static void stop(struct up *up)
{
    if (up->server)
        fl_apiserver_hang_up(up->server);
    if (up->loop && up->server)
        fl_loop_run_for(up->loop, 1);
    fl_controllers_destroy(up->controllers);
    fl_repositories_close(up->repositories);
    fl_contents_close(up->contents);
    fl_store_close(up->store);
    if (up->loop && up->server)
        fl_loop_run_for(up->loop, 1);
    fl_apiserver_destroy(up->server);
    fl_loop_destroy(up->loop);
    fl_tls_destroy(up->tls);
    fl_log_destroy(up->env.log);
    fl_arena_destroy(up->arena);
}

static int run(int argc, char **argv)
{
    struct up up = {.arena = fl_arena_create()};
    struct fl_error err = {0};
    int status = parse_options(&up, argc, argv);

    if (status >= 0) {
        fl_arena_destroy(up.arena);
        return status;
    }
    up.env = fl_env_real(fl_log_create(STDERR_FILENO, up.options.level, up.options.json));
    if (start(&up, &err) < 0) {
        status = fl_command_fail("up", &err);
    } else {
        (void)printf("flops is ready: %s, kubeconfig %s/kubeconfig\n", server_url(&up),
                     up.options.data_dir);
        (void)fflush(stdout);
        fl_loop_run(up.loop);
        status = up.failed ? 1 : 0;
    }
    stop(&up);
    return status;
}

const struct fl_command fl_command_up = {"up", "run the control plane", run};
