/* Packages of worlds made here: wheels and Debian packages put together byte by byte, an index of
 * Python packages on loopback that pip asks, a repository of files that apt-get asks. */
#include "reconcilers/imagebuild/compose/packages.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/http_test_rig.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>

#define SITE        "usr/local/lib/python3.11/dist-packages"
#define DEADLINE_MS 120000
#define FILES_MAX   16

struct file {
    const char *path, *text;
    mode_t mode;      /* 0: 0644 */
    const char *hash; /* as RECORD says, "-": not named; NULL: as it is */
};

struct served {
    char path[128];
    struct fl_bytes *body;
};

struct world {
    char folder[64];
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_blobs *blobs;
    struct fl_packages *packages;
    struct rig *rig; /* with an index; else NULL */
    struct served served[FILES_MAX];
    size_t served_count;
    const char *extra_env[3];
    struct fl_error err;
};

static const char *below(struct world *world, const char *name)
{
    return fl_arena_printf(world->arena, "%s/%s", world->folder, name);
}

static struct world *open_world(int64_t deadline_ms, int64_t max_bytes, const char *apt_sources)
{
    struct world *world = fl_calloc(1, sizeof(*world));
    struct fl_packages_options options = {.env = &world->env, .apt_sources = apt_sources};

    (void)snprintf(world->folder, sizeof(world->folder), "/tmp/flops-packages-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    world->env = fl_env_real(NULL);
    world->arena = fl_arena_create();
    if (apt_sources)
        options.apt_sources = below(world, apt_sources);
    assert_int_equal(fl_blobs_open(&(struct fl_blobs_options){.env = &world->env,
                                                              .path = below(world, "blobs"),
                                                              .max_bytes = max_bytes},
                                   &world->blobs, &world->err),
                     0);
    options.folder = below(world, "state");
    options.blobs = world->blobs;
    options.extra_env = world->extra_env;
    options.deadline_ms = fl_monotonic_ms(&world->env) + deadline_ms;
    world->extra_env[0] = fl_arena_printf(world->arena, "HOME=%s", world->folder);
    world->extra_env[1] = "PIP_CONFIG_FILE=/dev/null";
    assert_int_equal(fl_packages_open(&options, &world->packages, &world->err), 0);
    return world;
}

static void close_world(struct world *world)
{
    if (world->rig)
        rig_stop(world->rig);
    for (size_t i = 0; i < world->served_count; i++)
        fl_bytes_unref(world->served[i].body);
    fl_packages_close(world->packages);
    fl_blobs_close(world->blobs);
    (void)fl_dir_remove(world->folder, NULL);
    fl_arena_destroy(world->arena);
    free(world);
}

static void assert_says(const struct world *world, const char *words)
{
    if (!strstr(world->err.msg, words))
        fail_msg("\"%s\" lacks \"%s\"", world->err.msg, words);
}

/* Archives. */

static void add_entry(struct archive *archive, const char *path, const void *data, size_t len,
                      mode_t mode)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, path);
    archive_entry_set_size(entry, (la_int64_t)len);
    archive_entry_set_filetype(entry, S_ISLNK(mode) ? AE_IFLNK : AE_IFREG);
    archive_entry_set_perm(entry, mode & 07777);
    archive_entry_set_mtime(entry, 1000000000, 0);
    if (S_ISLNK(mode)) {
        archive_entry_set_symlink(entry, data);
        archive_entry_set_size(entry, 0);
    }
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    if (!S_ISLNK(mode) && len > 0)
        assert_int_equal(archive_write_data(archive, data, len), (la_ssize_t)len);
    archive_entry_free(entry);
}

static struct archive *begin_archive(int (*format)(struct archive *), char *out, size_t size,
                                     size_t *ret_len)
{
    struct archive *archive = archive_write_new();

    assert_int_equal(format(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_in_last_block(archive, 1), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(archive, out, size, ret_len), ARCHIVE_OK);
    return archive;
}

static void end_archive(struct archive *archive)
{
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
}

static const char *record_hash(struct fl_arena *arena, const char *text)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    unsigned char bytes[FL_SHA256_SIZE];
    char *encoded;

    fl_sha256_add(hash, text, strlen(text));
    fl_sha256_end(hash, bytes);
    encoded = fl_base64_encode(arena, bytes, sizeof(bytes));
    encoded[strcspn(encoded, "=")] = '\0';
    for (char *at = encoded; *at; at++)
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    return fl_arena_printf(arena, "sha256=%s", encoded);
}

/* `more`: lines behind those that RECORD should have; NULL: no RECORD at all. */
static struct fl_bytes *make_wheel(struct world *world, const struct file *files, const char *more)
{
    static char out[256 * 1024];
    struct fl_buf record;
    size_t len = 0;
    struct archive *zip = begin_archive(archive_write_set_format_zip, out, sizeof(out), &len);

    fl_buf_init(&record, 0);
    for (; files->path; files++) {
        const char *hash = files->hash ? files->hash : record_hash(world->arena, files->text);

        add_entry(zip, files->path, files->text, strlen(files->text),
                  files->mode ? files->mode : 0644);
        if (!fl_streq(hash, "-"))
            fl_buf_printf(&record, "%s,%s,%zu\n", files->path, hash, strlen(files->text));
    }
    if (more) {
        fl_buf_printf(&record, "foo-1.0.dist-info/RECORD,,\n%s", more);
        add_entry(zip, "foo-1.0.dist-info/RECORD", record.data, record.len, 0644);
    }
    end_archive(zip);
    fl_buf_finish(&record);
    return fl_bytes_new(out, len);
}

static void assert_text(const struct fl_tree *tree, const char *path, const char *text)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_tree_entry entry;

    if (!fl_tree_get(tree, path, &entry))
        fail_msg("%s is not there", path);
    assert_int_equal(entry.type, FL_TREE_FILE);
    if (entry.source)
        assert_int_equal(fl_file_read(entry.source, 1 << 20, &bytes, NULL), 0);
    else
        bytes = fl_bytes_new(entry.data, entry.len);
    assert_string_equal(bytes->data, text);
}

static mode_t mode_in(const struct fl_tree *tree, const char *path)
{
    struct fl_tree_entry entry;

    assert_true(fl_tree_get(tree, path, &entry));
    return entry.mode;
}

static int unpack_wheel(struct world *world, struct fl_bytes *wheel, struct fl_tree *tree)
{
    char digest[FL_DIGEST_SIZE];
    struct fl_package package = {.kind = FL_PACKAGE_PYTHON,
                                 .name = "Foo",
                                 .version = "1.0",
                                 .file = "foo-1.0-py3-none-any.whl",
                                 .digest = digest};
    const char *scratch = NULL;

    assert_int_equal(fl_blobs_put(world->blobs, wheel->data, wheel->len, false, digest, NULL), 0);
    fl_bytes_unref(wheel);
    return fl_packages_unpack_python(world->packages, &(struct fl_package_lock){&package, 1}, SITE,
                                     tree, world->arena, &scratch, &world->err);
}

#define WHEEL_TEXT "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
#define METADATA   "Metadata-Version: 2.1\nName: foo\nVersion: 1.0\n"
#define INFO                                                                                       \
    {"foo-1.0.dist-info/WHEEL", WHEEL_TEXT, 0, NULL},                                              \
    {                                                                                              \
        "foo-1.0.dist-info/METADATA", METADATA, 0, NULL                                            \
    }

static void test_wheel_is_installed(void **state)
{
    const struct file files[] = {
        {"foo/__init__.py", "x = 1\n", 0, NULL},
        {"foo/a.data/kept", "not data\n", 0, NULL},
        {"foo/native.so", "ELF", 0755, NULL},
        {"foo/__pycache__/__init__.pyc", "code", 0, NULL},
        {"foo-1.0.data/scripts/run", "#!python -E\nprint()\n", 0, NULL},
        {"foo-1.0.data/data/share/foo.txt", "shared\n", 0, NULL},
        {"foo-1.0.data/purelib/bar.py", "y = 2\n", 0, NULL},
        {"foo-1.0.data/headers/foo.h", "int x;\n", 0, NULL},
        {"foo-1.0.dist-info/entry_points.txt",
         "[console_scripts]\r\nfoo = foo.cli:App.main [more]\r\n[other]\nz = z:z\n", 0, NULL},
        INFO,
        {NULL, NULL, 0, NULL},
    };
    const char *const script = "#!/usr/bin/python3\nimport sys\nfrom foo.cli import App\n"
                               "sys.exit(App.main())\n";
    struct world *world = open_world(DEADLINE_MS, 0, NULL);
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_tree_entry record;
    const char *text;

    (void)state;
    assert_int_equal(unpack_wheel(world, make_wheel(world, files, ""), tree), 0);
    assert_text(tree, SITE "/foo/__init__.py", "x = 1\n");
    assert_text(tree, SITE "/foo/a.data/kept", "not data\n");
    assert_text(tree, SITE "/bar.py", "y = 2\n");
    assert_text(tree, "usr/local/share/foo.txt", "shared\n");
    assert_text(tree, "usr/local/bin/run", "#!/usr/bin/python3\nprint()\n");
    assert_text(tree, "usr/local/bin/foo", script);
    assert_text(tree, SITE "/foo-1.0.dist-info/INSTALLER", "flops\n");
    assert_int_equal(mode_in(tree, "usr/local/bin/run"), 0755);
    assert_int_equal(mode_in(tree, "usr/local/bin/foo"), 0755);
    assert_int_equal(mode_in(tree, SITE "/foo/native.so"), 0755);
    assert_int_equal(mode_in(tree, SITE "/foo/__init__.py"), 0644);
    assert_false(fl_tree_has(tree, SITE "/foo/__pycache__"));
    assert_false(fl_tree_has(tree, SITE "/foo-1.0.data"));

    assert_true(fl_tree_get(tree, SITE "/foo-1.0.dist-info/RECORD", &record));
    text = fl_arena_strndup(world->arena, record.data, record.len);
    assert_non_null(strstr(text, fl_arena_printf(world->arena, "foo/__init__.py,%s,6\n",
                                                 record_hash(world->arena, "x = 1\n"))));
    assert_non_null(
        strstr(text, fl_arena_printf(world->arena, "../../../bin/foo,%s,%zu\n",
                                     record_hash(world->arena, script), strlen(script))));
    assert_non_null(strstr(text, "\n../../../share/foo.txt,sha256="));
    assert_non_null(strstr(text, "\nfoo-1.0.dist-info/RECORD,,\n"));
    assert_null(strstr(text, "__pycache__"));
    assert_null(strstr(text, ".data/scripts"));
    close_world(world);
}

#define END                                                                                        \
    {                                                                                              \
        NULL, NULL, 0, NULL                                                                        \
    }

static void test_hostile_wheels_are_refused(void **state)
{
    static const struct {
        const struct file files[5];
        const char *more, *says;
    } rows[] = {
        {{{"foo.py", "evil\n", 0, "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}, INFO, END},
         "",
         "foo.py is not what its RECORD says"},
        {{{"foo.py", "x\n", 0, "sha256="}, INFO, END}, "", "foo.py is not what its RECORD says"},
        {{{"foo.py", "x\n", 0, ""}, INFO, END}, "", "no digest of foo.py"},
        {{{"foo.py", "x\n", 0, "-"}, INFO, END}, "", "no digest of foo.py"},
        {{{"foo.py", "x\n", 0, "md5=AAAA"}, INFO, END}, "", "another digest than sha256"},
        {{INFO, END}, "gone.py,sha256=AAAA,1\n", "it lacks gone.py"},
        {{INFO, END}, "../../evil,sha256=AAAA,1\n", "a line that is none"},
        {{INFO, END}, "/etc/passwd,sha256=AAAA,1\n", "a line that is none"},
        {{INFO, END}, "\"open,sha256=AAAA,1\n", "a line that is none"},
        {{INFO, END}, "foo-1.0.dist-info/WHEEL,sha256=AAAA,1\n", "twice"},
        {{INFO, END}, NULL, "it has no RECORD"},
        {{{"../../../evil", "x\n", 0, NULL}, INFO, END}, "", "evil"},
        {{{"/tmp/flops-evil", "x\n", 0, NULL}, INFO, END}, "", "evil"},
        {{{"bar-1.0.dist-info/WHEEL", WHEEL_TEXT, 0, NULL}, INFO, END}, "", "two .dist-info"},
        {{{"foo-1.0.dist-info/WHEEL", "Wheel-Version: 2.0\n", 0, NULL}, END}, "", "is 2.0"},
        {{{"foo-1.0.data/other/x", "x\n", 0, NULL}, INFO, END}, "", "no scheme that is known"},
        {{{"foo-1.0.data/scripts", "x\n", 0, NULL}, INFO, END}, "", "no scheme that is known"},
        {{{"foo-1.0.dist-info/entry_points.txt", "[console_scripts]\nx = os:system('id')\n", 0,
           NULL},
          INFO,
          END},
         "",
         "entry points"},
        {{{"foo-1.0.dist-info/entry_points.txt", "[console_scripts]\n../../bin/x = a:b\n", 0, NULL},
          INFO,
          END},
         "",
         "entry points"},
        {{{"foo.py", "x\n", 0, NULL}, END}, NULL, "no .dist-info"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct world *world = open_world(DEADLINE_MS, 0, NULL);
        FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();

        assert_int_equal(unpack_wheel(world, make_wheel(world, rows[i].files, rows[i].more), tree),
                         FL_E_INVALID);
        assert_says(world, rows[i].says);
        assert_says(world, "foo-1.0-py3-none-any.whl");
        assert_false(fl_path_exists("/tmp/flops-evil"));
        assert_false(fl_path_exists(below(world, "evil")));
        close_world(world);
    }
}

static void test_wheel_of_another_package(void **state)
{
    const struct file files[] = {{"bar-1.0.dist-info/WHEEL", WHEEL_TEXT, 0, NULL}, END};
    struct world *world = open_world(DEADLINE_MS, 0, NULL);
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();

    (void)state;
    assert_int_equal(unpack_wheel(world, make_wheel(world, files, NULL), tree), FL_E_INVALID);
    assert_says(world, "bar-1.0.dist-info, not Foo");
    close_world(world);
}

static void test_cut_off_wheel(void **state)
{
    const struct file files[] = {{"foo.py", "x = 1\n", 0, NULL}, INFO, END};
    struct world *world = open_world(DEADLINE_MS, 0, NULL);
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_bytes *whole = make_wheel(world, files, "");

    (void)state;
    assert_int_equal(unpack_wheel(world, fl_bytes_new(whole->data, whole->len / 2), tree),
                     FL_E_INVALID);
    fl_bytes_unref(whole);
    close_world(world);
}

/* Fetching. */

static struct world *served_world; /* the handler has the rig as its user */

static void on_request(void *user, struct fl_http_request *request)
{
    struct rig *rig = user;
    const char *path = fl_http_path(request);

    if (fl_streq(path, "/stalls")) {
        rig->held = request;
        return;
    }
    if (fl_str_has_prefix(path, "/to")) {
        fl_http_set_header(request, "Location", fl_streq(path, "/to-a") ? "/a" : "/to-itself");
        fl_http_respond(request, 302, "text/plain", "", 0);
        return;
    }
    for (size_t i = 0; i < served_world->served_count; i++) {
        const struct served *served = &served_world->served[i];

        if (fl_streq(path, served->path)) {
            fl_http_respond(request, 200, "text/html", served->body->data, served->body->len);
            return;
        }
    }
    fl_http_respond(request, 404, "text/plain", "no", 2);
}

/* All is served before the first request. */
static void serve(struct world *world, const char *path, struct fl_bytes *body)
{
    struct served *served = &world->served[world->served_count++];

    assert_true(world->served_count <= FILES_MAX);
    (void)snprintf(served->path, sizeof(served->path), "%s", path);
    served->body = body;
}

static void start_server(struct world *world)
{
    struct fl_http_server_options options = {.handler = on_request};

    served_world = world;
    world->rig = rig_start(&options, false);
}

static const char *address(struct world *world, const char *path)
{
    return fl_arena_printf(world->arena, "http://127.0.0.1:%u%s",
                           fl_http_server_port(world->rig->server), path);
}

static void test_fetching(void **state)
{
    static const struct {
        const char *path;
        int64_t size, deadline_ms, max_bytes;
        bool is_wrong;
        int result;
        const char *says;
    } rows[] = {
        {"/a", 5, DEADLINE_MS, 0, false, 0, NULL},
        {"/a", 0, DEADLINE_MS, 0, false, 0, NULL},
        {"/to-a", 5, DEADLINE_MS, 0, false, 0, NULL},
        {"/a", 5, DEADLINE_MS, 0, true, FL_E_INVALID, "x.whl"},
        {"/a", 4, DEADLINE_MS, 0, false, FL_E_INVALID, "longer"},
        {"/none", 5, DEADLINE_MS, 0, false, FL_E_NOT_FOUND, "404"},
        {"/to-itself", 5, DEADLINE_MS, 0, false, FL_E_INVALID, "circle"},
        {"/stalls", 5, 1500, 0, false, FL_E_TIMEOUT, "x.whl"},
        {"/a", 5, DEADLINE_MS, 3, false, FL_E_TOO_LARGE, "x.whl"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct world *world = open_world(rows[i].deadline_ms, rows[i].max_bytes, NULL);
        char digest[FL_DIGEST_SIZE];
        struct fl_package package = {.kind = FL_PACKAGE_PYTHON,
                                     .name = "x",
                                     .version = "1",
                                     .file = "x.whl",
                                     .digest = digest,
                                     .size = rows[i].size};
        const struct fl_package_lock lock = {&package, 1};
        struct fl_packages_fetched fetched;

        fl_digest_of(rows[i].is_wrong ? "other" : "bytes", 5, digest);
        serve(world, "/a", fl_bytes_new("bytes", 5));
        start_server(world);
        package.url = address(world, rows[i].path);
        if (fl_packages_fetch(world->packages, &lock, &fetched, &world->err) != rows[i].result)
            fail_msg("row %zu: %s", i, world->err.msg);
        assert_int_equal(fl_blobs_has(world->blobs, digest), rows[i].result == 0);
        if (rows[i].says)
            assert_says(world, rows[i].says);
        if (rows[i].result == 0) {
            assert_int_equal(fetched.bytes_fetched, 5);
            assert_int_equal(fl_packages_fetch(world->packages, &lock, &fetched, &world->err), 0);
            assert_int_equal(fetched.there, 1);
            assert_int_equal(fetched.fetched, 0);
        }
        close_world(world);
    }
}

/* Python's packages. */

/* foo needs bar, which has wheels for two machines. */
static struct world *open_index(void)
{
    static const char *const names[] = {"foo-1.0-py3-none-any.whl",
                                        "bar-2.0-cp311-cp311-manylinux2014_x86_64.whl",
                                        "bar-2.0-cp311-cp311-manylinux2014_aarch64.whl"};
    const struct file foo[] = {
        {"foo-1.0.dist-info/WHEEL", WHEEL_TEXT, 0, NULL},
        {"foo-1.0.dist-info/METADATA", METADATA "Requires-Dist: bar>=1\n", 0, NULL},
        END};
    struct world *world = open_world(DEADLINE_MS, 0, NULL);
    const char *page[2] = {"", ""};

    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        const struct file bar[] = {{"bar-2.0.dist-info/WHEEL", WHEEL_TEXT, 0, NULL},
                                   {"bar-2.0.dist-info/METADATA",
                                    "Metadata-Version: 2.1\nName: bar\nVersion: 2.0\n", 0, NULL},
                                   {"bar-2.0.dist-info/RECORD", "", 0, NULL},
                                   {"bar.py", names[i], 0, NULL},
                                   END};
        struct fl_bytes *wheel = i == 0 ? make_wheel(world, foo, "") : make_wheel(world, bar, NULL);
        char digest[FL_DIGEST_SIZE];

        fl_digest_of(wheel->data, wheel->len, digest);
        serve(world, fl_arena_printf(world->arena, "/files/%s", names[i]), wheel);
        page[i > 0] = fl_arena_printf(world->arena, "%s<a href=\"/files/%s#sha256=%s\">%s</a>\n",
                                      page[i > 0], names[i], strchr(digest, ':') + 1, names[i]);
    }
    serve(world, "/simple/foo/", fl_bytes_new(page[0], strlen(page[0])));
    serve(world, "/simple/bar/", fl_bytes_new(page[1], strlen(page[1])));
    start_server(world);
    world->extra_env[1] =
        fl_arena_printf(world->arena, "PIP_INDEX_URL=%s", address(world, "/simple/"));
    fl_packages_close(world->packages);
    assert_int_equal(
        fl_packages_open(&(struct fl_packages_options){.env = &world->env,
                                                       .folder = below(world, "state"),
                                                       .blobs = world->blobs,
                                                       .extra_env = world->extra_env,
                                                       .deadline_ms = fl_monotonic_ms(&world->env) +
                                                                      DEADLINE_MS},
                         &world->packages, &world->err),
        0);
    return world;
}

static int resolve(struct world *world, enum fl_python_source source, const char *platform_text,
                   const char *text, struct fl_package_lock *ret_lock)
{
    const char *file = below(world, "asked");
    struct fl_platform platform;

    assert_int_equal(fl_platform_parse(world->arena, platform_text, &platform, NULL), 0);
    assert_int_equal(fl_file_write(file, text, strlen(text), 0600, NULL), 0);
    return fl_packages_resolve_python(world->packages, &platform, "3.11", source, file, NULL,
                                      world->arena, ret_lock, &world->err);
}

static void test_requirements_are_solved(void **state)
{
    static const struct {
        enum fl_python_source source;
        const char *platform, *text, *bar;
    } rows[] = {
        {FL_PYTHON_REQUIREMENTS, "linux/amd64", "foo # all\n", "x86_64.whl"},
        {FL_PYTHON_REQUIREMENTS, "linux/arm64", "foo==1.0\n", "aarch64.whl"},
        {FL_PYTHON_PROJECT, "linux/arm64", "[project]\nname = 'x'\ndependencies = ['foo']\n",
         "aarch64.whl"},
    };
    struct world *world = open_index();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_package_lock lock;
        struct fl_packages_fetched fetched;

        if (resolve(world, rows[i].source, rows[i].platform, rows[i].text, &lock) != 0)
            fail_msg("row %zu: %s", i, world->err.msg);
        assert_int_equal(lock.count, 2);
        assert_string_equal(lock.items[0].name, "bar");
        assert_string_equal(lock.items[0].version, "2.0");
        assert_true(fl_str_has_suffix(lock.items[0].file, rows[i].bar));
        assert_string_equal(lock.items[1].name, "foo");
        assert_int_equal(fl_packages_fetch(world->packages, &lock, &fetched, &world->err), 0);
    }
    close_world(world);
}

static void test_what_cannot_be_solved_is_said(void **state)
{
    static const struct {
        enum fl_python_source source;
        const char *platform, *text, *says;
    } rows[] = {
        {FL_PYTHON_REQUIREMENTS, "linux/amd64", "nothere==9\n",
         "nothere==9 has no wheel for linux/amd64 and Python 3.11"},
        {FL_PYTHON_REQUIREMENTS, "linux/riscv64", "foo\n",
         "bar>=1 (from foo) has no wheel for linux/riscv64"},
        {FL_PYTHON_REQUIREMENTS, "linux/amd64", "foo\n--index-url http://x/\n", "line 2"},
        {FL_PYTHON_REQUIREMENTS, "linux/amd64", "foo @ file:///x\n", "line 1"},
        {FL_PYTHON_REQUIREMENTS, "linux/amd64", "./here\n", "line 1"},
        {FL_PYTHON_REQUIREMENTS, "linux/amd64", "foo\r-r /etc/passwd\n", "line 1"},
        {FL_PYTHON_PROJECT, "linux/amd64", "[project]\ndependencies = ['foo', 'tmp/here']\n",
         "line 2: folders"},
        {FL_PYTHON_PROJECT, "linux/amd64", "[project]\ndependencies = [\"foo\\r-r /etc/passwd\"]\n",
         "line 1: a requirement is of plain letters"},
        {FL_PYTHON_HASHED, "linux/amd64", "foo==1.0\n", "hash"},
        {FL_PYTHON_PROJECT, "linux/amd64", "[tool.x]\n", "no [project]"},
        {FL_PYTHON_PROJECT, "linux/amd64", "[project]\ndynamic = ['dependencies']\n", "dynamic"},
        {FL_PYTHON_PROJECT, "linux/amd64", "[project\n", "asked"},
        {FL_PYTHON_PROJECT, "linux/amd64", "[project]\nrequires-python = '<3.9'\n",
         "it requires Python <3.9, and the image has 3.11"},
        {FL_PYTHON_PROJECT, "linux/amd64", "[project]\ndependencies = ['--pre']\n",
         "no requirement"},
        {FL_PYTHON_PYLOCK, "linux/amd64", "[[packages]]\nname = 'x'\n", "x has no wheel"},
        {FL_PYTHON_PYLOCK, "linux/amd64",
         "[[packages]]\nname = 'x'\n[[packages.wheels]]\nname = 'x-1-py3-none-any.whl'\n"
         "url = 'http://h/x-1-py3-none-any.whl'\n",
         "no sha256"},
        {FL_PYTHON_PYLOCK, "linux/amd64",
         "[[packages]]\nname = 'x'\n[[packages.wheels]]\nname = 'x-1-py3-none-any.whl'\n"
         "url = 'file:///etc/passwd'\nhashes = {sha256 = '"
         "0123456789012345678901234567890123456789012345678901234567890123'}\n",
         "x has no address on the network"},
        {FL_PYTHON_PYLOCK, "linux/amd64",
         "[[packages]]\nname = '../x'\n[[packages.wheels]]\nname = 'x-1-py3-none-any.whl'\n"
         "url = 'http://h/x.whl'\nhashes = {sha256 = '"
         "0123456789012345678901234567890123456789012345678901234567890123'}\n",
         "a lock's entry"},
    };
    struct world *world = open_index();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_package_lock lock;

        if (resolve(world, rows[i].source, rows[i].platform, rows[i].text, &lock) != FL_E_INVALID)
            fail_msg("row %zu: %s", i, world->err.msg);
        assert_says(world, rows[i].says);
    }
    close_world(world);
}

static void test_pylock(void **state)
{
    static const char text[] =
        "lock-version = '1.0'\n"
        "[[packages]]\nname = 'x'\nversion = '1'\n"
        "[[packages.wheels]]\nurl = 'https://h/x-1-cp311-cp311-manylinux_2_28_x86_64.whl'\n"
        "hashes = {sha256 = '"
        "0123456789012345678901234567890123456789012345678901234567890123'}\n"
        "[[packages.wheels]]\nurl = 'https://h/x-1-cp311-cp311-manylinux_2_28_aarch64.whl'\n"
        "size = 7\n"
        "hashes = {sha256 = '"
        "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff0000'}\n"
        "[[packages]]\nname = 'winonly'\nversion = '1'\nmarker = \"sys_platform == 'win32'\"\n";
    struct world *world = open_world(DEADLINE_MS, 0, NULL);
    struct fl_package_lock lock;

    (void)state;
    assert_int_equal(resolve(world, FL_PYTHON_PYLOCK, "linux/arm64", text, &lock), 0);
    assert_int_equal(lock.count, 1);
    assert_string_equal(lock.items[0].file, "x-1-cp311-cp311-manylinux_2_28_aarch64.whl");
    assert_int_equal(lock.items[0].size, 7);
    assert_true(fl_str_has_prefix(lock.items[0].digest, "sha256:aaaa"));
    close_world(world);
}

/* Debian's packages. */

static struct fl_bytes *make_deb(const struct file *files)
{
    static char tar_out[64 * 1024], ar_out[128 * 1024];
    size_t tar_len = 0, ar_len = 0;
    struct archive *tar =
        begin_archive(archive_write_set_format_pax_restricted, tar_out, sizeof(tar_out), &tar_len);
    struct archive *ar;

    for (; files->path; files++)
        add_entry(tar, files->path, files->text, strlen(files->text),
                  files->mode ? files->mode : 0644);
    end_archive(tar);
    ar = begin_archive(archive_write_set_format_ar_svr4, ar_out, sizeof(ar_out), &ar_len);
    add_entry(ar, "debian-binary", "2.0\n", 4, 0644);
    add_entry(ar, "control.tar", tar_out, 0, 0644);
    add_entry(ar, "data.tar", tar_out, tar_len, 0644);
    end_archive(ar);
    return fl_bytes_new(ar_out, ar_len);
}

/* A repository of two packages; `lies`: its index has another digest for the second. */
static struct world *open_repository(bool lies)
{
    static const struct file one[] = {
        {"./usr/bin/one", "#!/bin/sh\n", 0755, NULL},
        {"./lib/x86_64-linux-gnu/one.so", "ELF", 0, NULL},
        {"./usr/lib/x86_64-linux-gnu/blas/libblas.so.3", "ELF", 0, NULL},
        {"./usr/share/ca-certificates/b.crt", "B\n", 0, NULL},
        {"./usr/share/ca-certificates/a.crt", "A\n", 0, NULL},
        {"./usr/share/doc/one/README", "text", 0, NULL},
        {"./usr/share/doc/one/copyright", "mine", 0, NULL},
        {"./usr/share/man/man1/one.1", "text", 0, NULL},
        END};
    static const struct file two[] = {{"./usr/bin/two", "one", S_IFLNK | 0777, NULL}, END};
    const struct file *contents[] = {one, two};
    static const char *const names[] = {"one", "two"};
    struct world *world = open_world(DEADLINE_MS, 0, "sources.list");
    const char *index = "";

    assert_int_equal(fl_dir_ensure(below(world, "repository"), 0755, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *deb = make_deb(contents[i]);
        const char *file = fl_arena_printf(world->arena, "%s_1.0-1_amd64.deb", names[i]);
        char digest[FL_DIGEST_SIZE];

        fl_digest_of(lies && i == 1 ? "other" : deb->data, lies && i == 1 ? 5 : deb->len, digest);
        assert_int_equal(
            fl_file_write(below(world, fl_arena_printf(world->arena, "repository/%s", file)),
                          deb->data, deb->len, 0644, NULL),
            0);
        index = fl_arena_printf(world->arena,
                                "%sPackage: %s\nVersion: 1.0-1\nArchitecture: amd64\n%s"
                                "Filename: ./%s\nSize: %zu\nSHA256: %s\n\n",
                                index, names[i], i == 0 ? "Depends: two\n" : "", file, deb->len,
                                strchr(digest, ':') + 1);
    }
    assert_int_equal(
        fl_file_write(below(world, "repository/Packages"), index, strlen(index), 0644, NULL), 0);
    index =
        fl_arena_printf(world->arena, "deb [trusted=yes] file:%s/repository ./\n", world->folder);
    assert_int_equal(fl_file_write(below(world, "sources.list"), index, strlen(index), 0644, NULL),
                     0);
    return world;
}

static int resolve_one(struct world *world, const char *name, struct fl_package_lock *ret_lock)
{
    struct fl_platform platform;

    assert_int_equal(fl_platform_parse(world->arena, "linux/amd64", &platform, NULL), 0);
    return fl_packages_resolve_debian(world->packages, &platform, &name, 1, world->arena, ret_lock,
                                      &world->err);
}

static void assert_link(const struct fl_tree *tree, const char *path, const char *target)
{
    struct fl_tree_entry entry;

    assert_true(fl_tree_get(tree, path, &entry));
    assert_int_equal(entry.type, FL_TREE_LINK);
    assert_string_equal(entry.target, target);
}

static void test_debian(void **state)
{
    struct world *world = open_repository(false);
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_package_lock lock;
    struct fl_packages_fetched fetched;
    const char *scratch;

    (void)state;
    if (resolve_one(world, "one", &lock) != 0)
        fail_msg("%s", world->err.msg);
    assert_int_equal(lock.count, 2);
    assert_string_equal(lock.items[1].name, "two");
    assert_string_equal(lock.items[1].version, "1.0-1");
    assert_string_equal(lock.items[1].architecture, "amd64");
    if (fl_packages_fetch(world->packages, &lock, &fetched, &world->err) != 0 ||
        fl_packages_unpack_debian(world->packages, &lock, tree, world->arena, &scratch,
                                  &world->err) != 0)
        fail_msg("%s", world->err.msg);
    assert_link(tree, "lib", "usr/lib");
    assert_link(tree, "usr/bin/two", "one");
    assert_text(tree, "usr/lib/x86_64-linux-gnu/one.so", "ELF");
    assert_link(tree, "usr/lib/x86_64-linux-gnu/libblas.so.3",
                "/usr/lib/x86_64-linux-gnu/blas/libblas.so.3");
    assert_text(tree, "etc/ssl/certs/ca-certificates.crt", "A\nB\n");
    assert_text(tree, "usr/share/doc/one/copyright", "mine");
    assert_false(fl_tree_has(tree, "usr/share/doc/one/README"));
    assert_false(fl_tree_has(tree, "usr/share/man"));
    assert_int_equal(mode_in(tree, "tmp"), 01777);
    assert_int_equal(mode_in(tree, "usr/bin/one"), 0755);
    assert_true(fl_tree_has(tree, "etc/passwd"));
    close_world(world);
}

static void test_debian_index_that_lies(void **state)
{
    struct world *world = open_repository(true);
    struct fl_package_lock lock;
    struct fl_packages_fetched fetched;

    (void)state;
    assert_int_equal(resolve_one(world, "one", &lock), 0);
    assert_int_equal(fl_packages_fetch(world->packages, &lock, &fetched, &world->err),
                     FL_E_INVALID);
    assert_says(world, "two_1.0-1_amd64.deb");
    close_world(world);
}

static void test_debian_names(void **state)
{
    static const struct {
        const char *name, *says;
    } rows[] = {{"nothere", "Unable to locate package nothere"},
                {"one=9", "Version '9' for 'one' was not found"},
                {"-o", "no name"},
                {"one-", "no name"},
                {"^on.*", "no name"},
                {"one/stable", "no name"},
                {"../one", "no name"},
                {"", "no name"}};
    struct world *world = open_repository(false);
    struct fl_package_lock lock;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        if (resolve_one(world, rows[i].name, &lock) != FL_E_INVALID)
            fail_msg("row %zu: %s", i, world->err.msg);
        assert_says(world, rows[i].says);
    }
    close_world(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wheel_is_installed),
        cmocka_unit_test(test_hostile_wheels_are_refused),
        cmocka_unit_test(test_wheel_of_another_package),
        cmocka_unit_test(test_cut_off_wheel),
        cmocka_unit_test(test_fetching),
        cmocka_unit_test(test_requirements_are_solved),
        cmocka_unit_test(test_what_cannot_be_solved_is_said),
        cmocka_unit_test(test_pylock),
        cmocka_unit_test(test_debian),
        cmocka_unit_test(test_debian_index_that_lies),
        cmocka_unit_test(test_debian_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
