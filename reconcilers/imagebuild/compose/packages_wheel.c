/* Wheels into trees, as the installer's side of their specification has it (packaging.python.org:
 * binary distribution format, recording installed projects, entry points).
 *
 * A wheel's RECORD names each of its files and their digests. Here it is held to that: a file that
 * RECORD does not name, or names otherwise, or that is missing, refuses the wheel. */
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/map.h"
#include "lib/process.h"
#include "lib/str.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define DOCUMENT_MAX ((size_t)32 * 1024 * 1024)
#define SCRIPT_MAX   ((size_t)16 * 1024 * 1024)
#define PIECE_SIZE   ((size_t)128 * 1024)
#define SCRIPTS      "usr/local/bin"
#define PYTHON_LINE  "#!/usr/bin/python3"

/* A line of RECORD. */
struct row {
    const char *path, *hash; /* "" where there is none */
    bool is_there;
};

struct wheel {
    struct fl_arena *arena;
    struct fl_tree *tree;
    const char *site;
    const char *name;     /* of the package, as the lock has it */
    const char *info;     /* "numpy-1.26.4.dist-info" */
    const char *data;     /* "numpy-1.26.4.data/" */
    struct fl_tree *from; /* what is in the archive */
    struct fl_map *rows;
    struct fl_buf record; /* of what was installed */
};

/* Digests as RECORD writes them: "sha256=" and base64 for addresses without padding. */

static const char *hash_text(struct fl_arena *arena, struct fl_sha256 *hash)
{
    unsigned char bytes[FL_SHA256_SIZE];
    char *text;

    fl_sha256_end(hash, bytes);
    text = fl_base64_encode(arena, bytes, sizeof(bytes));
    text[strcspn(text, "=")] = '\0';
    for (char *at = text; *at; at++)
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    return fl_arena_printf(arena, "sha256=%s", text);
}

static const char *hash_of(struct fl_arena *arena, const void *data, size_t len)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();

    fl_sha256_add(hash, data, len);
    return hash_text(arena, hash);
}

static int hash_file(struct fl_arena *arena, const char *path, const char **ret_hash,
                     int64_t *ret_size, struct fl_error *err)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    FL_CLEANUP(fl_freep) char *piece = fl_malloc(PIECE_SIZE);
    FL_CLEANUP(fl_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int64_t size = 0;
    ssize_t n = fd < 0 ? -1 : 0;

    while (fd >= 0 && (n = read(fd, piece, PIECE_SIZE)) > 0) {
        fl_sha256_add(hash, piece, (size_t)n);
        size += n;
    }
    if (n < 0)
        return fl_error_errno(err, errno, "%s", path);
    *ret_hash = hash_text(arena, hash);
    *ret_size = size;
    return 0;
}

/* RECORD: path,hash,size with the quotes of CSV. */

/* The next field of a line; NULL where its quotes are not closed. */
static const char *next_field(struct fl_arena *arena, const char **rest)
{
    const char *at = *rest;
    char *field = fl_new_array(arena, char, strlen(at) + 1), *to = field;

    if (*at != '"') {
        size_t len = strcspn(at, ",");

        *rest = at[len] ? at + len + 1 : at + len;
        return fl_arena_strndup(arena, at, len);
    }
    for (at++; *at; at++) {
        if (*at == '"' && at[1] != '"')
            break;
        at += *at == '"';
        *to++ = *at;
    }
    *to = '\0';
    if (*at != '"' || (at[1] && at[1] != ','))
        return NULL;
    *rest = at[1] ? at + 2 : at + 1;
    return field;
}

static int add_row(struct wheel *wheel, const char *line, struct fl_error *err)
{
    struct row *row = fl_new(wheel->arena, struct row);
    const char *rest = line;

    row->path = next_field(wheel->arena, &rest);
    row->hash = row->path ? next_field(wheel->arena, &rest) : NULL;
    if (!row->path || !row->hash || !fl_path_is_below(row->path))
        return fl_error_set(err, FL_E_INVALID, "its RECORD has a line that is none: %.80s", line);
    if (*row->hash && !fl_str_has_prefix(row->hash, "sha256="))
        return fl_error_set(err, FL_E_INVALID,
                            "its RECORD has another digest than sha256 for %.80s", row->path);
    if (fl_map_get(wheel->rows, row->path))
        return fl_error_set(err, FL_E_INVALID, "its RECORD names %.80s twice", row->path);
    fl_map_put(wheel->rows, row->path, row);
    return 0;
}

static int read_document(const struct wheel *wheel, const char *name, struct fl_bytes **ret_text,
                         struct fl_error *err)
{
    const char *path = fl_arena_printf(wheel->arena, "%s/%s", wheel->info, name);
    struct fl_tree_entry entry;

    if (!fl_tree_get(wheel->from, path, &entry) || entry.type != FL_TREE_FILE)
        return fl_error_set(err, FL_E_NOT_FOUND, "it has no %s", name);
    return fl_file_read(entry.source, DOCUMENT_MAX, ret_text, err);
}

/* A line without the '\r' that some writers end it with. */
static char *next_line(struct fl_arena *arena, const char **rest)
{
    char *line = fl_str_next(arena, rest, '\n');

    line[strcspn(line, "\r")] = '\0';
    return line;
}

static int read_record(struct wheel *wheel, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *rest;
    int r = read_document(wheel, "RECORD", &text, err);

    if (r < 0)
        return r;
    for (rest = text->data; r == 0 && rest;) {
        const char *line = next_line(wheel->arena, &rest);

        if (fl_map_count(wheel->rows) >= PACKAGE_ENTRIES_MAX)
            r = fl_error_set(err, FL_E_TOO_LARGE, "its RECORD has too many lines");
        else if (*line)
            r = add_row(wheel, line, err);
    }
    return r;
}

/* RECORD cannot have a digest of itself, nor of what signs it. */
static bool needs_no_hash(const struct wheel *wheel, const char *path)
{
    size_t len = strlen(wheel->info);

    return strncmp(path, wheel->info, len) == 0 &&
           (fl_streq(path + len, "/RECORD") || fl_streq(path + len, "/RECORD.jws") ||
            fl_streq(path + len, "/RECORD.p7s"));
}

static int check_file(struct wheel *wheel, const struct fl_tree_entry *entry, int64_t *ret_size,
                      struct fl_error *err)
{
    struct row *row = fl_map_get(wheel->rows, entry->path);
    const char *hash;
    int r;

    if (needs_no_hash(wheel, entry->path)) {
        if (row)
            row->is_there = true;
        return 0;
    }
    if (!row || !*row->hash)
        return fl_error_set(err, FL_E_INVALID, "its RECORD has no digest of %.150s", entry->path);
    row->is_there = true;
    r = hash_file(wheel->arena, entry->source, &hash, ret_size, err);
    if (r == 0 && (strncmp(row->hash, hash, strlen(hash)) != 0 ||
                   row->hash[strlen(hash) + strspn(row->hash + strlen(hash), "=")]))
        r = fl_error_set(err, FL_E_INVALID, "%.150s is not what its RECORD says", entry->path);
    return r;
}

static int check_rows(const struct wheel *wheel, struct fl_error *err)
{
    const char *path;
    void *cursor = NULL, *value;

    while (fl_map_next(wheel->rows, &cursor, &path, &value))
        if (!((const struct row *)value)->is_there)
            return fl_error_set(err, FL_E_INVALID, "it lacks %.150s, which its RECORD names", path);
    return 0;
}

/* Where things go. */

/* `path` as RECORD names it: from the site folder, both from the root. */
static const char *from_site(const struct wheel *wheel, const char *path)
{
    const char *site = wheel->site, *up = "";
    size_t same = 0;

    for (size_t i = 0; site[i] && site[i] == path[i]; i++)
        if (site[i] == '/')
            same = i + 1;
    if (fl_str_has_prefix(path, site) && path[strlen(site)] == '/')
        return path + strlen(site) + 1;
    for (const char *at = site + same; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL)
        up = fl_arena_printf(wheel->arena, "../%s", up);
    return fl_arena_printf(wheel->arena, "%s%s", up, path + same);
}

static void put_field(struct fl_buf *out, const char *text)
{
    if (!strpbrk(text, ",\"")) {
        fl_buf_puts(out, text);
        return;
    }
    fl_buf_putc(out, '"');
    for (; *text; text++) {
        if (*text == '"')
            fl_buf_putc(out, '"');
        fl_buf_putc(out, *text);
    }
    fl_buf_putc(out, '"');
}

static void put_row(struct wheel *wheel, const char *path, const char *hash, int64_t size)
{
    put_field(&wheel->record, from_site(wheel, path));
    fl_buf_printf(&wheel->record, ",%s,%" PRId64 "\n", hash, size);
}

static int add_made(struct wheel *wheel, const char *path, const char *text, size_t len,
                    bool is_executable, struct fl_error *err)
{
    put_row(wheel, path, hash_of(wheel->arena, text, len), (int64_t)len);
    return fl_tree_add_text(wheel->tree, path, text, len, is_executable, err);
}

/* Scripts are made for any Python; they get the image's. */
static int add_wheel_script(struct wheel *wheel, const char *path, const char *source,
                            struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_buf script;
    size_t first;
    int r = fl_file_read(source, SCRIPT_MAX, &text, err);

    if (r < 0)
        return r;
    fl_buf_init(&script, 0);
    first = strcspn(text->data, "\r\n");
    if (fl_str_has_prefix(text->data, "#!python")) {
        fl_buf_puts(&script, PYTHON_LINE);
        fl_buf_append(&script, text->data + first, text->len - first);
    } else {
        fl_buf_append(&script, text->data, text->len);
    }
    r = add_made(wheel, path, fl_buf_text(&script), script.len, true, err);
    fl_buf_finish(&script);
    return r;
}

/* "NAME.data/SCHEME/…"; NULL where it is of no use in an image. */
static const char *data_target(const struct wheel *wheel, const char *scheme, const char *rest)
{
    if (fl_streq(scheme, "purelib") || fl_streq(scheme, "platlib"))
        return fl_arena_printf(wheel->arena, "%s/%s", wheel->site, rest);
    if (fl_streq(scheme, "scripts"))
        return fl_arena_printf(wheel->arena, SCRIPTS "/%s", rest);
    if (fl_streq(scheme, "data"))
        return fl_arena_printf(wheel->arena, "usr/local/%s", rest);
    return NULL;
}

static int place_data(struct wheel *wheel, const struct fl_tree_entry *entry, int64_t size,
                      struct fl_error *err)
{
    const char *rest = entry->path + strlen(wheel->data);
    const char *scheme = fl_str_next(wheel->arena, &rest, '/');
    const char *target = rest ? data_target(wheel, scheme, rest) : NULL;
    struct row *row = fl_map_get(wheel->rows, entry->path);

    if (!rest || (!target && !fl_streq(scheme, "headers")))
        return fl_error_set(err, FL_E_INVALID, "%.150s is in no scheme that is known", entry->path);
    if (!target)
        return 0;
    if (fl_streq(scheme, "scripts"))
        return add_wheel_script(wheel, target, entry->source, err);
    put_row(wheel, target, row->hash, size);
    return fl_tree_add_file(wheel->tree, target, entry->source, (entry->mode & 0111) != 0, err);
}

static int place_file(struct wheel *wheel, const struct fl_tree_entry *entry, struct fl_error *err)
{
    const char *target = fl_arena_printf(wheel->arena, "%s/%s", wheel->site, entry->path);
    const struct row *row = fl_map_get(wheel->rows, entry->path);
    int64_t size = 0;
    int r = check_file(wheel, entry, &size, err);

    /* Byte code is made for one Python and one time of a file, and signatures are of another
     * RECORD than the one that is written here. */
    if (r < 0 || strstr(entry->path, "__pycache__/") || needs_no_hash(wheel, entry->path))
        return r;
    if (fl_str_has_prefix(entry->path, wheel->data))
        return place_data(wheel, entry, size, err);
    put_row(wheel, target, row->hash, size);
    return fl_tree_add_file(wheel->tree, target, entry->source, (entry->mode & 0111) != 0, err);
}

static int place_all(struct wheel *wheel, struct fl_error *err)
{
    struct fl_tree_entry entry;
    void *cursor = NULL;
    int r = 0;

    while (r == 0 && fl_tree_next(wheel->from, &cursor, &entry)) {
        entry.path = fl_arena_strdup(wheel->arena, entry.path);
        if (entry.type == FL_TREE_LINK)
            r = fl_error_set(err, FL_E_INVALID, "%.150s is a link, which wheels have none of",
                             entry.path);
        else if (entry.type == FL_TREE_FILE)
            r = place_file(wheel, &entry, err);
    }
    return r == 0 ? check_rows(wheel, err) : r;
}

/* Entry points: "name = module:function [extra]" becomes a script. */

/* Dotted names of Python. */
static bool is_dotted_name(const char *text)
{
    bool begins = true;

    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '.' ? begins : !(isalpha(c) || c == '_' || c >= 0x80 || (!begins && isdigit(c))))
            return false;
        begins = c == '.';
    }
    return !begins;
}

static bool is_script_name(const char *text)
{
    return *text && !strchr(text, '/') && fl_path_is_below(text);
}

static const char *trimmed(struct fl_arena *arena, const char *text, size_t len)
{
    size_t skip = strspn(text, " \t");

    if (skip > len)
        skip = len;
    text += skip, len -= skip;
    while (len > 0 && strchr(" \t", text[len - 1]))
        len--;
    return fl_arena_strndup(arena, text, len);
}

static int add_script(struct wheel *wheel, const char *line, struct fl_error *err)
{
    struct fl_arena *arena = wheel->arena;
    const char *equals = strchr(line, '='), *colon = equals ? strchr(equals, ':') : NULL;
    const char *name, *module, *function, *text;

    if (!colon)
        return fl_error_set(err, FL_E_INVALID, "its entry points have a line that is none: %.80s",
                            line);
    name = trimmed(arena, line, (size_t)(equals - line));
    module = trimmed(arena, equals + 1, (size_t)(colon - equals - 1));
    function = trimmed(arena, colon + 1, strcspn(colon + 1, "["));
    if (!is_script_name(name) || !is_dotted_name(module) || !is_dotted_name(function))
        return fl_error_set(err, FL_E_INVALID, "its entry points have a line that is none: %.80s",
                            line);
    text = fl_arena_printf(arena, PYTHON_LINE "\nimport sys\nfrom %s import %.*s\nsys.exit(%s())\n",
                           module, (int)strcspn(function, "."), function, function);
    return add_made(wheel, fl_arena_printf(arena, SCRIPTS "/%s", name), text, strlen(text), true,
                    err);
}

static int add_scripts(struct wheel *wheel, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    bool is_wanted = false;
    const char *rest;
    int r = read_document(wheel, "entry_points.txt", &text, err);

    if (r == FL_E_NOT_FOUND)
        return 0;
    for (rest = r == 0 ? text->data : NULL; r == 0 && rest;) {
        const char *line = next_line(wheel->arena, &rest);

        line += strspn(line, " \t");
        if (*line == '[')
            is_wanted = fl_str_has_prefix(line, "[console_scripts]") ||
                        fl_str_has_prefix(line, "[gui_scripts]");
        else if (is_wanted && *line && !strchr("#;", *line))
            r = add_script(wheel, line, err);
    }
    return r;
}

/* What the wheel says of itself. */

/* Names are the same where letters' size and the kind of "-", "_" and "." differ (PEP 503). */
static bool is_same_name(const char *a, size_t len, const char *b)
{
    size_t i = 0;

    for (; i < len && b[i]; i++) {
        char one = strchr("-_.", a[i]) ? '-' : (char)tolower((unsigned char)a[i]);
        char other = strchr("-_.", b[i]) ? '-' : (char)tolower((unsigned char)b[i]);

        if (one != other)
            return false;
    }
    return i == len && !b[i];
}

static int find_info(struct wheel *wheel, struct fl_error *err)
{
    struct fl_tree_entry entry;
    void *cursor = NULL;

    while (fl_tree_next(wheel->from, &cursor, &entry)) {
        if (strchr(entry.path, '/') || !fl_str_has_suffix(entry.path, ".dist-info"))
            continue;
        if (wheel->info)
            return fl_error_set(err, FL_E_INVALID, "it has two .dist-info folders");
        wheel->info = fl_arena_strdup(wheel->arena, entry.path);
    }
    if (!wheel->info)
        return fl_error_set(err, FL_E_INVALID, "it has no .dist-info folder");
    if (!is_same_name(wheel->info, strcspn(wheel->info, "-"), wheel->name))
        return fl_error_set(err, FL_E_INVALID, "what is in it is %.100s, not %s", wheel->info,
                            wheel->name);
    wheel->data = fl_arena_printf(wheel->arena, "%.*s.data/",
                                  (int)(strlen(wheel->info) - strlen(".dist-info")), wheel->info);
    return 0;
}

static int check_version(struct wheel *wheel, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = read_document(wheel, "WHEEL", &text, err);
    const char *version = r == 0 ? strstr(text->data, "Wheel-Version:") : NULL;

    if (r < 0)
        return r;
    version = version ? version + strlen("Wheel-Version:") : "";
    version += strspn(version, " ");
    if (!fl_str_has_prefix(version, "1."))
        return fl_error_set(err, FL_E_INVALID, "its Wheel-Version is %.*s, and 1 is known",
                            (int)strcspn(version, "\r\n"), version);
    return 0;
}

static int add_record(struct wheel *wheel, struct fl_error *err)
{
    const char *info = fl_arena_printf(wheel->arena, "%s/%s", wheel->site, wheel->info);
    const char *path = fl_arena_printf(wheel->arena, "%s/RECORD", info);
    int r = add_made(wheel, fl_arena_printf(wheel->arena, "%s/INSTALLER", info), "flops\n",
                     strlen("flops\n"), false, err);

    put_field(&wheel->record, from_site(wheel, path));
    fl_buf_puts(&wheel->record, ",,\n");
    return r == 0 ? fl_tree_add_text(wheel->tree, path, wheel->record.data, wheel->record.len,
                                     false, err)
                  : r;
}

static int install(struct wheel *wheel, const char *folder, struct fl_error *err)
{
    int r = fl_tree_add_tree(wheel->from, "", folder, NULL, NULL, err);

    if (r == 0)
        r = find_info(wheel, err);
    if (r == 0)
        r = check_version(wheel, err);
    if (r == 0)
        r = read_record(wheel, err);
    if (r == 0)
        r = place_all(wheel, err);
    if (r == 0)
        r = add_scripts(wheel, err);
    if (r == 0)
        r = add_record(wheel, err);
    if (r == FL_E_NOT_FOUND && err)
        err->code = FL_E_INVALID;
    return r == FL_E_NOT_FOUND ? FL_E_INVALID : r;
}

int fl_wheel_install(const char *folder, const char *name, const char *site, struct fl_tree *tree,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct wheel wheel = {.arena = arena,
                          .tree = tree,
                          .site = site,
                          .name = name,
                          .from = fl_tree_create(),
                          .rows = fl_map_create(NULL)};
    int r;

    fl_buf_init(&wheel.record, 0);
    r = install(&wheel, folder, err);
    fl_buf_finish(&wheel.record);
    fl_map_destroy(wheel.rows);
    fl_tree_destroy(wheel.from);
    return r;
}

static int add_wheel(struct fl_packages *packages, const struct fl_package *package,
                     const char *site, const char *scratch, struct fl_tree *tree,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *folder = fl_arena_printf(arena, "%s/%s", scratch, package->file);
    int r = fl_packages_unpack_one(packages, package, FL_ARCHIVE_WHEEL, folder, err);

    if (r < 0)
        return r;
    r = fl_wheel_install(folder, package->name, site, tree, err);
    return r < 0 ? fl_error_wrap(err, "%s", package->file) : 0;
}

int fl_packages_unpack_python(struct fl_packages *packages, const struct fl_package_lock *lock,
                              const char *site, struct fl_tree *tree, struct fl_arena *arena,
                              const char **ret_scratch, struct fl_error *err)
{
    const char *scratch = *ret_scratch = fl_packages_scratch(packages, arena);
    int r = fl_dir_remove(scratch, err);

    if (r == 0)
        r = fl_tree_add_folder(tree, site, err);
    for (size_t i = 0; r == 0 && i < lock->count; i++)
        r = add_wheel(packages, &lock->items[i], site, scratch, tree, err);
    return r;
}
