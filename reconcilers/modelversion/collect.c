#include "reconcilers/modelversion/collect.h"

#include "api/gen/flops_types.h"
#include "lib/log.h"
#include "lib/str.h"
#include "lib/thread.h"

#define EVERY_MS (INT64_C(60) * 1000)

typedef void mark_fn(struct fl_marks *marks, const json_t *object);

/* Its lineage tells where it came from; that need not be kept. */
static void mark_version(struct fl_marks *marks, const json_t *object)
{
    FL_JSON part = json_pack(
        "{s:O?, s:O?, s:{s:O?}, s:O?}", "kind", json_object_get(object, "kind"), "metadata",
        json_object_get(object, "metadata"), "spec", "digest", fl_json_path(object, "spec.digest"),
        "exports", fl_json_path(object, "status.exports"));

    fl_marks_add_object(marks, part);
}

static void mark_round(struct fl_marks *marks, const json_t *object)
{
    if (!fl_json_path(object, "status.completionTime"))
        fl_marks_add_object(marks, object);
}

static const struct {
    const struct fl_kind_type *type;
    mark_fn *mark;
} kinds[] = {
    {&fl_modelversion_type, mark_version},
    {&fl_project_type, fl_marks_add_object},
    {&fl_round_type, mark_round},
    {&fl_inferenceserver_type, fl_marks_add_object},
    {&fl_workload_type, fl_marks_add_object},
    {&fl_imagebuild_type, fl_marks_add_object},
};

static int mark_kind(struct fl_apiclient *client, const struct fl_kind_type *type, mark_fn *mark,
                     struct fl_marks *marks, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    struct fl_gvr gvr = fl_gvr_of(type);
    int r = fl_apiclient_list_objects(client, &gvr, NULL, &list, err);

    for (size_t i = 0; r == 0 && i < list.count; i++) {
        FL_JSON object = fl_object_parse(list.objects[i]);

        mark(marks, object);
    }
    return r < 0 ? fl_error_wrap(err, "%s", type->plural) : 0;
}

int fl_content_collect(struct fl_apiclient *client, struct fl_contents *contents,
                       struct fl_repositories *repositories, struct fl_swept *ret_swept,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_marks_destroyp) struct fl_marks *marks = fl_marks_create();
    struct fl_forgotten forgotten;

    for (size_t i = 0; i < FL_COUNT_OF(kinds); i++) {
        int r = mark_kind(client, kinds[i].type, kinds[i].mark, marks, err);

        if (r < 0)
            return r;
    }
    if (repositories && fl_repositories_collect(repositories, marks, &forgotten, err) < 0)
        return err->code;
    *ret_swept = fl_contents_sweep(contents, FL_TAKE(marks));
    return 0;
}

struct fl_collector {
    struct fl_collector_options options;
    struct fl_thread *thread;
    struct fl_lock *lock;
    struct fl_signal *halted;
    bool stopping;
};

static bool take_a_rest(struct fl_collector *collector)
{
    FL_LOCKED(collector->lock);
    if (!collector->stopping)
        (void)fl_signal_wait(collector->halted, collector->lock, collector->options.every_ms);
    return !collector->stopping;
}

static void run(void *user)
{
    struct fl_collector *collector = user;
    const struct fl_collector_options *options = &collector->options;

    while (take_a_rest(collector)) {
        struct fl_error err = {0};
        struct fl_swept swept;

        if (fl_content_collect(options->client, options->contents, options->repositories, &swept,
                               &err) < 0)
            fl_log_warn(options->env->log, "content is not collected", FL_STR("error", err.msg));
    }
}

int fl_collector_start(const struct fl_collector_options *options,
                       struct fl_collector **ret_collector, struct fl_error *err)
{
    struct fl_collector *collector = fl_calloc(1, sizeof(*collector));
    int r;

    collector->options = *options;
    if (collector->options.every_ms == 0)
        collector->options.every_ms = EVERY_MS;
    collector->lock = fl_lock_create();
    collector->halted = fl_signal_create();
    r = fl_thread_start("flops-collect", run, collector, &collector->thread, err);
    if (r < 0) {
        fl_collector_stop(collector);
        return r;
    }
    *ret_collector = collector;
    return 0;
}

void fl_collector_stop(struct fl_collector *collector)
{
    if (!collector)
        return;
    fl_lock_take(collector->lock);
    collector->stopping = true;
    fl_signal_all(collector->halted);
    fl_lock_release(collector->lock);
    fl_thread_join(collector->thread);
    fl_signal_destroy(collector->halted);
    fl_lock_destroy(collector->lock);
    free(collector);
}
