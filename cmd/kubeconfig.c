/* `flops kubeconfig`: the administrator's, or a new one for another user. */
#include "cmd/command.h"
#include "cmd/credentials.h"
#include "lib/file.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <getopt.h>
#include <stdio.h>

#define GROUPS_MAX 16

static const char help[] =
    "Usage: flops kubeconfig [options]\n\n"
    "Prints a kubeconfig: the administrator's, or one with a new certificate for --user.\n"
    "What a user may do is said by RoleBindings to admin, edit or view.\n\n"
    "  --data-dir DIR   of `flops up` (default ~/.flops)\n"
    "  --user NAME      make a client certificate for this user\n"
    "  --group NAME     in this group (repeatable)\n"
    "  --days N         how long it is valid (default 90)\n"
    "  --token          a bearer token instead, valid until its line in DIR/tokens is removed\n";

struct kubeconfig_options {
    const char *data_dir, *user, *groups[GROUPS_MAX];
    size_t group_count;
    int64_t days;
    bool token;
};

static int parse(int argc, char **argv, struct kubeconfig_options *options)
{
    static const struct option long_options[] = {
        {"data-dir", required_argument, NULL, 'd'},
        {"user", required_argument, NULL, 'u'},
        {"group", required_argument, NULL, 'g'},
        {"days", required_argument, NULL, 'n'},
        {"token", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (option == 'd') {
            options->data_dir = optarg;
        } else if (option == 'u') {
            options->user = optarg;
        } else if (option == 'g' && options->group_count < GROUPS_MAX) {
            options->groups[options->group_count++] = optarg;
        } else if (option == 'n') {
            if (!fl_str_to_int64(optarg, 1, 3650, &options->days))
                return fl_command_usage("kubeconfig", "--days %s: must be 1 to 3650", optarg);
        } else if (option == 't') {
            options->token = true;
        } else if (option == 'h') {
            (void)fputs(help, stdout);
            return 0;
        } else {
            return fl_command_usage("kubeconfig", "unknown or too many options");
        }
    }
    if (options->token && !options->user)
        return fl_command_usage("kubeconfig", "--token needs --user");
    return -1;
}

/* The server's address is the one the administrator's kubeconfig has. */
static int read_server(struct fl_arena *arena, const struct fl_bytes *admin,
                       const char **ret_server, struct fl_error *err)
{
    json_t *config = NULL;
    const char *server;
    int r = fl_yaml_parse(admin->data, admin->len, NULL, &config, err);

    if (r < 0)
        return r;
    fl_json_in_arena(arena, config);
    server = fl_json_str(json_array_get(json_object_get(config, "clusters"), 0), "cluster.server");
    if (!server)
        return fl_error_set(err, FL_E_INTERNAL, "the administrator's kubeconfig has no server");
    *ret_server = server;
    return 0;
}

static int print(const struct kubeconfig_options *options, struct fl_arena *arena,
                 struct fl_error *err)
{
    const char *path = fl_arena_printf(arena, "%s/kubeconfig", options->data_dir), *server = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *admin = NULL;
    struct fl_env env = fl_env_real(NULL);
    char *text;
    int r = fl_file_read(path, (size_t)1024 * 1024, &admin, err);

    if (r < 0)
        return r == FL_E_NOT_FOUND
                   ? fl_error_set(err, r,
                                  "%s is not there: has `flops up` run with this data "
                                  "directory?",
                                  path)
                   : r;
    if (!options->user) {
        (void)fwrite(admin->data, 1, admin->len, stdout);
        return 0;
    }
    r = read_server(arena, admin, &server, err);
    if (r == 0 && options->token)
        r = fl_kubeconfig_create_token(&env, arena, options->data_dir, server, options->user,
                                       options->groups, options->group_count, &text, err);
    else if (r == 0)
        r = fl_kubeconfig_create(&env, arena, options->data_dir, server, options->user,
                                 options->groups, options->group_count, options->days * 24 * 3600,
                                 &text, err);
    if (r == 0)
        (void)fputs(text, stdout);
    return r;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct kubeconfig_options options = {.data_dir = fl_default_data_dir(arena), .days = 90};
    struct fl_error err = {0};
    int status = parse(argc, argv, &options);

    if (status >= 0)
        return status;
    return print(&options, arena, &err) < 0 ? fl_command_fail("kubeconfig", &err) : 0;
}

const struct fl_command fl_command_kubeconfig = {
    "kubeconfig", "print a kubeconfig, or make one for another user", run};
