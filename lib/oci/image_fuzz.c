/* Manifests, indexes and configurations of strangers: what is read comes back the same. */
#include "lib/oci/image.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_manifest(struct fl_arena *arena, const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *first = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *second = NULL;
    const struct fl_platform here = {"linux", "arm64", NULL};
    struct fl_oci_manifest manifest;

    if (fl_oci_manifest_parse(arena, data, size, NULL, &manifest, NULL) < 0)
        return;
    (void)fl_oci_index_choose(&manifest, &here, NULL);
    first = fl_oci_manifest_encode(&manifest);
    if (fl_oci_manifest_parse(arena, first->data, first->len, manifest.media_type, &manifest,
                              NULL) < 0)
        abort();
    second = fl_oci_manifest_encode(&manifest);
    if (first->len != second->len || memcmp(first->data, second->data, first->len) != 0)
        abort();
}

static void try_config(struct fl_arena *arena, const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_oci_config config;

    if (fl_oci_config_parse(arena, data, size, &config, NULL) < 0)
        return;
    text = fl_oci_config_encode(&config);
    if (fl_oci_config_parse(arena, text->data, text->len, &config, NULL) < 0)
        abort();
}

static void try_reference(struct fl_arena *arena, const uint8_t *data, size_t size)
{
    const char *text = fl_arena_strndup(arena, (const char *)data, size);
    struct fl_image_reference reference;

    if (fl_image_reference_parse(arena, text, &reference, NULL) == 0 &&
        strcmp(fl_image_reference_text(arena, &reference), text) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    try_manifest(arena, data, size);
    try_config(arena, data, size);
    try_reference(arena, data, size);
    return 0;
}
