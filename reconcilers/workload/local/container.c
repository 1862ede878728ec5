/* The start of a run that is an image: the image comes first, which may take its time; then it is
 * launched like any other. What holds secrets is kept in memory for as long as that takes, so a
 * control plane that dies meanwhile leaves a run that has to be begun anew. */
#include "lib/file.h"
#include "lib/machine.h"
#include "reconcilers/workload/local/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define FOREIGN_MAX 8

static const struct fl_field *spec_field(void)
{
    const struct fl_field *field = fl_workload_type.fields;

    while (strcmp(field->name, "spec") != 0)
        field++;
    return field;
}

static void copy_env(struct pending *pending, const struct fl_run_spec *from)
{
    struct fl_run_env *env = fl_new_array(pending->arena, struct fl_run_env, from->env_count + 1);

    for (size_t i = 0; i < from->env_count; i++)
        env[i] = (struct fl_run_env){fl_arena_copy(pending->arena, from->env[i].name),
                                     fl_arena_copy(pending->arena, from->env[i].value)};
    pending->run.env = env;
}

static void copy_files(struct pending *pending, const struct fl_run_spec *from)
{
    struct fl_run_file *files =
        fl_new_array(pending->arena, struct fl_run_file, from->file_count + 1);

    for (size_t i = 0; i < from->file_count; i++) {
        files[i] = from->files[i];
        files[i].path = fl_arena_copy(pending->arena, from->files[i].path);
        files[i].data =
            fl_arena_strndup(pending->arena, (const char *)from->files[i].data, from->files[i].len);
    }
    pending->run.files = files;
}

/* The caller's goes when start returns. */
static void copy_run(struct pending *pending, const struct fl_run_spec *from)
{
    struct fl_workload_spec *spec = fl_new(pending->arena, struct fl_workload_spec);

    fl_fields_clone(spec_field()->fields, sizeof(*spec), from->spec, pending->arena, spec);
    pending->run = *from;
    pending->run.spec = spec;
    pending->run.id.workload_uid = fl_arena_copy(pending->arena, from->id.workload_uid);
    pending->run.ns = fl_arena_copy(pending->arena, from->ns);
    pending->run.name = fl_arena_copy(pending->arena, from->name);
    pending->run.cluster = fl_arena_copy(pending->arena, from->cluster);
    pending->run.node = fl_arena_copy(pending->arena, from->node);
    pending->run.spec_hash = NULL; /* the record has it */
    pending->run.pull_secret = NULL;
    copy_env(pending, from);
    copy_files(pending, from);
}

static void pending_free(struct pending *pending)
{
    fl_image_job_unref(pending->job);
    fl_image_release(pending->image);
    fl_arena_destroy(pending->arena);
    free(pending);
}

/* Platforms. */

static void add_platform(struct fl_arena *arena, struct fl_platform *list, size_t *count,
                         const char *text, const struct fl_string_list *only)
{
    bool wanted = only->count == 0;

    for (size_t i = 0; i < only->count; i++)
        wanted = wanted || strcmp(only->items[i], text) == 0;
    if (wanted && fl_platform_parse(arena, text, &list[*count], NULL) == 0)
        (*count)++;
}

/* The machine's own before those that are emulated. */
static size_t wanted_platforms(struct fl_arena *arena, const struct fl_workload_spec *spec,
                               const struct fl_platform **ret_platforms)
{
    static const struct fl_string_list any;
    const struct fl_string_list *only = spec->has_placement ? &spec->placement.platforms : &any;
    struct fl_platform own = fl_platform_of_machine();
    struct fl_platform *list = fl_new_array(arena, struct fl_platform, FOREIGN_MAX + 1);
    const char *foreign[FOREIGN_MAX];
    size_t count = 0, foreign_count = fl_machine_foreign(NULL, foreign, FOREIGN_MAX);

    add_platform(arena, list, &count, fl_platform_text(arena, &own), only);
    for (size_t i = 0; i < foreign_count; i++)
        add_platform(arena, list, &count, foreign[i], only);
    *ret_platforms = list;
    return count;
}

/* When it is there, or will not be. */

/* Names that are not there and images that cannot be are told apart from a bad moment. */
static const char *reason_of(int code)
{
    return code == FL_E_NOT_FOUND || code == FL_E_INVALID || code == FL_E_UNAUTHORIZED ||
                   code == FL_E_FORBIDDEN || code == FL_E_UNSUPPORTED_MEDIA ||
                   code == FL_E_TOO_LARGE
               ? "ImageNotFound"
               : "StartFailed";
}

static void remember_image(struct instance *instance, const struct fl_image *image)
{
    struct record *record = &instance->record;

    record->image_digest = fl_arena_copy(instance->arena, image->digest);
    record->layers.items = fl_new_array(instance->arena, const char *, image->layer_count + 1);
    record->layers.count = image->layer_count;
    for (size_t i = 0; i < image->layer_count; i++)
        record->layers.items[i] = fl_arena_copy(instance->arena, image->layers[i]);
}

static int launch(struct pending *pending, struct fl_error *err)
{
    struct instance *instance = pending->instance;
    struct fl_local *local = instance->local;
    struct plan plan = {.arena = pending->arena,
                        .instance = instance,
                        .run = &pending->run,
                        .record = instance->record,
                        .limits = pending->limits};
    int r;

    remember_image(instance, pending->image);
    r = record_write(instance, err);
    if (r == 0)
        r = plan_container(&plan, pending->image, err);
    if (r < 0)
        return r;
    instance->record.note = fl_arena_copy(instance->arena, plan.record.note);
    if (instance->record.layers.count > 0)
        instance->holds = fl_images_hold(local->images, instance->record.layers.items,
                                         instance->record.layers.count);
    return local_launch(&plan, err);
}

static void conclude(struct pending *pending)
{
    struct instance *instance = pending->instance;
    struct fl_error err = pending->err;
    int r = err.code;

    instance->pending = NULL;
    if (pending->stopped) {
        local_record_end(instance, pending->reason, pending->message);
        return;
    }
    if (r < 0) {
        local_record_end(instance, reason_of(r), err.msg);
        return;
    }
    r = launch(pending, &err);
    if (r < 0)
        local_record_end(instance, "StartFailed", err.msg);
    else
        local_supervise(instance);
}

/* The loop's. When the driver is destroyed it is run once more, and nothing is begun any more. */
static void on_loop(void *user)
{
    struct pending *pending = user;
    struct news news = {.local = pending->local};

    {
        FL_LOCKED(pending->local->lock);
        if (pending->local->closing) {
            pending->instance->pending = NULL;
        } else {
            conclude(pending);
            news_note(&news, pending->instance);
        }
    }
    news_spread(&news);
    pending_free(pending);
}

static void on_done(void *user, struct fl_image *image, const struct fl_error *err)
{
    struct pending *pending = user;

    pending->image = image;
    if (!image)
        pending->err = *err;
    fl_loop_post(pending->local->loop, on_loop, pending);
}

static void on_moved(void *user)
{
    const struct pending *pending = user;

    local_tell(pending->local, pending->run.ns, pending->run.name);
}

int container_begin(struct plan *plan, struct fl_error *err)
{
    struct instance *instance = plan->instance;
    struct fl_local *local = instance->local;
    struct pending *pending;
    struct fl_image_wish wish = {.reference = plan->run->spec->image,
                                 .pull_secret = plan->run->pull_secret};
    int r = fl_dir_ensure(plan->folder, 0711, err);

    if (r < 0)
        return r;
    pending = fl_calloc(1, sizeof(*pending));
    pending->local = local;
    pending->instance = instance;
    pending->arena = fl_arena_create();
    pending->limits = plan->limits;
    copy_run(pending, plan->run);
    wish.platform_count = wanted_platforms(pending->arena, plan->run->spec, &wish.platforms);
    if (!local->overlays)
        wish.unpack_to = fl_arena_printf(pending->arena, "%s/" CONTAINER_ROOT, plan->folder);
    instance->pending = pending;
    pending->job = fl_images_want(local->images, &wish, on_done, on_moved, pending);
    return 0;
}

void container_stop(struct instance *instance, const char *reason, const char *message)
{
    struct pending *pending = instance->pending;

    if (!pending->stopped) {
        pending->stopped = true;
        pending->reason = fl_arena_strdup(pending->arena, reason);
        pending->message = fl_arena_copy(pending->arena, message);
    }
    fl_image_job_cancel(pending->job);
}

void container_settle(struct instance *instance)
{
    static const char *const parts[] = {CONTAINER_ROOT, CONTAINER_CHANGES, CONTAINER_BUNDLE};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_local *local = instance->local;
    const char *folder = local_run_folder(arena, instance, instance->record.number);

    if (!instance->record.image)
        return;
    if (instance->holds)
        fl_images_unhold(local->images, instance->record.layers.items,
                         instance->record.layers.count);
    instance->holds = false;
    for (size_t i = 0; i < FL_COUNT_OF(parts); i++)
        local_trash(local, fl_arena_printf(arena, "%s/%s", folder, parts[i]));
}

void container_adopt(struct instance *instance)
{
    const struct fl_string_list *layers = &instance->record.layers;

    if (!instance->record.image || layers->count == 0 || !instance->local->images)
        return;
    instance->holds = fl_images_hold(instance->local->images, layers->items, layers->count);
}

/* What a runtime keeps of a container whose shim was killed. True while it is at it. */
bool container_remove(struct instance *instance)
{
    const struct record *record = &instance->record;
    const char *argv[] = {
        record->runtime,   "--root", instance->local->state_folder, "delete", "--force",
        record->container, NULL};
    const char *const env[] = {"PATH=" LOCAL_PATH, NULL};
    struct fl_process_start start = {.argv = argv, .env = env};

    if (!record->container || !record->runtime || !instance->local->state_folder)
        return false;
    if (instance->removing == 0) {
        if (fl_process_start(&start, &instance->removing, NULL) < 0)
            return false;
        return true;
    }
    if (instance->removing < 0)
        return false;
    if (!fl_process_reap(instance->removing))
        return true;
    fl_fd_closep(&instance->removing);
    instance->removing = -1;
    return false;
}
