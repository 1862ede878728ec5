#include "reconcilers/imagebuild/compose/compose_internal.h"

#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/compose/program.h"

#include <string.h>

/* What of this file's doing layers follow from, and their keys do not say: change it with that. */
#define RECIPE_VERSION 2
/* The time of all files, which says nothing and so changes nothing: 1980, when zip's time begins.
 */
#define FILES_EPOCH_S     315532800
#define DEBIAN_AGE_S      (24 * 60 * 60)
#define PYTHON            "python3"
#define MORE_PACKAGES_MAX 64

/* What wheels may expect of the system besides glibc (PEP 600's policies): C++'s library. */
static const char *const python_packages[] = {PYTHON, "libstdc++6"};

/* What a learner's image has besides what its code asks for: the adapter's own needs. */
static const char *const adapter_needs[] = {"numpy", NULL};

static bool is_learner(const struct fl_compose *compose)
{
    return compose->target == FL_IMAGEBUILD_TARGET_LEARNER;
}

/* Of our own making: what a base image has is its own affair. */
static bool has_python(const struct compose_image *image)
{
    return is_learner(image->work->compose) && !image->base.digest;
}

static void tell(const struct compose_work *work, const char *name, enum fl_stage_state state,
                 const char *message)
{
    const struct fl_compose_hooks *hooks = &work->compose->hooks;

    if (hooks->stage)
        hooks->stage(hooks->user, name, state, message);
}

/* Packages. */

static bool on_package(void *user, const char *what, int64_t done, int64_t total)
{
    const struct compose_work *work = user;
    const struct fl_compose_hooks *hooks = &work->compose->hooks;

    (void)done, (void)total;
    tell(work, work->stage, FL_STAGE_RUNNING, what);
    return !hooks->keep_going || hooks->keep_going(hooks->user);
}

static int need_packages(struct compose_work *work, struct fl_error *err)
{
    struct fl_packages_options options = work->compose->packages;

    if (work->packages)
        return 0;
    options.env = work->compose->env;
    options.folder = fl_arena_printf(work->arena, "%s/packages", work->compose->folder);
    options.blobs = work->compose->blobs;
    options.progress = on_package;
    options.user = work;
    return fl_packages_open(&options, &work->packages, err);
}

static int fetch(struct compose_work *work, const struct fl_package_lock *lock,
                 struct fl_error *err)
{
    struct fl_packages_fetched fetched = {0};
    int r = need_packages(work, err);

    if (r == 0)
        r = fl_packages_fetch(work->packages, lock, &fetched, err);
    work->composed.cache_hits += fetched.there;
    work->composed.cache_misses += fetched.fetched;
    work->composed.bytes_fetched += fetched.bytes_fetched;
    return r;
}

static int64_t now_s(const struct compose_work *work)
{
    return fl_realtime_us(work->compose->env) / 1000000;
}

static json_t *texts_json(const char *const *texts, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_string(texts[i]));
    return list;
}

static bool serves(const struct compose_image *image)
{
    return image->work->compose->target == FL_IMAGEBUILD_TARGET_INFERENCE_SERVER;
}

static const char **debian_names(struct compose_image *image, size_t *ret_count)
{
    const char *const *more = image->work->compose->only_base_with;
    size_t count = fl_program_package_count;
    const char **names = fl_new_array(image->work->arena, const char *,
                                      count + fl_program_serving_package_count +
                                          FL_COUNT_OF(python_packages) + MORE_PACKAGES_MAX);

    (void)memcpy(names, fl_program_packages, count * sizeof(*names));
    for (size_t i = 0; serves(image) && i < fl_program_serving_package_count; i++)
        names[count++] = fl_program_serving_packages[i];
    for (size_t i = 0; has_python(image) && i < FL_COUNT_OF(python_packages); i++)
        names[count++] = python_packages[i];
    for (size_t i = 0; more && more[i] && i < MORE_PACKAGES_MAX; i++)
        names[count++] = more[i];
    *ret_count = count;
    return names;
}

static int lock_debian(struct compose_image *image, struct fl_error *err)
{
    struct compose_work *work = image->work;
    size_t count;
    const char **names = debian_names(image, &count);
    FL_JSON words = json_pack(
        "{s:s, s:o, s:s}", "platform", fl_platform_text(work->arena, image->platform), "debian",
        texts_json(names, count), "sources", fl_str_or(work->compose->packages.apt_sources, ""));
    const char *key = fl_kept_key(work->arena, words);
    int r;

    if (fl_kept_lock(&work->kept, key, now_s(work), DEBIAN_AGE_S, work->arena,
                     &image->result->debian))
        return 0;
    r = need_packages(work, err);
    if (r == 0)
        r = fl_packages_resolve_debian(work->packages, image->platform, names, count, work->arena,
                                       &image->result->debian, err);
    if (r == 0)
        r = fl_kept_put_lock(&work->kept, key, now_s(work), &image->result->debian, err);
    return r;
}

static const struct fl_package *package_named(const struct fl_package_lock *lock, const char *name)
{
    for (size_t i = 0; i < lock->count; i++)
        if (fl_streq(lock->items[i].name, name))
            return &lock->items[i];
    return NULL;
}

/* "3.11" of Debian's "3.11.2-1+b1". */
static int find_python(struct compose_image *image, struct fl_error *err)
{
    const struct fl_package *package = package_named(&image->result->debian, PYTHON);
    const char *dot = package ? strchr(package->version, '.') : NULL;

    if (!dot)
        return fl_error_set(err, FL_E_INVALID, "Debian's packages have no %s", PYTHON);
    image->python = fl_arena_printf(image->work->arena, "%.*s.%.*s", (int)(dot - package->version),
                                    package->version, (int)strspn(dot + 1, "0123456789"), dot + 1);
    return 0;
}

/* Python's dependencies. */

static const enum fl_python_source sources[] = {
    [FL_LOCK_PYLOCK] = FL_PYTHON_PYLOCK,
    [FL_LOCK_HASHED] = FL_PYTHON_HASHED,
    [FL_LOCK_REQUIREMENTS] = FL_PYTHON_REQUIREMENTS,
    [FL_LOCK_PROJECT] = FL_PYTHON_PROJECT,
    [FL_LOCK_CONDA] = FL_PYTHON_REQUIREMENTS,
    [FL_LOCK_NONE] = FL_PYTHON_REQUIREMENTS,
};

/* The file that says what is needed: the user's own, or one that is made of what it says. */
static int requirements_file(struct compose_work *work, const char **ret_path, struct fl_error *err)
{
    const struct fl_recipe *recipe = work->compose->recipe;
    const char *text = recipe->lock == FL_LOCK_CONDA ? recipe->requirements : "", *path;
    int r;

    if (recipe->lock != FL_LOCK_CONDA && recipe->lock != FL_LOCK_NONE) {
        *ret_path = fl_arena_printf(work->arena, "%s/%s", work->compose->code, recipe->file);
        return 0;
    }
    path = fl_arena_printf(work->arena, "%s/requirements.txt", work->compose->folder);
    r = fl_file_write(path, text, strlen(text), 0600, err);
    *ret_path = path;
    return r;
}

static int digest_file(const char *path, char digest[FL_DIGEST_SIZE], struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = fl_file_read(path, (size_t)512 * 1024 * 1024, &bytes, err);

    if (r == 0)
        fl_digest_of(bytes->data, bytes->len, digest);
    return r;
}

static int lock_python(struct compose_image *image, struct fl_error *err)
{
    struct compose_work *work = image->work;
    const struct fl_recipe *recipe = work->compose->recipe;
    char digest[FL_DIGEST_SIZE];
    const char *file, *key;
    FL_JSON words = NULL;
    int r = requirements_file(work, &file, err);

    if (r == 0)
        r = digest_file(file, digest, err);
    if (r < 0)
        return r;
    words = json_pack("{s:s, s:s, s:s, s:i}", "platform",
                      fl_platform_text(work->arena, image->platform), "python", image->python,
                      "file", digest, "lock", (int)recipe->lock);
    key = fl_kept_key(work->arena, words);
    if (fl_kept_lock(&work->kept, key, now_s(work), -1, work->arena, &image->result->python))
        return 0;
    r = need_packages(work, err);
    if (r == 0)
        r = fl_packages_resolve_python(work->packages, image->platform, image->python,
                                       sources[recipe->lock], file, adapter_needs, work->arena,
                                       &image->result->python, err);
    if (r == 0)
        r = fl_kept_put_lock(&work->kept, key, now_s(work), &image->result->python, err);
    return r;
}

static int resolve(struct compose_image *image, struct fl_error *err)
{
    int r;

    image->work->stage = "Resolve";
    tell(image->work, "Resolve", FL_STAGE_RUNNING,
         fl_platform_text(image->work->arena, image->platform));
    r = lock_debian(image, err);
    if (r == 0 && has_python(image)) {
        r = find_python(image, err);
        if (r == 0 && !image->work->compose->dependencies && !image->work->compose->only_base_with)
            r = lock_python(image, err);
    }
    tell(image->work, "Resolve", r < 0 ? FL_STAGE_FAILED : FL_STAGE_DONE, NULL);
    return r;
}

/* Layers. What fills a tree. */
typedef int fill_fn(struct compose_image *image, struct fl_tree *tree, struct fl_error *err);

static int write_layer(struct compose_image *image, const struct fl_tree *tree,
                       struct fl_layer *ret_layer, struct fl_error *err)
{
    const struct fl_compose *compose = image->work->compose;

    /* What is only built in goes nowhere else. */
    return fl_tree_write_layer(tree, compose->only_base_with ? FL_LAYER_PLAIN : FL_LAYER_GZIP,
                               FILES_EPOCH_S, compose->blobs, compose->hooks.keep_going,
                               compose->hooks.user, image->work->arena, ret_layer, err);
}

static int fill_and_write(struct compose_image *image, fill_fn *fill, struct fl_layer *ret_layer,
                          struct fl_error *err)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    int r = fill(image, tree, err);

    return r < 0 || fl_tree_count(tree) == 0 ? r : write_layer(image, tree, ret_layer, err);
}

static void begin_stage(const struct compose_image *image, const char *stage)
{
    image->work->stage = stage;
    tell(image->work, stage, FL_STAGE_RUNNING,
         fl_platform_text(image->work->arena, image->platform));
}

static void end_layer(struct compose_image *image, const char *stage, const char *purpose,
                      bool is_kept, int r)
{
    bool is_empty = !image->layers[image->count].descriptor.digest;

    tell(image->work, stage,
         r < 0     ? FL_STAGE_FAILED
         : is_kept ? FL_STAGE_CACHED
                   : FL_STAGE_DONE,
         NULL);
    if (r < 0 || is_empty)
        return;
    image->purposes[image->count++] = purpose;
    image->result->cached_layers += is_kept;
    image->work->composed.cache_hits += is_kept;
    image->work->composed.cache_misses += !is_kept;
}

/* A layer of packages. Takes `words`, all that it follows from. */
static int add_layer(struct compose_image *image, const char *stage, const char *purpose,
                     json_t *words, fill_fn *fill, struct fl_error *err)
{
    struct compose_work *work = image->work;
    FL_JSON all =
        json_pack("{s:s, s:o, s:i}", "stage", stage, "of", words, "version", RECIPE_VERSION);
    const char *key = fl_kept_key(work->arena, all);
    struct fl_layer *layer = &image->layers[image->count];
    bool is_kept = fl_kept_layer(&work->kept, key, work->arena, layer);
    int r = 0;

    if (!is_kept) {
        begin_stage(image, stage);
        *layer = (struct fl_layer){0};
        r = fill_and_write(image, fill, layer, err);
        if (r == 0 && layer->descriptor.digest)
            r = fl_kept_put_layer(&work->kept, key, layer, err);
    }
    end_layer(image, stage, purpose, is_kept, r);
    return r;
}

/* A layer of files that are here: what they hold is its key. */
static int add_files(struct compose_image *image, const char *stage, const char *purpose,
                     fill_fn *fill, struct fl_error *err)
{
    struct compose_work *work = image->work;
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_layer *layer = &image->layers[image->count];
    char digest[FL_DIGEST_SIZE];
    const char *key = NULL;
    bool is_kept = false;
    int r;

    begin_stage(image, stage);
    r = fill(image, tree, err);
    if (r == 0)
        r = fl_tree_digest(tree, digest, err);
    if (r == 0) {
        key = fl_arena_printf(work->arena, "files-%s", strchr(digest, ':') + 1);
        is_kept = fl_kept_layer(&work->kept, key, work->arena, layer);
    }
    if (r == 0 && !is_kept) {
        r = write_layer(image, tree, layer, err);
        if (r == 0)
            r = fl_kept_put_layer(&work->kept, key, layer, err);
    }
    end_layer(image, stage, purpose, is_kept, r);
    return r;
}

static void remember_scratch(struct compose_work *work, const char *path)
{
    if (path)
        work->scratch[work->scratch_count++] = path;
}

static int fill_missing(struct compose_image *image, const struct fl_tree *packages,
                        struct fl_tree *tree, struct fl_error *err)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *needs = fl_tree_create();
    int r =
        fl_program_add_needs(needs, packages, image->platform, image->program, serves(image), err);

    return r == 0 ? compose_base_add_missing(image, tree, needs, err) : r;
}

static int fill_base(struct compose_image *image, struct fl_tree *tree, struct fl_error *err)
{
    struct compose_work *work = image->work;
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *all = NULL;
    const char *scratch = NULL;
    int r = fetch(work, &image->result->debian, err);

    if (r < 0)
        return r;
    if (!has_python(image))
        all = fl_tree_create();
    r = fl_packages_unpack_debian(work->packages, &image->result->debian, all ? all : tree,
                                  work->arena, &scratch, err);
    remember_scratch(work, scratch);
    if (r < 0 || !all)
        return r;
    return image->base.digest ? fill_missing(image, all, tree, err)
                              : fl_program_add_needs(tree, all, image->platform, image->program,
                                                     serves(image), err);
}

static const char *site_of(const struct compose_image *image)
{
    return fl_arena_printf(image->work->arena, "usr/local/lib/python%s/dist-packages",
                           image->python);
}

static int fill_dependencies(struct compose_image *image, struct fl_tree *tree,
                             struct fl_error *err)
{
    struct compose_work *work = image->work;
    const char *scratch = NULL;
    int r = fetch(work, &image->result->python, err);

    if (r == 0)
        r = fl_packages_unpack_python(work->packages, &image->result->python, site_of(image), tree,
                                      work->arena, &scratch, err);
    remember_scratch(work, scratch);
    return r;
}

static bool is_byte_code(void *user, const char *path)
{
    (void)user;
    return strstr(path, "__pycache__") != NULL;
}

static int fill_program(struct compose_image *image, struct fl_tree *tree, struct fl_error *err)
{
    const struct fl_compose *compose = image->work->compose;
    int r = fl_tree_add_file(tree, FL_PROGRAM_PATH, image->program, true, err);

    if (r == 0 && is_learner(compose) && compose->adapter)
        r = fl_tree_add_tree(tree, "", compose->adapter, is_byte_code, NULL, err);
    return r;
}

/* What a base image has of these it keeps. */
static int fill_program_above(struct compose_image *image, struct fl_tree *tree,
                              struct fl_error *err)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *needs = fl_tree_create();
    static const char python[] = "usr/bin/python3", usual[] = "usr/local/bin/python3";
    int r = fill_program(image, needs, err);

    if (r == 0)
        r = compose_base_add_missing(image, tree, needs, err);
    if (r == 0 && is_learner(image->work->compose) && !compose_base_has(image, python) &&
        compose_base_has(image, usual))
        r = fl_tree_add_link(tree, python, "/usr/local/bin/python3", err);
    return r;
}

bool fl_compose_leaves_out(void *user, const char *path)
{
    const char *name = strrchr(path, '/');

    (void)user;
    name = name ? name + 1 : path;
    return fl_streq(name, ".git") || fl_streq(name, "__pycache__") || fl_streq(name, ".venv");
}

static int fill_code(struct compose_image *image, struct fl_tree *tree, struct fl_error *err)
{
    return fl_tree_add_tree(tree, FL_IMAGE_CODE_FOLDER, image->work->compose->code,
                            fl_compose_leaves_out, NULL, err);
}

static int fill_model(struct compose_image *image, struct fl_tree *tree, struct fl_error *err)
{
    return fl_tree_add_file(tree, FL_IMAGE_MODEL_FILE, image->work->compose->model, false, err);
}

static int add_base(struct compose_image *image, struct fl_error *err)
{
    json_t *words = json_pack("{s:o}", "lock", fl_package_lock_json(&image->result->debian));
    char digest[FL_DIGEST_SIZE];

    /* Which libraries are taken follows from the program. */
    if (!has_python(image) && digest_file(image->program, digest, err) == 0)
        fl_json_set_str(words, "program", digest);
    fl_json_set_str(words, "above", image->base.digest);
    return add_layer(image, "Base", "Debian packages", words, fill_base, err);
}

static int add_dependencies(struct compose_image *image, struct fl_error *err)
{
    const struct fl_oci_descriptor *made = image->work->compose->dependencies;
    json_t *words;

    if (made)
        return compose_take_layers(image, &made[image->index], "Python packages", err);
    words = json_pack("{s:o, s:s}", "lock", fl_package_lock_json(&image->result->python), "site",
                      site_of(image));

    return add_layer(image, "Dependencies", "Python packages", words, fill_dependencies, err);
}

static int add_program(struct compose_image *image, struct fl_error *err)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = NULL;
    char digest[FL_DIGEST_SIZE];
    int r;

    if (!image->base.digest)
        return add_files(image, "Program", "flops", fill_program, err);
    tree = fl_tree_create();
    r = fill_program(image, tree, err);
    if (r == 0)
        r = fl_tree_digest(tree, digest, err);
    if (r < 0)
        return r;
    return add_layer(image, "Program", "flops",
                     json_pack("{s:s, s:s}", "files", digest, "above", image->base.digest),
                     fill_program_above, err);
}

static int add_layers(struct compose_image *image, struct fl_error *err)
{
    const struct fl_compose *compose = image->work->compose;
    int r = add_base(image, err);

    if (r < 0 || compose->only_base_with)
        return r;
    if (has_python(image))
        r = add_dependencies(image, err);
    if (r == 0)
        r = add_program(image, err);
    if (r == 0 && is_learner(compose))
        r = add_files(image, "Code", "code", fill_code, err);
    if (r == 0 && compose->model)
        r = add_files(image, "Model", "model", fill_model, err);
    return r;
}

static void sum_up(struct compose_image *image, const struct fl_oci_descriptor *manifest)
{
    struct fl_composed_platform *result = image->result;

    result->digest = manifest->digest;
    result->layers = image->count;
    for (size_t i = 0; i < image->count; i++) {
        result->size += image->layers[i].descriptor.size;
        result->unpacked_size += image->layers[i].unpacked_bytes;
    }
}

static const char *program_for(const struct fl_compose *compose, const struct fl_platform *platform)
{
    for (size_t i = 0; i < compose->program_count; i++)
        if (fl_platform_fits(&compose->programs[i].platform, platform))
            return compose->programs[i].path;
    return NULL;
}

static int make_image(struct compose_work *work, size_t i, struct fl_oci_descriptor *ret_manifest,
                      struct fl_error *err)
{
    struct compose_image image = {.work = work,
                                  .index = i,
                                  .platform = &work->compose->platforms[i],
                                  .result = &work->composed.platforms[i]};
    int r;

    image.result->platform = *image.platform;
    image.program = program_for(work->compose, image.platform);
    if (!image.program)
        return fl_error_set(err, FL_E_INVALID,
                            "this installation has no flops for %s: `make cross` builds it",
                            fl_platform_text(work->arena, image.platform));
    if (work->compose->bases)
        image.result->base = work->compose->bases[i].digest;
    r = work->compose->bases ? compose_base_read(&image, &work->compose->bases[i], err) : 0;
    if (r == 0)
        r = resolve(&image, err);
    if (r == 0)
        r = add_layers(&image, err);
    if (r == 0)
        r = compose_put_manifest(&image, ret_manifest, err);
    if (r == 0)
        sum_up(&image, ret_manifest);
    compose_base_finish(&image);
    return r;
}

static int compose_all(struct compose_work *work, struct fl_error *err)
{
    size_t count = work->compose->platform_count;
    struct fl_oci_descriptor *manifests =
        fl_new_array(work->arena, struct fl_oci_descriptor, count + 1);
    int r = fl_dir_ensure(work->compose->folder, 0700, err);

    work->composed.platforms = fl_new_array(work->arena, struct fl_composed_platform, count + 1);
    work->composed.platform_count = count;
    work->scratch = fl_new_array(work->arena, const char *, 2 * count + 1);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = make_image(work, i, &manifests[i], err);
    return r < 0 ? r : compose_put_index(work, manifests, err);
}

int fl_compose(const struct fl_compose *compose, struct fl_arena *arena,
               struct fl_composed *ret_composed, struct fl_error *err)
{
    struct compose_work work = {.compose = compose,
                                .arena = arena,
                                .kept = {.folder = compose->folder, .blobs = compose->blobs}};
    int r = compose_all(&work, err);

    fl_packages_close(work.packages);
    for (size_t i = 0; i < work.scratch_count; i++)
        (void)fl_dir_remove(work.scratch[i], NULL);
    if (r == 0)
        *ret_composed = work.composed;
    return r;
}
