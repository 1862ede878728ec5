/* `flops image ls, inspect`. */
#include "cmd/command.h"
#include "cmd/image.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

#define SHOWN_DIGEST 19 /* "sha256:" and twelve digits */
#define ROWS_MAX     10000

/* --- inspect --- */

static const char inspect_help[] =
    "Usage: flops image inspect IMAGE [options]\n\n"
    "  -o, --output FORM       json, instead of text\n" FL_IMAGE_HELP FL_CLIENT_HELP;

struct inspection {
    struct fl_image_command *image;
    struct fl_registry *registry;
    struct fl_image_reference reference;
};

/* The configuration as it is, where it is one of an image; NULL otherwise. */
static int read_config(const struct inspection *inspection, const struct fl_oci_manifest *manifest,
                       json_t **ret_config, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_json_limits limits = {.max_bytes = FL_OCI_MANIFEST_MAX};
    int r = fl_registry_small_blob(inspection->registry, inspection->reference.repository,
                                   &manifest->config, &text, err);

    *ret_config = NULL;
    if (r < 0)
        return r;
    (void)fl_json_parse(text->data, text->len, &limits, NULL, NULL, ret_config, NULL);
    return 0;
}

static json_t *layers_json(const struct fl_oci_manifest *manifest)
{
    json_t *list = json_array();

    for (size_t i = 0; i < manifest->layers.count; i++)
        (void)json_array_append_new(list, fl_oci_descriptor_json(&manifest->layers.items[i]));
    return list;
}

static int64_t size_of(const struct fl_oci_manifest *manifest)
{
    int64_t size = manifest->config.size;

    for (size_t i = 0; i < manifest->layers.count; i++)
        size += manifest->layers.items[i].size;
    return size;
}

/* One manifest: {"digest", "mediaType", "size", "config", "layers"}. */
static int describe_manifest(const struct inspection *inspection,
                             const struct fl_oci_descriptor *descriptor,
                             const struct fl_oci_manifest *manifest, json_t **ret_value,
                             struct fl_error *err)
{
    json_t *value, *config = NULL;
    int r = read_config(inspection, manifest, &config, err);

    if (r < 0)
        return r;
    value = fl_oci_descriptor_json(descriptor);
    (void)json_object_set_new(value, "contentSize", json_integer(size_of(manifest)));
    (void)json_object_set_new(value, "layers", layers_json(manifest));
    fl_json_set_str(value, "artifactType", manifest->artifact_type);
    if (manifest->has_subject)
        (void)json_object_set_new(value, "subject", fl_oci_descriptor_json(&manifest->subject));
    if (config)
        (void)json_object_set_new(value, "config", config);
    *ret_value = value;
    return 0;
}

static int add_manifest(const struct inspection *inspection,
                        const struct fl_oci_descriptor *descriptor, json_t *list,
                        struct fl_error *err)
{
    struct fl_image_reference reference = inspection->reference;
    struct fl_oci_descriptor found;
    struct fl_oci_manifest manifest;
    json_t *value;
    int r;

    reference.digest = descriptor->digest;
    r = fl_registry_manifest(inspection->registry, &reference, inspection->image->arena, &found,
                             &manifest, err);
    if (r < 0)
        return r;
    if (manifest.is_index) { /* an index in an index: what it is, not all that is below */
        (void)json_array_append_new(list, fl_oci_descriptor_json(descriptor));
        return 0;
    }
    r = describe_manifest(inspection, descriptor, &manifest, &value, err);
    if (r == 0)
        (void)json_array_append_new(list, value);
    return r;
}

static int inspect_all(struct inspection *inspection, json_t **ret_value, struct fl_error *err)
{
    struct fl_oci_descriptor descriptor;
    struct fl_oci_manifest manifest;
    FL_JSON list = json_array();
    json_t *value;
    int r = fl_registry_manifest(inspection->registry, &inspection->reference,
                                 inspection->image->arena, &descriptor, &manifest, err);

    if (r < 0)
        return r;
    if (!manifest.is_index)
        r = add_manifest(inspection, &descriptor, list, err);
    for (size_t i = 0; r == 0 && manifest.is_index && i < manifest.layers.count; i++)
        r = add_manifest(inspection, &manifest.layers.items[i], list, err);
    if (r < 0)
        return r;
    value = fl_oci_descriptor_json(&descriptor);
    fl_json_set_str(value, "name",
                    fl_image_reference_text(inspection->image->arena, &inspection->reference));
    (void)json_object_set(value, "manifests", list);
    *ret_value = value;
    return 0;
}

static void print_line(const char *name, const char *value)
{
    if (value && *value)
        (void)printf("%-14s %s\n", name, value);
}

static void print_list(const char *name, const json_t *list)
{
    struct fl_buf text;

    fl_buf_init(&text, 0);
    for (size_t i = 0; i < json_array_size(list); i++)
        fl_buf_printf(&text, i > 0 ? " %s" : "%s",
                      fl_str_or(json_string_value(json_array_get(list, i)), "?"));
    print_line(name, fl_buf_text(&text));
    fl_buf_finish(&text);
}

static void print_manifest(const json_t *manifest)
{
    const json_t *config = json_object_get(manifest, "config");
    const char *os = fl_json_str(config, "os"), *arch = fl_json_str(config, "architecture");
    json_t *layer;
    size_t i;

    (void)printf("\n");
    if (os && arch)
        (void)printf("%-14s %s/%s\n", "Platform", os, arch);
    print_line("Manifest", fl_json_str(manifest, "digest"));
    (void)printf("%-14s %.1f MB\n", "Size", (double)fl_json_int(manifest, "contentSize", 0) / 1e6);
    print_line("Artifact", fl_json_str(manifest, "artifactType"));
    print_line("Created", fl_json_str(config, "created"));
    print_line("User", fl_json_str(config, "config.User"));
    print_line("Folder", fl_json_str(config, "config.WorkingDir"));
    print_list("Entrypoint", fl_json_path(config, "config.Entrypoint"));
    print_list("Cmd", fl_json_path(config, "config.Cmd"));
    json_array_foreach(json_object_get(manifest, "layers"), i, layer)
        (void)printf("%-14s %s %9.1f MB  %s\n", i == 0 ? "Layers" : "",
                     fl_str_or(fl_json_str(layer, "digest"), "?"),
                     (double)fl_json_int(layer, "size", 0) / 1e6,
                     fl_str_or(fl_json_str(layer, "mediaType"), "?"));
}

static void print_image(const json_t *value)
{
    json_t *manifest;
    size_t i;

    print_line("Name", fl_json_str(value, "name"));
    print_line("Digest", fl_json_str(value, "digest"));
    print_line("Type", fl_json_str(value, "mediaType"));
    json_array_foreach(json_object_get(value, "manifests"), i, manifest)
        print_manifest(manifest);
}

static void print_json(const json_t *value)
{
    struct fl_buf text;

    fl_buf_init(&text, 0);
    fl_json_write_pretty(&text, value);
    (void)fwrite(fl_buf_text(&text), 1, text.len, stdout);
    fl_buf_finish(&text);
}

int fl_image_inspect(struct fl_image_command *image, int argc, char **argv)
{
    const char *form = NULL;
    const struct fl_option more[] = {{"output", 'o', FL_OPTION_TEXT, &form}};
    struct inspection inspection = {.image = image};
    struct fl_error err = {0};
    FL_JSON value = NULL;
    int status = fl_image_parse(image, inspect_help, more, FL_COUNT_OF(more), argc, argv), r;

    if (status >= 0)
        return status;
    if (image->words.count != 1)
        return fl_command_usage(image->command, "one image");
    if (form && !fl_streq(form, "json"))
        return fl_command_usage(image->command, "-o takes json");
    r = fl_image_reference(image, image->words.items[0], &inspection.reference, &err);
    if (r == 0)
        r = fl_image_registry(image, &inspection.reference, &inspection.registry, &err);
    if (r == 0)
        r = inspect_all(&inspection, &value, &err);
    if (r < 0)
        return fl_image_fail(image, &err);
    if (form)
        print_json(value);
    else
        print_image(value);
    return 0;
}

/* --- ls --- */

static const char list_help[] =
    "Usage: flops image ls [NAME] [options]\n\n"
    "What there is in the control plane's registry, or all tags of one name, HOST/NAME in another\n"
    "registry.\n\n"
    "  -a, --all               also tags of what is attached to images\n"
    "  -q, --quiet             names only\n" FL_IMAGE_HELP FL_CLIENT_HELP;

struct listing {
    struct fl_image_command *image;
    struct fl_registry *registry;
    bool quiet, all;
    const char *host; /* shown before names; NULL: none */
    size_t rows;
};

static const char *platforms_of(struct fl_arena *arena, const struct fl_oci_manifest *manifest)
{
    const char *text = "";

    if (!manifest->is_index)
        return fl_str_or(manifest->artifact_type, "");
    for (size_t i = 0; i < manifest->layers.count && i < 16; i++)
        if (manifest->layers.items[i].has_platform)
            text = fl_arena_printf(arena, "%s%s%s", text, *text ? "," : "",
                                   fl_platform_text(arena, &manifest->layers.items[i].platform));
    return text;
}

/* Of an index only what its manifests weigh themselves is known without asking for each. */
static const char *size_text(struct fl_arena *arena, const struct fl_oci_manifest *manifest)
{
    return manifest->is_index ? fl_arena_printf(arena, "%zu images", manifest->layers.count)
                              : fl_arena_printf(arena, "%.1f MB", (double)size_of(manifest) / 1e6);
}

static int list_tag(struct listing *listing, const char *repository, const char *tag,
                    struct fl_error *err)
{
    const struct fl_image_reference reference = {
        .registry = listing->host, .repository = repository, .tag = tag};
    struct fl_arena *arena = listing->image->arena;
    struct fl_oci_descriptor descriptor;
    struct fl_oci_manifest manifest;
    int r;

    if (listing->quiet) {
        (void)printf("%s\n", fl_image_reference_text(arena, &reference));
        return 0;
    }
    r = fl_registry_manifest(listing->registry, &reference, arena, &descriptor, &manifest, err);
    if (r == FL_E_NOT_FOUND)
        return 0; /* it went meanwhile */
    if (r < 0)
        return r;
    if (listing->rows++ == 0)
        (void)printf("%-40s %-20s %-19s %-12s %s\n", "NAME", "TAG", "DIGEST", "SIZE", "PLATFORMS");
    (void)printf("%-40s %-20s %.*s %-12s %s\n", repository, tag, SHOWN_DIGEST, descriptor.digest,
                 size_text(arena, &manifest), platforms_of(arena, &manifest));
    return 0;
}

static int list_repository(struct listing *listing, const char *repository, struct fl_error *err)
{
    struct fl_oci_texts tags = {0};
    int r = fl_registry_tags(listing->registry, repository, listing->image->arena, &tags, err);

    for (size_t i = 0; r == 0 && i < tags.count && listing->rows < ROWS_MAX; i++)
        if (listing->all || !fl_str_has_prefix(tags.items[i], "sha256-"))
            r = list_tag(listing, repository, tags.items[i], err);
    return r;
}

static int list_all(struct listing *listing, struct fl_error *err)
{
    struct fl_oci_texts names = {0};
    int r = fl_registry_repositories(listing->registry, listing->image->arena, &names, err);

    for (size_t i = 0; r == 0 && i < names.count; i++) {
        r = list_repository(listing, names.items[i], err);
        if (r == FL_E_NOT_FOUND)
            r = 0;
    }
    return r;
}

int fl_image_list(struct fl_image_command *image, int argc, char **argv)
{
    struct listing listing = {.image = image};
    const struct fl_option more[] = {{"quiet", 'q', FL_OPTION_FLAG, &listing.quiet},
                                     {"all", 'a', FL_OPTION_FLAG, &listing.all}};
    struct fl_image_reference reference = {0};
    struct fl_error err = {0};
    int status = fl_image_parse(image, list_help, more, FL_COUNT_OF(more), argc, argv), r = 0;

    if (status >= 0)
        return status;
    if (image->words.count > 1)
        return fl_command_usage(image->command, "one name, or none");
    if (image->words.count == 1)
        r = fl_image_reference(image, image->words.items[0], &reference, &err);
    if (r == 0)
        r = fl_image_registry(image, &reference, &listing.registry, &err);
    listing.host = reference.registry;
    if (r == 0)
        r = reference.repository ? list_repository(&listing, reference.repository, &err)
                                 : list_all(&listing, &err);
    if (r < 0)
        return fl_image_fail(image, &err);
    if (listing.rows == 0 && !listing.quiet)
        (void)fprintf(stderr, "No images found.\n");
    return 0;
}
