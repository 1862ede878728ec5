/* Python packages: found by pip, which evaluates versions, markers and tags; documents are read by
 * a script of ours in Python (for its TOML), which runs nothing of what it reads. */
#include "reconcilers/imagebuild/compose/packages_internal.h"
#include "reconcilers/imagebuild/compose/requirements.h"

#include "lib/file.h"
#include "lib/str.h"

#include <string.h>
#include <strings.h>

#define ARGUMENTS_MAX    256
#define ANSWER_MAX       ((size_t)64 * 1024 * 1024)
#define REQUIREMENTS_MAX ((size_t)4 * 1024 * 1024)
#define GLIBC_MINOR      36 /* Debian 12's: wheels for an older one run */
#define GLIBC_OLDEST     5

/* "project FILE PYTHON": the requirements of a pyproject.toml, a line each. "pylock FILE MACHINE
 * PYTHON TAG…": a lock's wheels for that machine, as JSON. Errors are said on the last line. */
static const char script[] =
    "import json, sys, tomllib\n"
    "def fail(text):\n"
    "    sys.exit('flops: ' + text)\n"
    "mode, name = sys.argv[1:3]\n"
    "try:\n"
    "    with open(name, 'rb') as file:\n"
    "        document = tomllib.load(file)\n"
    "except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:\n"
    "    fail(str(error))\n"
    "if mode == 'project':\n"
    "    project = document.get('project')\n"
    "    if not isinstance(project, dict):\n"
    "        fail('it has no [project]')\n"
    "    if 'dependencies' in project.get('dynamic', []):\n"
    "        fail('its dependencies are dynamic: only a build of it would tell them')\n"
    "    wanted = project.get('requires-python')\n"
    "    try:\n"
    "        from pip._vendor.packaging.specifiers import SpecifierSet\n"
    "        if wanted and sys.argv[3] + '.99' not in SpecifierSet(wanted) \\\n"
    "           and sys.argv[3] + '.0' not in SpecifierSet(wanted):\n"
    "            fail('it requires Python %s, and the image has %s' % (wanted, sys.argv[3]))\n"
    "    except (ImportError, ValueError, TypeError):\n"
    "        pass\n"
    "    for line in project.get('dependencies', []):\n"
    "        if not isinstance(line, str) or '\\n' in line or line.startswith('-'):\n"
    "            fail('a dependency is no requirement')\n"
    "        print(line)\n"
    "    sys.exit()\n"
    "try:\n"
    "    from pip._vendor.packaging.markers import Marker\n"
    "    from pip._vendor.packaging.tags import compatible_tags, cpython_tags\n"
    "    from pip._vendor.packaging.utils import parse_wheel_filename\n"
    "except ImportError:\n"
    "    fail('pip is missing: install python3-pip')\n"
    "machine, python = sys.argv[3:5]\n"
    "platforms = sys.argv[5:]\n"
    "version = tuple(int(part) for part in python.split('.'))\n"
    "environment = {'implementation_name': 'cpython', 'os_name': 'posix', 'extra': '',\n"
    "               'implementation_version': python + '.0', 'platform_machine': machine,\n"
    "               'platform_python_implementation': 'CPython', 'platform_release': '',\n"
    "               'platform_system': 'Linux', 'platform_version': '', 'sys_platform': 'linux',\n"
    "               'python_version': python, 'python_full_version': python + '.0'}\n"
    "tags = list(cpython_tags(version, platforms=platforms))\n"
    "tags += list(compatible_tags(version, 'cp%d%d' % version, platforms))\n"
    "order = {tag: i for i, tag in enumerate(tags)}\n"
    "def best(package):\n"
    "    found = []\n"
    "    for wheel in package.get('wheels', []):\n"
    "        file = wheel.get('name') or wheel.get('url', wheel.get('path', '')).split('/')[-1]\n"
    "        try:\n"
    "            ranks = [order[tag] for tag in parse_wheel_filename(file)[3] if tag in order]\n"
    "        except Exception:\n"
    "            continue\n"
    "        if ranks:\n"
    "            found.append((min(ranks), file, wheel))\n"
    "    return min(found, key=lambda item: item[0]) if found else None\n"
    "result = []\n"
    "try:\n"
    "    for package in document.get('packages', []):\n"
    "        marker = package.get('marker')\n"
    "        if marker and not Marker(marker).evaluate(environment):\n"
    "            continue\n"
    "        wheel = best(package)\n"
    "        if not wheel:\n"
    "            fail('%s has no wheel for this platform and Python %s' % (package['name'], "
    "python))\n"
    "        digest = wheel[2].get('hashes', {}).get('sha256')\n"
    "        if not digest or 'url' not in wheel[2]:\n"
    "            fail('%s has no url or no sha256' % package['name'])\n"
    "        result.append({'name': package['name'], 'version': str(package.get('version', '0')),\n"
    "                       'file': wheel[1], 'url': wheel[2]['url'],\n"
    "                       'size': wheel[2].get('size', 0), 'digest': 'sha256:' + digest})\n"
    "except (KeyError, TypeError, AttributeError, ValueError) as error:\n"
    "    fail('it is no lock: %r' % error)\n"
    "json.dump(result, sys.stdout)\n";

struct solving {
    struct fl_packages *packages;
    struct fl_arena *arena;
    const struct fl_platform *platform;
    const char *machine; /* as wheels name it: "x86_64" */
    const char *version; /* "3.11" */
    const char *python;
    const char *argv[ARGUMENTS_MAX + 1];
    size_t argc;
};

static void say(struct solving *solving, const char *argument)
{
    if (solving->argc < ARGUMENTS_MAX)
        solving->argv[solving->argc++] = argument;
    solving->argv[solving->argc] = NULL;
}

static const char *machine_of(const struct fl_platform *platform)
{
    static const char *const machines[][2] = {{"amd64", "x86_64"},    {"arm64", "aarch64"},
                                              {"ppc64le", "ppc64le"}, {"s390x", "s390x"},
                                              {"riscv64", "riscv64"}, {"386", "i686"}};

    for (size_t i = 0; i < FL_COUNT_OF(machines); i++)
        if (fl_streq(platform->architecture, machines[i][0]))
            return machines[i][1];
    return fl_streq(platform->architecture, "arm") && fl_streq(platform->variant, "v7") ? "armv7l"
                                                                                        : NULL;
}

/* What runs on Debian 12, the newest first (PEP 600). */
static void say_platforms(struct solving *solving, const char *option)
{
    static const char *const old[] = {"manylinux2014", "manylinux2010", "manylinux1", "linux"};

    for (int minor = GLIBC_MINOR; minor >= GLIBC_OLDEST; minor--) {
        if (option)
            say(solving, option);
        say(solving, fl_arena_printf(solving->arena, "manylinux_2_%d_%s", minor, solving->machine));
    }
    for (size_t i = 0; i < FL_COUNT_OF(old); i++) {
        if (option)
            say(solving, option);
        say(solving, fl_arena_printf(solving->arena, "%s_%s", old[i], solving->machine));
    }
}

static int begin(struct solving *solving, struct fl_error *err)
{
    const char *const names[] = {solving->packages->options.python, "/usr/bin/python3", "python3"};

    solving->machine = machine_of(solving->platform);
    if (!solving->machine)
        return fl_error_set(err, FL_E_INVALID, "there are no wheels for %s",
                            fl_platform_text(solving->arena, solving->platform));
    solving->python = fl_packages_program(solving->packages, names, FL_COUNT_OF(names));
    if (!solving->python)
        return fl_error_set(err, FL_E_UNAVAILABLE,
                            "python3 is not on this machine, and Python's packages are found by "
                            "its pip: install python3-pip");
    return 0;
}

static int run_script(struct solving *solving, const char *mode, const char *file,
                      struct fl_bytes **ret_output, struct fl_error *err)
{
    solving->argc = 0;
    say(solving, solving->python);
    say(solving, "-I");
    say(solving, "-c");
    say(solving, script);
    say(solving, mode);
    say(solving, file);
    if (fl_streq(mode, "pylock")) {
        say(solving, solving->machine);
        say(solving, solving->version);
        say_platforms(solving, NULL);
    } else {
        say(solving, solving->version);
    }
    return fl_packages_run(solving->packages, solving->argv, ANSWER_MAX, "flops:", ret_output, err);
}

/* Answers. */

/* The last part of an address, without query and fragment. */
static const char *file_of(struct fl_arena *arena, const char *url)
{
    size_t len = strcspn(url, "?#");
    const char *begin = url + len;

    while (begin > url && begin[-1] != '/')
        begin--;
    return fl_url_decode(arena, begin, len - (size_t)(begin - url), false);
}

/* {"download_info": {"url", "archive_info": {"hash": "sha256=…"}}, "metadata": {"name", "version"}}
 */
static int parse_installed(struct fl_arena *arena, const json_t *value, struct fl_package *package,
                           struct fl_error *err)
{
    const char *hash = fl_json_str(value, "download_info.archive_info.hashes.sha256");
    const char *old_hash = fl_json_str(value, "download_info.archive_info.hash");
    const char *url = fl_json_str(value, "download_info.url");

    if (!hash && old_hash && fl_str_has_prefix(old_hash, "sha256="))
        hash = old_hash + strlen("sha256=");
    *package = (struct fl_package){
        .kind = FL_PACKAGE_PYTHON,
        .name = fl_arena_copy(arena, fl_json_str(value, "metadata.name")),
        .version = fl_arena_copy(arena, fl_json_str(value, "metadata.version")),
        .url = fl_arena_copy(arena, url),
        .file = url ? file_of(arena, url) : NULL,
        .digest = hash ? fl_arena_printf(arena, "sha256:%s", hash) : NULL,
    };
    if (!fl_package_is_sound(package) || !fl_str_has_suffix(package->file, ".whl"))
        return fl_error_set(err, FL_E_INVALID, "pip found %.100s, which is no wheel with a sha256",
                            fl_str_or(package->name, "something"));
    return 0;
}

int fl_pip_report_parse(struct fl_arena *arena, const void *data, size_t len,
                        struct fl_package_lock *ret_lock, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = ANSWER_MAX};
    FL_JSON report = NULL;
    struct fl_package_lock lock = {0};
    const json_t *list;
    int r = fl_json_parse(data, len, &limits, NULL, NULL, &report, err);

    if (r < 0)
        return fl_error_wrap(err, "pip's report");
    list = json_object_get(report, "install");
    lock.count = json_array_size(list);
    if (lock.count > LOCK_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d packages", LOCK_MAX);
    lock.items = fl_new_array(arena, struct fl_package, lock.count + 1);
    for (size_t i = 0; r == 0 && i < lock.count; i++)
        r = parse_installed(arena, json_array_get(list, i), &lock.items[i], err);
    if (r < 0)
        return r;
    fl_package_lock_sort(&lock);
    *ret_lock = lock;
    return 0;
}

/* pip */

static int pip(struct solving *solving, const char *file, bool hashed, const char *const *extra,
               struct fl_package_lock *ret_lock, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *output = NULL;
    struct fl_error failed = {0};
    int r;

    (void)fl_packages_tell(solving->packages, "Python's packages", 0, 0);
    solving->argc = 0;
    for (const char *const *word =
             (const char *const[]){"-I", "-m", "pip", "install", "--dry-run", "--ignore-installed",
                                   "--quiet", "--no-input", "--no-warn-conflicts", "--report", "-",
                                   "--only-binary=:all:", "--implementation", "cp", NULL};
         *word; word++) {
        if (solving->argc == 0)
            say(solving, solving->python);
        say(solving, *word);
    }
    say(solving, "--python-version");
    say(solving, solving->version);
    say_platforms(solving, "--platform");
    say(solving, "--target");
    say(solving,
        fl_arena_printf(solving->arena, "%s/pip-target", solving->packages->options.folder));
    if (hashed)
        say(solving, "--require-hashes");
    say(solving, "-r");
    say(solving, file);
    for (; !hashed && extra && *extra; extra++)
        say(solving, *extra);
    r = fl_packages_run(solving->packages, solving->argv, ANSWER_MAX, "ERROR:", &output, &failed);
    if (r == FL_E_INVALID)
        return fl_packages_explain_pip(solving->arena, failed.msg,
                                       fl_platform_text(solving->arena, solving->platform),
                                       solving->version, err);
    if (r < 0)
        return fl_error_set(err, r, "%s",
                            r == FL_E_UNAVAILABLE ? "pip does not reach its index of packages"
                                                  : failed.msg);
    return fl_pip_report_parse(solving->arena, output->data, output->len, ret_lock, err);
}

static bool has_package(const struct fl_package_lock *lock, const char *requirement)
{
    size_t len = strcspn(requirement, " <>=!~[;");

    for (size_t i = 0; i < lock->count; i++)
        if (strlen(lock->items[i].name) == len &&
            strncasecmp(lock->items[i].name, requirement, len) == 0)
            return true;
    return false;
}

static int check_extra(const struct fl_package_lock *lock, const char *const *extra,
                       struct fl_error *err)
{
    for (; extra && *extra; extra++)
        if (!has_package(lock, *extra))
            return fl_error_set(err, FL_E_INVALID, "the lock lacks %s, which training needs",
                                *extra);
    return 0;
}

/* A lock of a file's own. */

/* Whoever wrote it has no say in what is read from this machine. */
static int check_addresses(const struct fl_package_lock *lock, struct fl_error *err)
{
    for (size_t i = 0; i < lock->count; i++) {
        const struct fl_package *item = &lock->items[i];

        if (!item->url ||
            !(fl_str_has_prefix(item->url, "https://") || fl_str_has_prefix(item->url, "http://")))
            return fl_error_set(err, FL_E_INVALID, "%.100s has no address on the network",
                                item->name);
        if (!fl_str_has_suffix(item->file, ".whl"))
            return fl_error_set(err, FL_E_INVALID, "%.100s is no wheel", item->file);
    }
    return 0;
}

static int read_pylock(struct solving *solving, const char *file, struct fl_package_lock *ret_lock,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *output = NULL;
    FL_JSON value = NULL;
    const json_t *item;
    size_t i;
    int r = run_script(solving, "pylock", file, &output, err);

    if (r == 0)
        r = fl_json_parse(output->data, output->len, NULL, NULL, NULL, &value, err);
    json_array_foreach(value, i, item)
        fl_json_set_str((json_t *)item, "kind", "pypi");
    if (r == 0)
        r = fl_package_lock_parse(solving->arena, value, ret_lock, err);
    if (r == 0)
        r = check_addresses(ret_lock, err);
    if (r == 0)
        fl_package_lock_sort(ret_lock);
    return r;
}

/* What pip is given instead of what somebody wrote (requirements.h). */
static int solve_text(struct solving *solving, const struct fl_bytes *text, bool hashed,
                      const char *const *extra, struct fl_package_lock *ret_lock,
                      struct fl_error *err)
{
    const char *clean, *path = fl_arena_printf(solving->arena, "%s/requirements.txt",
                                               solving->packages->options.folder);
    int r = fl_requirements_clean(solving->arena, text->data, text->len, &clean, err);

    if (r == 0)
        r = fl_file_write(path, clean, strlen(clean), 0600, err);
    return r == 0 ? pip(solving, path, hashed, extra, ret_lock, err) : r;
}

static int solve_file(struct solving *solving, const char *file, bool hashed,
                      const char *const *extra, struct fl_package_lock *ret_lock,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_file_read(file, REQUIREMENTS_MAX, &text, err);

    return r == 0 ? solve_text(solving, text, hashed, extra, ret_lock, err) : r;
}

/* pip could build a project; its requirements are read instead. */
static int solve_project(struct solving *solving, const char *file, const char *const *extra,
                         struct fl_package_lock *ret_lock, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *output = NULL;
    int r = run_script(solving, "project", file, &output, err);

    return r == 0 ? solve_text(solving, output, false, extra, ret_lock, err) : r;
}

int fl_packages_resolve_python(struct fl_packages *packages, const struct fl_platform *platform,
                               const char *python_version, enum fl_python_source source,
                               const char *file, const char *const *extra, struct fl_arena *arena,
                               struct fl_package_lock *ret_lock, struct fl_error *err)
{
    struct solving solving = {
        .packages = packages, .arena = arena, .platform = platform, .version = python_version};
    const char *slash = strrchr(file, '/');
    int r = begin(&solving, err);

    if (r < 0)
        return r;
    if (source == FL_PYTHON_PYLOCK)
        r = read_pylock(&solving, file, ret_lock, err);
    else if (source == FL_PYTHON_PROJECT)
        r = solve_project(&solving, file, extra, ret_lock, err);
    else
        r = solve_file(&solving, file, source == FL_PYTHON_HASHED, extra, ret_lock, err);
    if (r == 0)
        r = check_extra(ret_lock, extra, err);
    if (r < 0)
        (void)fl_error_wrap(err, "%s", slash ? slash + 1 : file);
    return r;
}
