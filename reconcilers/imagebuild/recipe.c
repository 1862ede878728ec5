#include "reconcilers/imagebuild/recipe.h"

#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX  ((size_t)4 * 1024 * 1024)
#define LINES_MAX 10000
#define NOTES_MAX 16

struct finding {
    const struct fl_recipe_options *options;
    struct fl_arena *arena;
    struct fl_recipe recipe;
    const char **notes;
    size_t note_count;
};

static void note(struct finding *finding, const char *text)
{
    if (finding->note_count < NOTES_MAX)
        finding->notes[finding->note_count++] = text;
}

/* A plain file in the folder, not a link to one. */
static bool has(const struct finding *finding, const char *name)
{
    struct stat about;
    const char *path = fl_arena_printf(finding->arena, "%s/%s", finding->options->folder, name);

    return lstat(path, &about) == 0 && S_ISREG(about.st_mode);
}

static const char *first_of(const struct finding *finding, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (has(finding, names[i]))
            return names[i];
    return NULL;
}

static int read_text(const struct finding *finding, const char *name, const char **ret_text,
                     size_t *ret_len, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int r;

    fd = open(fl_arena_printf(finding->arena, "%s/%s", finding->options->folder, name),
              O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fl_error_errno(err, errno, "%s", name);
    r = fl_fd_read(fd, TEXT_MAX, &bytes, err);
    if (r < 0)
        return fl_error_wrap(err, "%s", name);
    *ret_text = fl_arena_strndup(finding->arena, bytes->data, bytes->len);
    *ret_len = bytes->len;
    return 0;
}

/* Requirements: whether each has a hash, as pip asks for with --require-hashes. A backslash at the
 * end of a line takes the next one in. */
static bool is_hashed(struct fl_arena *arena, const char *text)
{
    const char *rest = text;
    bool continues = false, has_hash = true, any = false;

    while (rest) {
        const char *line = fl_str_next(arena, &rest, '\n');
        size_t len;

        line += strspn(line, " \t\r");
        len = strlen(line);
        while (len > 0 && isspace((unsigned char)line[len - 1]))
            len--;
        if (!continues) {
            if (!has_hash)
                return false;
            if (len == 0 || *line == '#' || *line == '-')
                continue;
            any = true;
            has_hash = false;
        }
        has_hash = has_hash || strstr(line, "--hash=sha256:") != NULL;
        continues = len > 0 && line[len - 1] == '\\';
    }
    return any && has_hash;
}

/* conda */

/* What PyPI calls differently. */
static const struct {
    const char *conda, *pypi;
} renamed[] = {
    {"pytorch", "torch"},
    {"pytorch-cpu", "torch"},
    {"py-opencv", "opencv-python"},
    {"opencv", "opencv-python"},
    {"msgpack-python", "msgpack"},
    {"python-flatbuffers", "flatbuffers"},
    {"tensorflow-cpu", "tensorflow"},
    {"matplotlib-base", "matplotlib"},
    {"pillow-simd", "pillow"},
};
/* What conda environments name that is no Python package, or that every image has. */
static const char *const left_out[] = {"pip", "setuptools", "wheel", "libblas", "libgcc",  "blas",
                                       "mkl", "openssl",    "nomkl", "cpuonly", "openblas"};

static bool is_name(const char *text, size_t len)
{
    if (len == 0 || len > 200)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]))
            return false;
    return true;
}

static const char *pypi_name(struct fl_arena *arena, const char *text, size_t len)
{
    const char *name = fl_arena_strndup(arena, text, len);

    for (size_t i = 0; i < FL_COUNT_OF(left_out); i++)
        if (strcasecmp(name, left_out[i]) == 0)
            return NULL;
    for (size_t i = 0; i < FL_COUNT_OF(renamed); i++)
        if (strcasecmp(name, renamed[i].conda) == 0)
            return renamed[i].pypi;
    return name;
}

/* "=1.2.3=build" is ==1.2.3, "=1.2" any 1.2, ">=1,<2" as it is. conda's "=1.2.3" means 1.2.3 and
 * what begins so; three parts are taken at their word. */
static const char *pypi_version(struct fl_arena *arena, const char *text)
{
    size_t len, dots = 0;

    text += strspn(text, " ");
    if (isdigit((unsigned char)*text))
        return fl_arena_printf(arena, "==%s", text);
    if (*text != '=' || text[1] == '=')
        return text;
    text++;
    len = strcspn(text, "= ");
    for (size_t i = 0; i < len; i++)
        dots += text[i] == '.';
    return fl_arena_printf(arena, "==%.*s%s", (int)len, text,
                           dots < 2 && (len == 0 || text[len - 1] != '*') ? ".*" : "");
}

struct conda {
    struct fl_arena *arena;
    const char *requirements, *python;
};

static void add_line(struct conda *conda, const char *line)
{
    conda->requirements = fl_arena_printf(conda->arena, "%s%s\n", conda->requirements, line);
}

static int add_conda(struct conda *conda, const char *text, struct fl_error *err)
{
    const char *channel = strstr(text, "::"), *version, *name;
    size_t len;

    if (channel)
        text = channel + 2;
    text += strspn(text, " ");
    len = strcspn(text, " =<>!~[");
    if (!is_name(text, len) || strchr(text, '\n') || strchr(text, '['))
        return fl_error_set(err, FL_E_INVALID, "\"%.100s\" is no dependency that is understood",
                            text);
    version = pypi_version(conda->arena, text + len);
    if (len == 6 && strncasecmp(text, "python", 6) == 0) {
        conda->python = fl_arena_strdup(conda->arena, version);
        return 0;
    }
    name = pypi_name(conda->arena, text, len);
    if (name)
        add_line(conda, fl_arena_printf(conda->arena, "%s%s", name, version));
    return 0;
}

/* pip's own lines: requirements as they are. An option could lead anywhere. */
static int add_pip(struct conda *conda, const json_t *list, struct fl_error *err)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        const char *line = json_string_value(item);

        if (!line || !*line || *line == '-' || strchr(line, '\n') || strstr(line, "://"))
            return fl_error_set(err, FL_E_INVALID, "pip: \"%.100s\" is no plain requirement",
                                fl_str_or(line, "?"));
        add_line(conda, line);
    }
    return 0;
}

int fl_recipe_from_conda(const char *text, size_t len, struct fl_arena *arena,
                         const char **ret_requirements, const char **ret_python,
                         struct fl_error *err)
{
    static const struct fl_yaml_limits limits = {.max_bytes = TEXT_MAX, .max_nodes = LINES_MAX};
    struct conda conda = {.arena = arena, .requirements = ""};
    FL_JSON value = NULL;
    const json_t *item;
    size_t i;
    int r = fl_yaml_parse(text, len, &limits, &value, err);

    json_array_foreach(json_object_get(value, "dependencies"), i, item) {
        if (r == 0 && json_is_string(item))
            r = add_conda(&conda, json_string_value(item), err);
        else if (r == 0)
            r = add_pip(&conda, json_object_get(item, "pip"), err);
    }
    if (r == 0 && !json_is_array(json_object_get(value, "dependencies")))
        r = fl_error_set(err, FL_E_INVALID, "it has no list of dependencies");
    if (r < 0)
        return r;
    *ret_requirements = conda.requirements;
    *ret_python = conda.python;
    return 0;
}

/* Finding out. */

static int find_requirements(struct finding *finding, struct fl_error *err)
{
    const char *text;
    size_t len;
    int r = read_text(finding, "requirements.txt", &text, &len, err);

    if (r == 0) {
        finding->recipe.file = "requirements.txt";
        finding->recipe.lock =
            is_hashed(finding->arena, text) ? FL_LOCK_HASHED : FL_LOCK_REQUIREMENTS;
    }
    return r;
}

static int find_conda(struct finding *finding, const char *name, struct fl_error *err)
{
    const char *text;
    size_t len;
    int r = read_text(finding, name, &text, &len, err);

    if (r == 0)
        r = fl_recipe_from_conda(text, len, finding->arena, &finding->recipe.requirements,
                                 &finding->recipe.python, err);
    if (r < 0)
        return fl_error_wrap(err, "%s", name);
    finding->recipe.file = name;
    finding->recipe.lock = FL_LOCK_CONDA;
    if (finding->recipe.python && *finding->recipe.python)
        note(finding,
             fl_arena_printf(finding->arena,
                             "%s asks for Python %.40s: a composed image has Debian's, and "
                             "packages that fit it",
                             name, finding->recipe.python));
    return 0;
}

static int find_unlocked(struct finding *finding, struct fl_error *err)
{
    static const char *const conda[] = {"conda.yaml", "conda.yml", "environment.yaml",
                                        "environment.yml"};
    const char *name = first_of(finding, conda, FL_COUNT_OF(conda));

    if (has(finding, "requirements.txt"))
        return find_requirements(finding, err);
    if (has(finding, "pyproject.toml")) {
        finding->recipe.file = "pyproject.toml";
        finding->recipe.lock = FL_LOCK_PROJECT;
        return 0;
    }
    if (name)
        return find_conda(finding, name, err);
    finding->recipe.lock = FL_LOCK_NONE;
    note(finding, "no dependencies are written down (requirements.txt, pyproject.toml or "
                  "conda.yaml): the image has Python and the training adapter's own");
    return 0;
}

static int find_lock(struct finding *finding, struct fl_error *err)
{
    enum fl_imagebuild_lock_policy policy = finding->options->lock_policy;
    enum fl_recipe_lock lock;
    int r;

    if (policy != FL_IMAGEBUILD_LOCK_POLICY_SOLVE && has(finding, "pylock.toml")) {
        finding->recipe.file = "pylock.toml";
        finding->recipe.lock = FL_LOCK_PYLOCK;
        return 0;
    }
    r = find_unlocked(finding, err);
    lock = finding->recipe.lock;
    if (r == 0 && policy == FL_IMAGEBUILD_LOCK_POLICY_REQUIRE && lock != FL_LOCK_HASHED &&
        lock != FL_LOCK_NONE)
        return fl_error_set(err, FL_E_INVALID,
                            "lockPolicy is Require, and %s names no hashes: add a pylock.toml (pip "
                            "lock, uv export --format pylock.toml) or hashes to requirements.txt",
                            finding->recipe.file);
    return r;
}

/* The code. */

static const char *const flops_methods[] = {
    "set_model_data",       "get_model", "get_model_parameters",
    "set_model_parameters", "fit_model", "evaluate_model"};
static const char *const trainer_methods[] = {"get_parameters", "set_parameters", "fit",
                                              "evaluate"};

static const char *after_word(const char *text, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(text, word, len) != 0 || (text[len] != ' ' && text[len] != '\t'))
        return text;
    return text + len + strspn(text + len, " \t");
}

/* "    async def fit(" defines fit, at whatever depth. */
static bool line_defines(const char *line, const char *keyword, const char *name)
{
    size_t len = strlen(name);
    const char *at = line + strspn(line, " \t"), *word;

    at = after_word(at, "async");
    word = after_word(at, keyword);
    return word != at && strncmp(word, name, len) == 0 &&
           (word[len] == '(' || word[len] == ':' || word[len] == ' ');
}

static bool defines(struct fl_arena *arena, const char *text, const char *keyword, const char *name)
{
    for (const char *rest = text; rest;)
        if (line_defines(fl_str_next(arena, &rest, '\n'), keyword, name))
            return true;
    return false;
}

/* Whether what is missing may come from a class of another file: these have none of the methods, or
 * only as a template. */
static bool has_other_base(struct fl_arena *arena, const char *text, const char *class_name)
{
    static const char *const known[] = {"",
                                        "object",
                                        "ABC",
                                        "abc.ABC",
                                        "ModelManagerTemplate",
                                        "metaclass=ABCMeta",
                                        "metaclass=abc.ABCMeta"};
    const char *from = strstr(text, fl_arena_printf(arena, "class %s(", class_name)), *rest, *base;

    if (!from)
        return false;
    from += strlen("class (") + strlen(class_name);
    rest = fl_arena_strndup(arena, from, strcspn(from, ")"));
    while (rest) {
        bool is_known = false;

        base = fl_str_next(arena, &rest, ',');
        base += strspn(base, " \t\r\n");
        base = fl_arena_strndup(arena, base, strcspn(base, " \t\r\n"));
        for (size_t i = 0; i < FL_COUNT_OF(known); i++)
            is_known = is_known || fl_streq(base, known[i]);
        if (!is_known && !fl_str_has_suffix(base, ".ModelManagerTemplate"))
            return true;
    }
    return false;
}

static int check_class(struct finding *finding, const char *file, const char *class_name,
                       const char *const *methods, size_t count, struct fl_error *err)
{
    const char *text, *missing = "";
    size_t len;
    int r = read_text(finding, file, &text, &len, err);

    if (r < 0)
        return r;
    if (!defines(finding->arena, text, "class", class_name))
        return fl_error_set(err, FL_E_INVALID, "%s has no class %s", file, class_name);
    for (size_t i = 0; i < count; i++)
        if (!defines(finding->arena, text, "def", methods[i]))
            missing = fl_arena_printf(finding->arena, "%s%s%s", missing, *missing ? ", " : "",
                                      methods[i]);
    if (!*missing)
        return 0;
    if (!has_other_base(finding->arena, text, class_name))
        return fl_error_set(err, FL_E_INVALID, "%s: class %s lacks %s", file, class_name, missing);
    note(finding, fl_arena_printf(finding->arena, "%s: class %s does not define %s itself", file,
                                  class_name, missing));
    return 0;
}

/* What it names is found out where there is a Python. */
static bool names_flower_app(struct finding *finding)
{
    const char *text = NULL;
    size_t len;

    return has(finding, "pyproject.toml") &&
           read_text(finding, "pyproject.toml", &text, &len, NULL) == 0 &&
           strstr(text, "[tool.flwr.app.components]") && strstr(text, "clientapp");
}

static int find_code(struct finding *finding, struct fl_error *err)
{
    if (has(finding, "trainer.py")) {
        finding->recipe.code = FL_CODE_TRAINER;
        return check_class(finding, "trainer.py", "Trainer", trainer_methods,
                           FL_COUNT_OF(trainer_methods), err);
    }
    if (has(finding, "model_manager.py")) {
        finding->recipe.code = FL_CODE_FLOPS;
        return check_class(finding, "model_manager.py", "ModelManager", flops_methods,
                           FL_COUNT_OF(flops_methods), err);
    }
    if (has(finding, "client_app.py") || names_flower_app(finding)) {
        finding->recipe.code = FL_CODE_FLOWER;
        return 0;
    }
    return fl_error_set(err, FL_E_INVALID,
                        "there is no training code: the folder needs trainer.py with a class "
                        "Trainer, model_manager.py with a class ModelManager, or a Flower app");
}

/* A Containerfile decides for Buildah, unless the user has decided already. */
static int find_containerfile(struct finding *finding, struct fl_error *err)
{
    static const char *const names[] = {"Containerfile", "Dockerfile"};
    const struct fl_recipe_options *options = finding->options;
    const char *name = options->containerfile;

    if (name && !has(finding, name))
        return fl_error_set(err, FL_E_INVALID, "%s, which spec.file names, is not there", name);
    if (!name)
        name = first_of(finding, names, FL_COUNT_OF(names));
    if (options->backend == FL_IMAGEBUILD_BACKEND_COMPOSE && options->has_base)
        return fl_error_set(err, FL_E_INVALID,
                            "backend Compose runs nothing, so it cannot put dependencies into "
                            "baseImage: use Buildah, or leave baseImage out");
    if (options->backend == FL_IMAGEBUILD_BACKEND_COMPOSE) {
        if (name)
            note(finding, "backend is Compose: the Containerfile has no say");
        return 0;
    }
    finding->recipe.containerfile = name;
    finding->recipe.needs_buildah =
        name || options->has_base || options->backend == FL_IMAGEBUILD_BACKEND_BUILDAH;
    return 0;
}

int fl_recipe_find(const struct fl_recipe_options *options, struct fl_arena *arena,
                   struct fl_recipe *ret_recipe, struct fl_error *err)
{
    struct finding finding = {.options = options, .arena = arena};
    int r;

    finding.notes = fl_new_array(arena, const char *, NOTES_MAX + 1);
    finding.recipe.notes = finding.notes;
    r = find_containerfile(&finding, err);
    if (r == 0 && finding.recipe.containerfile) {
        finding.recipe.code = FL_CODE_OWN;
        finding.recipe.lock = FL_LOCK_NONE;
    } else if (r == 0) {
        r = find_code(&finding, err);
        if (r == 0)
            r = find_lock(&finding, err);
    }
    if (r == 0)
        *ret_recipe = finding.recipe;
    return r;
}
