/* `flops image`: what is common to its commands, and those that change names. */
#include "cmd/image.h"

#include "cmd/command.h"
#include "lib/file.h"
#include "lib/str.h"

#include <stdio.h>
#include <unistd.h>

#define OPTIONS_MAX  24
#define PEM_MAX      ((size_t)1024 * 1024)
#define PASSWORD_MAX ((size_t)64 * 1024)
#define TAG          "latest"

static const char help[] =
    "Usage: flops image COMMAND\n\n"
    "  ls [NAME]               what the control plane's registry has\n"
    "  inspect IMAGE           what an image is made of\n"
    "  pull IMAGE [NAME]       from another registry to the control plane's\n"
    "  push NAME IMAGE         from the control plane's registry to another one\n"
    "  copy IMAGE IMAGE        from any registry to any\n"
    "  save IMAGE DIR          into a folder (an OCI image layout)\n"
    "  load DIR IMAGE          from such a folder\n"
    "  tag IMAGE IMAGE         another name for it\n"
    "  verify IMAGE            whether it is signed, and what it is made of\n"
    "  rm IMAGE...             takes the name away, or with a digest the image\n\n"
    "`flops image COMMAND --help` says more.\n";

static int read_password(struct fl_image_command *image, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_fd_read(STDIN_FILENO, PASSWORD_MAX, &text, err);

    if (r < 0)
        return fl_error_wrap(err, "password");
    image->password = fl_arena_strndup(image->arena, text->data, strcspn(text->data, "\r\n"));
    explicit_bzero(text->data, text->len);
    return 0;
}

int fl_image_parse(struct fl_image_command *image, const char *usage, const struct fl_option *more,
                   size_t more_count, int argc, char **argv)
{
    struct fl_option items[OPTIONS_MAX] = {
        FL_CLIENT_OPTIONS(image->flags),
        {"plain-http", 0, FL_OPTION_FLAG, &image->plain_http},
        {"insecure", 0, FL_OPTION_FLAG, &image->insecure},
        {"ca", 0, FL_OPTION_TEXT, &image->ca_file},
        {"username", 0, FL_OPTION_TEXT, &image->username},
        {"password-stdin", 0, FL_OPTION_FLAG, &image->password_stdin},
        {"token-host", 0, FL_OPTION_TEXT, &image->token_host},
        {"timeout", 0, FL_OPTION_DURATION, &image->timeout_ms},
    };
    struct fl_options options = {image->command, usage, items, 12};
    struct fl_error err = {0};
    int status;

    for (size_t i = 0; i < more_count; i++)
        items[options.count++] = more[i];
    status = fl_options_parse(&options, image->arena, argc, argv, &image->words);
    if (status >= 0)
        return status;
    if (image->password_stdin && !image->username)
        return fl_command_usage(image->command, "--password-stdin needs --username");
    if (image->password_stdin && read_password(image, &err) < 0)
        return fl_image_fail(image, &err);
    return -1;
}

int fl_image_fail(const struct fl_image_command *image, const struct fl_error *err)
{
    return fl_command_fail(image->command, err);
}

int fl_image_reference(struct fl_image_command *image, const char *text,
                       struct fl_image_reference *ret_reference, struct fl_error *err)
{
    int r = fl_image_reference_parse(image->arena, text, ret_reference, err);

    if (r == 0 && !ret_reference->tag && !ret_reference->digest)
        ret_reference->tag = TAG;
    return r;
}

/* --- where --- */

static void close_registry(void *user)
{
    fl_registry_close(user);
}

static int read_text(struct fl_image_command *image, const char *path, size_t max,
                     const char **ret_text, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = fl_file_read(path, max, &bytes, err);

    if (r == 0)
        *ret_text = fl_arena_strndup(image->arena, bytes->data, bytes->len);
    return r;
}

/* Text where the kubeconfig has text, else the file's. */
static int pem_of(struct fl_image_command *image, const char *pem, const char *file,
                  const char **ret_pem, struct fl_error *err)
{
    *ret_pem = pem;
    return pem || !file ? 0 : read_text(image, file, PEM_MAX, ret_pem, err);
}

static int split_server(const char *server, struct fl_registry_options *options,
                        struct fl_error *err)
{
    const char *host = strstr(server, "://");

    options->plain_http = fl_str_has_prefix(server, "http://");
    if (!host || strchr(host + 3, '/'))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "the registry is beside the API, but \"%s\" is no plain address",
                            server);
    options->host = host + 3;
    return 0;
}

static int ours(struct fl_image_command *image, struct fl_registry_options *options,
                struct fl_error *err)
{
    struct fl_config config;
    int r = fl_config_load(image->arena, &image->flags, &config, err);

    if (r == 0)
        r = split_server(config.server, options, err);
    if (r == 0)
        r = pem_of(image, config.ca_pem, config.ca_file, &options->ca_pem, err);
    if (r == 0)
        r = pem_of(image, config.cert_pem, config.cert_file, &options->cert_pem, err);
    if (r == 0)
        r = pem_of(image, config.key_pem, config.key_file, &options->key_pem, err);
    if (r < 0)
        return r;
    options->bearer_token = config.token;
    options->insecure = config.insecure;
    return 0;
}

static int theirs(struct fl_image_command *image, const struct fl_image_reference *reference,
                  struct fl_registry_options *options, struct fl_error *err)
{
    struct fl_login login = {image->username, image->password};
    int r = 0;

    if (image->username)
        login = (struct fl_login){image->username, fl_str_or(image->password, "")};
    else
        r = fl_login_find(image->arena, reference->registry, reference->repository, &login, err);
    if (r == 0)
        r = pem_of(image, NULL, image->ca_file, &options->ca_pem, err);
    if (r < 0)
        return r;
    options->host = reference->registry;
    options->plain_http = image->plain_http;
    options->insecure = image->insecure;
    options->token_host = image->token_host;
    options->username = login.username;
    options->password = login.password;
    return 0;
}

int fl_image_registry(struct fl_image_command *image, const struct fl_image_reference *reference,
                      struct fl_registry **ret_registry, struct fl_error *err)
{
    struct fl_registry_options options = {
        .env = &image->env, .user_agent = fl_arena_printf(image->arena, "flops/%s", fl_version())};
    int r =
        reference->registry ? theirs(image, reference, &options, err) : ours(image, &options, err);

    if (r == 0)
        r = fl_registry_open(&options, ret_registry, err);
    if (r == 0)
        fl_arena_on_reset(image->arena, close_registry, *ret_registry);
    return r;
}

/* --- names --- */

static const char rm_help[] =
    "Usage: flops image rm IMAGE... [options]\n\n"
    "Takes the tag away; with a digest, the image with all its tags. Content that no image has\n"
    "goes later.\n" FL_IMAGE_HELP FL_CLIENT_HELP;

static const char *name_of(struct fl_image_command *image,
                           const struct fl_image_reference *reference)
{
    const struct fl_image_reference name = {.registry = reference->registry,
                                            .repository = reference->repository};

    return fl_image_reference_text(image->arena, &name);
}

static int remove_one(struct fl_image_command *image, const char *text, struct fl_error *err)
{
    struct fl_image_reference reference = {0};
    struct fl_oci_descriptor found = {0};
    struct fl_registry *registry = NULL;
    int r = fl_image_reference(image, text, &reference, err);

    if (r == 0)
        r = fl_image_registry(image, &reference, &registry, err);
    if (r == 0) /* a name that is not there is worth a word */
        r = fl_registry_resolve(registry, &reference, image->arena, &found, err);
    if (r == 0)
        r = fl_registry_delete(registry, reference.repository,
                               fl_str_or(reference.digest, reference.tag), err);
    if ((r == FL_E_BAD_REQUEST || r == FL_E_METHOD_NOT_ALLOWED) && found.digest) {
        const struct fl_error failed = *err;

        return fl_error_set(err, r, "%s; it may know digests only: %s@%s, with all its tags",
                            failed.msg, name_of(image, &reference), found.digest);
    }
    if (r == 0)
        (void)printf("%s removed\n", text);
    return r;
}

static int rm(struct fl_image_command *image, int argc, char **argv)
{
    int status = fl_image_parse(image, rm_help, NULL, 0, argc, argv), failures = 0;

    if (status >= 0)
        return status;
    if (image->words.count == 0)
        return fl_command_usage(image->command, "which image?");
    for (size_t i = 0; i < image->words.count; i++) {
        struct fl_error err = {0};

        if (remove_one(image, image->words.items[i], &err) < 0)
            failures = fl_image_fail(image, &err);
    }
    return failures;
}

static int run(int argc, char **argv)
{
    static const struct {
        const char *name, *title;
        int (*run)(struct fl_image_command *image, int argc, char **argv);
    } commands[] = {
        {"ls", "image ls", fl_image_list},           {"inspect", "image inspect", fl_image_inspect},
        {"pull", "image pull", fl_image_pull},       {"push", "image push", fl_image_push},
        {"copy", "image copy", fl_image_copy},       {"tag", "image tag", fl_image_copy},
        {"save", "image save", fl_image_save},       {"load", "image load", fl_image_load},
        {"verify", "image verify", fl_image_verify}, {"rm", "image rm", rm},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_image_command image = {.arena = arena, .env = fl_env_real(NULL)};

    if (argc < 2)
        return fl_command_usage("image",
                                "ls, inspect, pull, push, copy, save, load, tag, verify or rm");
    for (size_t i = 0; i < FL_COUNT_OF(commands); i++) {
        image.command = commands[i].title;
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(&image, argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        (void)fputs(help, stdout);
        return 0;
    }
    return fl_command_usage("image", "there is no \"%s\"", argv[1]);
}

const struct fl_command fl_command_image = {"image", "images: show, pull, push, save, load", run};
