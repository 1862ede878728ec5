/* Names of images and platforms, as the OCI distribution and image specifications have them.
 *
 * Pure functions; any thread. Results are in the caller's arena. */
#ifndef FL_LIB_OCI_REFERENCE_H
#define FL_LIB_OCI_REFERENCE_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>

#define FL_OCI_REPOSITORY_MAX 255
#define FL_OCI_TAG_MAX        128

/* "host:port/team/name:tag@sha256:…". */
struct fl_image_reference {
    const char *registry;   /* "host" or "host:port"; NULL: none was named */
    const char *repository; /* "team/name" */
    const char *tag;        /* NULL: none */
    const char *digest;     /* NULL: none */
};

/* The first part is a registry where it has a '.' or a ':', or is "localhost" (the rule that
 * container tools share). INVALID with what is wrong. No default registry, no default tag. */
int fl_image_reference_parse(struct fl_arena *arena, const char *text,
                             struct fl_image_reference *ret_reference, struct fl_error *err);
const char *fl_image_reference_text(struct fl_arena *arena,
                                    const struct fl_image_reference *reference);

/* distribution-spec 1.1, "Pulling manifests": the grammar of <name> and of a tag. */
bool fl_oci_repository_is_valid(const char *text);
bool fl_oci_tag_is_valid(const char *text);

/* "linux/arm64/v8"; the variant may be NULL. */
struct fl_platform {
    const char *os, *architecture, *variant;
};
int fl_platform_parse(struct fl_arena *arena, const char *text, struct fl_platform *ret_platform,
                      struct fl_error *err);
const char *fl_platform_text(struct fl_arena *arena, const struct fl_platform *platform);
/* Whether an image for `image` runs on `wanted`: same os and architecture; the variant counts where
 * both have one, but arm64's "v8", which is every arm64. */
bool fl_platform_fits(const struct fl_platform *image, const struct fl_platform *wanted);
struct fl_platform fl_platform_of_machine(void); /* static texts */
/* Debian's name of the architecture: "amd64", "arm64", "armhf" …; NULL: Debian has none. */
const char *fl_platform_debian(const struct fl_platform *platform);

#endif
