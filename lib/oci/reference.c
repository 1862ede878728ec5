#include "lib/oci/reference.h"

#include "lib/digest.h"
#include "lib/str.h"

#include <string.h>
#include <sys/utsname.h>

#define REFERENCE_MAX 1024

static bool is_lower(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_word(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

/* What may stand between two runs of letters: '.', '_', "__" or any number of '-'. */
static size_t separator_len(const char *text)
{
    size_t dashes = strspn(text, "-");

    if (dashes > 0)
        return dashes;
    if (text[0] == '_' && text[1] == '_')
        return 2;
    return text[0] == '.' || text[0] == '_' ? 1 : 0;
}

bool fl_oci_repository_is_valid(const char *text)
{
    if (strlen(text) > FL_OCI_REPOSITORY_MAX)
        return false;
    for (;;) {
        if (!is_lower(*text))
            return false;
        while (is_lower(*text))
            text++;
        if (!*text)
            return true;
        if (*text == '/') {
            text++;
            continue;
        }
        size_t len = separator_len(text);

        if (len == 0)
            return false;
        text += len;
    }
}

bool fl_oci_tag_is_valid(const char *text)
{
    size_t len = 0;

    if (!is_word(text[0]))
        return false;
    while (is_word(text[len]) || text[len] == '.' || text[len] == '-')
        len++;
    return !text[len] && len <= FL_OCI_TAG_MAX;
}

static bool host_is_valid(const char *text, size_t len)
{
    if (len > 2 && text[0] == '[' && text[len - 1] == ']')
        return strspn(text + 1, "0123456789abcdefABCDEF:.") == len - 2;
    if (len == 0 || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_word(text[i]) && text[i] != '.' && text[i] != '-')
            return false;
    return true;
}

/* A host name or an address, and perhaps a port. */
static bool registry_is_valid(const char *text)
{
    const char *bracket = strrchr(text, ']'), *port = strchr(bracket ? bracket : text, ':');
    int64_t number;

    if (!host_is_valid(text, port ? (size_t)(port - text) : strlen(text)))
        return false;
    return !port || fl_str_to_int64(port + 1, 1, 65535, &number);
}

static bool names_registry(const char *first)
{
    return strchr(first, '.') || strchr(first, ':') || fl_streq(first, "localhost");
}

static int split(struct fl_arena *arena, char *text, struct fl_image_reference *ret,
                 struct fl_error *err)
{
    char *at = strchr(text, '@'), *slash, *colon;

    if (at) {
        *at = '\0';
        ret->digest = at + 1;
        if (!fl_digest_is_valid(ret->digest))
            return fl_error_set(err, FL_E_INVALID, "its digest is not sha256: and 64 hex digits");
    }
    slash = strchr(text, '/');
    if (slash) {
        char *first = fl_arena_strndup(arena, text, (size_t)(slash - text));

        if (names_registry(first)) {
            ret->registry = first;
            text = slash + 1;
        }
    }
    colon = strrchr(text, ':');
    if (colon && !strchr(colon, '/')) {
        *colon = '\0';
        ret->tag = colon + 1;
    }
    ret->repository = text;
    return 0;
}

int fl_image_reference_parse(struct fl_arena *arena, const char *text,
                             struct fl_image_reference *ret_reference, struct fl_error *err)
{
    struct fl_image_reference reference = {0};
    int r;

    if (strlen(text) > REFERENCE_MAX)
        return fl_error_set(err, FL_E_INVALID, "an image's name has at most %d characters",
                            REFERENCE_MAX);
    r = split(arena, fl_arena_strdup(arena, text), &reference, err);
    if (r == 0 && reference.registry && !registry_is_valid(reference.registry))
        r = fl_error_set(err, FL_E_INVALID, "\"%s\" is no host and port", reference.registry);
    if (r == 0 && !fl_oci_repository_is_valid(reference.repository))
        r = fl_error_set(err, FL_E_INVALID,
                         "\"%s\" is no repository: lower-case letters and digits, separated by "
                         "'.', '_', '-' and '/'",
                         reference.repository);
    if (r == 0 && reference.tag && !fl_oci_tag_is_valid(reference.tag))
        r = fl_error_set(err, FL_E_INVALID, "\"%s\" is no tag", reference.tag);
    if (r == 0)
        *ret_reference = reference;
    else
        (void)fl_error_wrap(err, "image \"%.200s\"", text);
    return r;
}

const char *fl_image_reference_text(struct fl_arena *arena,
                                    const struct fl_image_reference *reference)
{
    return fl_arena_printf(arena, "%s%s%s%s%s%s%s", fl_str_or(reference->registry, ""),
                           reference->registry ? "/" : "", reference->repository,
                           reference->tag ? ":" : "", fl_str_or(reference->tag, ""),
                           reference->digest ? "@" : "", fl_str_or(reference->digest, ""));
}

/* Platforms. */

static bool part_is_valid(const char *text)
{
    size_t len = 0;

    while (is_word(text[len]) || text[len] == '.' || text[len] == '-')
        len++;
    return len > 0 && len <= 32 && !text[len];
}

int fl_platform_parse(struct fl_arena *arena, const char *text, struct fl_platform *ret_platform,
                      struct fl_error *err)
{
    const char *rest = text, *parts[3] = {0};
    size_t count = 0;

    while (rest && count < FL_COUNT_OF(parts)) {
        parts[count] = fl_str_next(arena, &rest, '/');
        if (!part_is_valid(parts[count]))
            break;
        count++;
    }
    if (rest || count < 2)
        return fl_error_set(err, FL_E_INVALID,
                            "\"%.64s\" is no platform: it looks like linux/amd64 or linux/arm/v7",
                            text);
    *ret_platform = (struct fl_platform){parts[0], parts[1], parts[2]};
    return 0;
}

const char *fl_platform_text(struct fl_arena *arena, const struct fl_platform *platform)
{
    return fl_arena_printf(arena, "%s/%s%s%s", platform->os, platform->architecture,
                           platform->variant ? "/" : "", fl_str_or(platform->variant, ""));
}

static const char *variant_of(const struct fl_platform *platform)
{
    bool is_any_arm64 =
        fl_streq(platform->architecture, "arm64") && fl_streq(platform->variant, "v8");

    return is_any_arm64 ? NULL : platform->variant;
}

bool fl_platform_fits(const struct fl_platform *image, const struct fl_platform *wanted)
{
    const char *one = variant_of(image), *other = variant_of(wanted);

    return fl_streq(image->os, wanted->os) && fl_streq(image->architecture, wanted->architecture) &&
           (!one || !other || fl_streq(one, other));
}

/* The kernel's name, Go's (which images use) and its variant, and Debian's. */
static const struct {
    const char *machine, *architecture, *variant, *debian;
} architectures[] = {
    {"x86_64", "amd64", NULL, "amd64"},      {"aarch64", "arm64", NULL, "arm64"},
    {"armv7l", "arm", "v7", "armhf"},        {"armv6l", "arm", "v6", "armel"},
    {"i686", "386", NULL, "i386"},           {"ppc64le", "ppc64le", NULL, "ppc64el"},
    {"riscv64", "riscv64", NULL, "riscv64"}, {"s390x", "s390x", NULL, "s390x"},
};

struct fl_platform fl_platform_of_machine(void)
{
    struct utsname name;

    if (uname(&name) == 0)
        for (size_t i = 0; i < FL_COUNT_OF(architectures); i++)
            if (fl_streq(name.machine, architectures[i].machine))
                return (struct fl_platform){"linux", architectures[i].architecture,
                                            architectures[i].variant};
    return (struct fl_platform){"linux", "unknown", NULL};
}

const char *fl_platform_debian(const struct fl_platform *platform)
{
    for (size_t i = 0; i < FL_COUNT_OF(architectures); i++)
        if (fl_streq(platform->architecture, architectures[i].architecture) &&
            (!platform->variant || !architectures[i].variant ||
             fl_streq(platform->variant, architectures[i].variant)))
            return architectures[i].debian;
    return NULL;
}
