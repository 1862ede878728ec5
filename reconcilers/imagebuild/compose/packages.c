#include "reconcilers/imagebuild/compose/packages_internal.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/str.h"

#include <string.h>

#define TEXT_MAX 4096
#define PART_MAX 255 /* of a file name */

/* Locks. */

static const char *const kinds[] = {[FL_PACKAGE_DEBIAN] = "deb", [FL_PACKAGE_PYTHON] = "pypi"};

json_t *fl_package_lock_json(const struct fl_package_lock *lock)
{
    json_t *list = json_array();

    for (size_t i = 0; i < lock->count; i++) {
        const struct fl_package *item = &lock->items[i];
        json_t *value = json_object();

        fl_json_set_str(value, "kind", kinds[item->kind]);
        fl_json_set_str(value, "name", item->name);
        fl_json_set_str(value, "version", item->version);
        fl_json_set_str(value, "architecture", item->architecture);
        fl_json_set_str(value, "file", item->file);
        fl_json_set_str(value, "digest", item->digest);
        (void)json_object_set_new(value, "size", json_integer(item->size));
        (void)json_array_append_new(list, value);
    }
    return list;
}

static const char *text_of(struct fl_arena *arena, const json_t *value, const char *name)
{
    const char *text = fl_json_str(value, name);

    return text && strlen(text) < TEXT_MAX ? fl_arena_strdup(arena, text) : NULL;
}

/* One part of a path, and nothing that a message or a path could be broken by. */
static bool is_part(const char *text)
{
    if (!text || !*text || *text == '.' || strlen(text) > PART_MAX || strchr(text, '/'))
        return false;
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

bool fl_package_is_sound(const struct fl_package *package)
{
    return is_part(package->name) && is_part(package->version) && is_part(package->file) &&
           (!package->architecture || is_part(package->architecture)) && package->digest &&
           fl_digest_is_valid(package->digest) && package->size >= 0;
}

static int parse_package(struct fl_arena *arena, const json_t *value, struct fl_package *package,
                         struct fl_error *err)
{
    const char *kind = fl_json_str(value, "kind");

    *package = (struct fl_package){
        .kind = fl_streq(kind, kinds[FL_PACKAGE_PYTHON]) ? FL_PACKAGE_PYTHON : FL_PACKAGE_DEBIAN,
        .name = text_of(arena, value, "name"),
        .version = text_of(arena, value, "version"),
        .architecture = text_of(arena, value, "architecture"),
        .file = text_of(arena, value, "file"),
        .url = text_of(arena, value, "url"),
        .digest = text_of(arena, value, "digest"),
        .size = fl_json_int(value, "size", 0),
    };
    if (!fl_package_is_sound(package))
        return fl_error_set(err, FL_E_INVALID,
                            "a lock's entry for %s lacks name, version, file or "
                            "digest",
                            fl_str_or(package->name, "a package"));
    return 0;
}

int fl_package_lock_parse(struct fl_arena *arena, const json_t *value,
                          struct fl_package_lock *ret_lock, struct fl_error *err)
{
    size_t count = json_array_size(value);
    struct fl_package_lock lock = {fl_new_array(arena, struct fl_package, count + 1), count};
    int r = 0;

    if (!json_is_array(value) || count > LOCK_MAX)
        return fl_error_set(err, FL_E_INVALID, "a lock is a list of at most %d", LOCK_MAX);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = parse_package(arena, json_array_get(value, i), &lock.items[i], err);
    if (r == 0)
        *ret_lock = lock;
    return r;
}

static int by_name(const void *a, const void *b)
{
    const struct fl_package *one = a, *other = b;
    int order = strcmp(one->name, other->name);

    return order != 0 ? order : strcmp(one->file, other->file);
}

void fl_package_lock_sort(struct fl_package_lock *lock)
{
    qsort(lock->items, lock->count, sizeof(lock->items[0]), by_name);
}

/* Opening. */

static const char *const *make_env(struct fl_packages *packages)
{
    const struct fl_packages_options *options = &packages->options;
    size_t count = 0;
    const char **env;

    while (options->extra_env && options->extra_env[count])
        count++;
    env = fl_new_array(packages->arena, const char *, count + 5);
    for (size_t i = 0; i < count; i++)
        env[i] = options->extra_env[i];
    env[count++] = fl_arena_printf(packages->arena, "PATH=%s",
                                   fl_str_or(options->path, "/usr/local/bin:/usr/bin:/bin:/usr/"
                                                            "local/sbin:/usr/sbin:/sbin"));
    env[count++] = "LC_ALL=C.UTF-8";
    env[count++] = "DEBIAN_FRONTEND=noninteractive";
    return env;
}

int fl_packages_open(const struct fl_packages_options *options, struct fl_packages **ret_packages,
                     struct fl_error *err)
{
    struct fl_packages *packages = fl_calloc(1, sizeof(*packages));
    int r = fl_dir_ensure(options->folder, 0700, err);

    packages->options = *options;
    packages->arena = fl_arena_create();
    packages->env = make_env(packages);
    fl_buf_init(&packages->pins, 0);
    if (r < 0) {
        fl_packages_close(packages);
        return r;
    }
    *ret_packages = packages;
    return 0;
}

void fl_packages_close(struct fl_packages *packages)
{
    if (!packages)
        return;
    for (size_t at = 0; at < packages->pins.len; at += strlen(packages->pins.data + at) + 1)
        fl_blobs_unpin(packages->options.blobs, packages->pins.data + at);
    fl_buf_finish(&packages->pins);
    fl_http_client_destroy(packages->client);
    free(packages->client_base);
    fl_arena_destroy(packages->arena);
    free(packages);
}

/* Fetching. */

static int fetch_one(struct fl_packages *packages, const struct fl_package *package,
                     struct fl_packages_fetched *fetched, struct fl_error *err)
{
    int64_t size = 0;
    int r = 0;

    if (fl_blobs_pin(packages->options.blobs, package->digest, NULL) == 0) {
        fetched->there++;
    } else {
        r = fl_package_download(packages, package, &size, err);
        fetched->fetched++;
        fetched->bytes_fetched += size;
    }
    if (r < 0)
        return fl_error_wrap(err, "%s", package->file);
    fl_buf_append(&packages->pins, package->digest, strlen(package->digest) + 1);
    return 0;
}

int fl_packages_fetch(struct fl_packages *packages, const struct fl_package_lock *lock,
                      struct fl_packages_fetched *ret_fetched, struct fl_error *err)
{
    int64_t done = 0, total = 0;
    int r = 0;

    *ret_fetched = (struct fl_packages_fetched){0};
    for (size_t i = 0; i < lock->count; i++)
        total += lock->items[i].size;
    for (size_t i = 0; r == 0 && i < lock->count; i++) {
        if (!fl_packages_tell(packages, lock->items[i].file, done, total))
            return fl_error_set(err, FL_E_UNAVAILABLE, "broken off");
        r = fetch_one(packages, &lock->items[i], ret_fetched, err);
        done += lock->items[i].size;
    }
    return r;
}
