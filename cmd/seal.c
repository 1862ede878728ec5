/* `flops seal`: Secrets that may live in Git. */
#include "controller/source/seal.h"
#include "cmd/client.h"
#include "cmd/command.h"
#include "cmd/options.h"
#include "lib/file.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_MAX_BYTES ((size_t)16 * 1024 * 1024)
#define KEY_MAX_BYTES  ((size_t)4096)

static const char help[] =
    "Usage: flops seal [-f FILE] [options]\n\n"
    "Reads manifests and writes them with the values of Secrets sealed: only the control plane "
    "whose\n"
    "key was used can read them, and only in the namespace, under the name and the key that they\n"
    "have now. The result may be committed to Git, where a GitSync opens it. Other objects are\n"
    "written as they are (comments are not kept). Values that are sealed already stay.\n\n"
    "  -f, --filename FILE     file, or - for standard input (the default)\n"
    "      --key FILE|TEXT     the public key, when no server is to be asked for it\n"
    "  -o, --output FORM       yaml (the default) or json\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops seal -f secret.yaml -n team > sealed.yaml\n"
    "  kubectl create secret generic db --from-file=password -o yaml --dry-run=client |\n"
    "    flops seal -n team > db.yaml\n"
    "  flops get configmap " FL_SEAL_CONFIG_MAP " -n " FL_SEAL_NAMESPACE
    " -o jsonpath='{.data." FL_SEAL_CONFIG_KEY "}' > key\n"
    "  flops seal --key key -n team -f secret.yaml\n"
    "\nExit status: 0 all is sealed; 1 failed, and nothing was written; 2 wrong usage.\n";

struct seal {
    struct fl_client_flags flags;
    const char *file, *key_text, *form;

    struct fl_arena *arena;
    const char *public_key, *ns;
    json_t *documents;
};

static void seal_finish(struct seal *seal)
{
    json_decref(seal->documents);
    fl_arena_destroy(seal->arena);
}

static int parse(struct seal *seal, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(seal->flags),
        {"filename", 'f', FL_OPTION_TEXT, &seal->file},
        {"key", 0, FL_OPTION_TEXT, &seal->key_text},
        {"output", 'o', FL_OPTION_TEXT, &seal->form},
    };
    struct fl_options options = {"seal", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, seal->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("seal", "unexpected argument \"%s\"", words.items[0]);
    if (!fl_streq(seal->form, "yaml") && !fl_streq(seal->form, "json"))
        return fl_command_usage("seal", "-o %s: must be yaml or json", seal->form);
    return -1;
}

/* --- the key --- */

static int ask_server(struct seal *seal, struct fl_error *err)
{
    struct fl_client *client;
    FL_JSON map = NULL;
    const char *key;
    int r = fl_client_open("seal", &seal->flags, seal->arena, &client, err);

    if (r == 0)
        r = fl_client_get(client,
                          "/api/v1/namespaces/" FL_SEAL_NAMESPACE "/configmaps/" FL_SEAL_CONFIG_MAP,
                          NULL, &map, err);
    if (r < 0)
        return fl_error_wrap(err, "the public key");
    key = json_string_value(json_object_get(json_object_get(map, "data"), FL_SEAL_CONFIG_KEY));
    if (!key)
        return fl_error_set(err, FL_E_NOT_FOUND, "the server shows no public key");
    seal->public_key = fl_arena_strdup(seal->arena, key);
    seal->ns = client->ns;
    return 0;
}

static int read_key_file(struct seal *seal, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_file_read(seal->key_text, KEY_MAX_BYTES, &text, err);

    if (r < 0)
        return r;
    seal->public_key = fl_arena_strndup(seal->arena, text->data, strcspn(text->data, "\r\n"));
    return 0;
}

static int find_key(struct seal *seal, struct fl_error *err)
{
    int r = 0;

    if (!seal->key_text)
        return ask_server(seal, err);
    seal->ns = seal->flags.ns;
    if (fl_str_has_prefix(seal->key_text, "flops-seal-key-"))
        seal->public_key = seal->key_text;
    else
        r = read_key_file(seal, err);
    return r < 0 ? fl_error_wrap(err, "--key") : 0;
}

/* --- documents --- */

static bool is_list(const json_t *object)
{
    return fl_streq(fl_json_str(object, "kind"), "List") ||
           fl_streq(fl_json_str(object, "kind"), "SecretList");
}

static int seal_object(struct seal *seal, json_t *object, struct fl_error *err)
{
    const char *own = fl_json_str(object, "metadata.namespace");
    json_t *item;
    size_t i;
    int r = 0;

    if (is_list(object)) {
        json_array_foreach(json_object_get(object, "items"), i, item)
            if (r == 0)
                r = seal_object(seal, item, err);
        return r;
    }
    if (!fl_streq(fl_json_str(object, "kind"), "Secret"))
        return 0;
    if (!own && !seal->ns)
        return fl_error_set(err, FL_E_INVALID, "Secret %s names no namespace: say which with -n",
                            fl_str_or(fl_json_str(object, "metadata.name"), ""));
    if (!own && json_is_object(json_object_get(object, "metadata"))) /* nowhere else it opens */
        fl_json_set_str(json_object_get(object, "metadata"), "namespace", seal->ns);
    return fl_seal_secret(seal->public_key, object, own ? own : seal->ns, err);
}

static int add_document(void *user, json_t *value, size_t line, struct fl_error *err)
{
    struct seal *seal = user;
    int r = seal_object(seal, value, err);

    json_array_append(seal->documents, value);
    return r < 0 ? fl_error_wrap(err, "line %zu", line) : 0;
}

static int read_and_seal(struct seal *seal, struct fl_error *err)
{
    const struct fl_yaml_limits limits = {.max_bytes = FILE_MAX_BYTES};
    struct fl_bytes *text = NULL;
    bool is_stdin = fl_streq(seal->file, "-");
    int r = is_stdin ? fl_fd_read(STDIN_FILENO, FILE_MAX_BYTES, &text, err)
                     : fl_file_read(seal->file, FILE_MAX_BYTES, &text, err);

    if (r < 0)
        return r;
    r = fl_yaml_parse_all(text->data, text->len, &limits, add_document, seal, err);
    sodium_memzero(text->data, text->len);
    fl_bytes_unref(text);
    if (r == 0 && json_array_size(seal->documents) == 0)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "there is nothing in it");
    return r < 0 ? fl_error_wrap(err, "%s", is_stdin ? "standard input" : seal->file) : 0;
}

static void write_all(const struct seal *seal)
{
    bool yaml = fl_streq(seal->form, "yaml");
    struct fl_buf buf;
    json_t *value;
    size_t i;

    fl_buf_init(&buf, 0);
    json_array_foreach(seal->documents, i, value) {
        if (yaml && i > 0)
            fl_buf_puts(&buf, "---\n");
        if (yaml)
            fl_yaml_write(&buf, value);
        else
            fl_json_write_pretty(&buf, value);
    }
    (void)fwrite(fl_buf_text(&buf), 1, buf.len, stdout);
    fl_buf_finish(&buf);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(seal_finish)
    struct seal seal = {.arena = fl_arena_create(), .file = "-", .form = "yaml"};
    struct fl_error err = {0};
    int status = parse(&seal, argc, argv);

    if (status >= 0)
        return status;
    if (sodium_init() < 0)
        return fl_command_fail("seal", &(struct fl_error){.msg = "libsodium cannot be used"});
    seal.documents = json_array();
    if (find_key(&seal, &err) < 0 || read_and_seal(&seal, &err) < 0)
        return fl_command_fail("seal", &err);
    write_all(&seal);
    return 0;
}

const struct fl_command fl_command_seal = {"seal", "seal Secrets, so that they can live in Git",
                                           run};
