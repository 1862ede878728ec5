/* `flops image verify`. */
#include "cmd/command.h"
#include "cmd/image.h"
#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/attest/attest.h"

#include <stdio.h>

#define KEY_MAX   ((size_t)4096)
#define NAMESPACE "flops-system"

static const char help[] =
    "Usage: flops image verify IMAGE [options]\n\n"
    "Whether an image is what the control plane has built: its documents are what their digests\n"
    "say, signature and provenance are of this key, and the list of its parts (SBOM) is the one\n"
    "that the provenance names.\n\n"
    "      --key FILE          the public key (PEM), instead of the control plane's own\n"
    "\nExit status: 0 it is; 1 it is not, or cannot be found out; 2 wrong usage.\n" FL_IMAGE_HELP
        FL_CLIENT_HELP;

static int read_key_file(const char *path, struct fl_public_key *ret_key, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_file_read(path, KEY_MAX, &text, err);

    if (r == 0)
        r = fl_public_key_parse(text->data, ret_key, err);
    return r < 0 ? fl_error_wrap(err, "%s", path) : 0;
}

static int ask_server(struct fl_image_command *image, struct fl_public_key *ret_key,
                      struct fl_error *err)
{
    struct fl_client *client;
    FL_JSON map = NULL;
    const char *text;
    int r = fl_client_open(image->command, &image->flags, image->arena, &client, err);

    if (r == 0)
        r = fl_client_get(client,
                          "/api/v1/namespaces/" NAMESPACE "/configmaps/" FL_SIGNING_CONFIG_MAP,
                          NULL, &map, err);
    if (r < 0)
        return fl_error_wrap(err, "the public key");
    text = json_string_value(json_object_get(json_object_get(map, "data"), FL_SIGNING_CONFIG_KEY));
    return text ? fl_public_key_parse(text, ret_key, err)
                : fl_error_set(err, FL_E_NOT_FOUND, "the server shows no public key");
}

static void print(const struct fl_attest_verified *verified)
{
    (void)printf("%-14s %s\n", "Image", verified->digest);
    (void)printf("%-14s %zu, as their digests say\n", "Platforms", verified->manifests);
    (void)printf("%-14s good, %s\n", "Signature", verified->signature);
    (void)printf("%-14s good, %s\n", "Provenance", verified->provenance);
    (void)printf("%-14s %zu packages, %s\n", "SBOM", verified->packages, verified->sbom);
    if (verified->source)
        (void)printf("%-14s %s\n", "Source", verified->source);
    else if (verified->commit)
        (void)printf("%-14s %s\n", "Commit", verified->commit);
}

int fl_image_verify(struct fl_image_command *image, int argc, char **argv)
{
    const char *key_file = NULL;
    const struct fl_option more[] = {{"key", 0, FL_OPTION_TEXT, &key_file}};
    struct fl_image_reference reference = {0};
    struct fl_attest_verified verified;
    struct fl_registry *registry = NULL;
    struct fl_public_key key;
    struct fl_error err = {0};
    int status = fl_image_parse(image, help, more, FL_COUNT_OF(more), argc, argv), r;

    if (status >= 0)
        return status;
    if (image->words.count != 1)
        return fl_command_usage(image->command, "one image");
    r = key_file ? read_key_file(key_file, &key, &err) : ask_server(image, &key, &err);
    if (r == 0)
        r = fl_image_reference(image, image->words.items[0], &reference, &err);
    if (r == 0)
        r = fl_image_registry(image, &reference, &registry, &err);
    if (r == 0)
        r = fl_attest_verify(registry, &reference, &key, image->arena, &verified, &err);
    if (r < 0)
        return fl_image_fail(image, &err);
    print(&verified);
    return 0;
}
