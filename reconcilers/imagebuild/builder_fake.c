#include "reconcilers/imagebuild/builder_fake.h"

#include "lib/map.h"
#include "lib/str.h"

#include <inttypes.h>
#include <string.h>

#define TIMEOUT_MS ((int64_t)30 * 60 * 1000)
#define STAGE      "Base"

struct entry {
    struct entry *next; /* waiting */
    struct fl_arena *arena;
    const char *key;
    struct fl_build build;
    struct fl_builder_fake_plan plan;
    struct fl_builder_known known;
    int64_t due_ms; /* of what runs */
};

struct fl_builder_fake {
    struct fl_builder base;
    const struct fl_env *env;
    fl_builder_changed_fn *changed;
    void *changed_user;
    fl_builder_fake_plan_fn *plan;
    void *plan_user;
    struct fl_map *entries;
    struct entry *first, **last, *running;
    size_t begun;
};

static void entry_free(void *value)
{
    struct entry *entry = value;

    fl_arena_destroy(entry->arena);
    free(entry);
}

/* What is asked for, as far as tests look at it. */
static struct fl_build copy_build(struct fl_arena *arena, const struct fl_build *from)
{
    struct fl_build build = {.target = from->target,
                             .model = fl_arena_copy(arena, from->model),
                             .url = fl_arena_copy(arena, from->url),
                             .commit = fl_arena_copy(arena, from->commit),
                             .username = fl_arena_copy(arena, from->username),
                             .password = fl_arena_copy(arena, from->password),
                             .registry = fl_arena_copy(arena, from->registry),
                             .repository = fl_arena_copy(arena, from->repository),
                             .registry_username = fl_arena_copy(arena, from->registry_username),
                             .registry_password = fl_arena_copy(arena, from->registry_password),
                             .registry_plain_http = from->registry_plain_http,
                             .registry_insecure = from->registry_insecure,
                             .timeout_ms = from->timeout_ms ? from->timeout_ms : TIMEOUT_MS};

    for (; build.platform_count < from->platform_count; build.platform_count++)
        build.platforms[build.platform_count] =
            fl_arena_copy(arena, from->platforms[build.platform_count]);
    for (; build.tag_count < from->tag_count; build.tag_count++)
        build.tags[build.tag_count] = fl_arena_copy(arena, from->tags[build.tag_count]);
    return build;
}

/* Builds. */

static void begin(struct fl_builder_fake *fake, struct entry *entry)
{
    struct fl_builder_known *known = &entry->known;
    struct fl_builder_fake_plan plan = {0};
    int64_t run_ms;

    fake->begun++;
    if (fake->plan)
        fake->plan(fake->plan_user, entry->key, &entry->build, &plan);
    plan.stage = fl_arena_strdup(entry->arena, fl_str_or(plan.stage, STAGE));
    plan.message = fl_arena_copy(entry->arena, plan.message);
    known->log_tail = fl_arena_copy(entry->arena, plan.log_tail);
    run_ms = plan.run_ms;
    if (run_ms < 0 || run_ms > entry->build.timeout_ms) {
        run_ms = entry->build.timeout_ms;
        plan.code = FL_E_TIMEOUT;
        plan.message = "the build took longer than it may";
    }
    entry->plan = plan;
    entry->due_ms = fl_monotonic_ms(fake->env) + run_ms;
    known->state = FL_BUILDER_RUNNING;
    known->started_us = fl_realtime_us(fake->env);
    known->stages[known->stage_count++] = (struct fl_builder_stage){
        .name = plan.stage, .state = FL_STAGE_RUNNING, .started_us = known->started_us};
    fake->running = entry;
}

static void show_result(struct fl_builder_fake *fake, struct entry *entry)
{
    struct fl_builder_result *result = &entry->known.result;
    const struct fl_build *build = &entry->build;
    char digest[FL_DIGEST_SIZE];
    const char *text = fl_arena_printf(entry->arena, "%s %zu", entry->key, fake->begun);

    fl_digest_of(text, strlen(text), digest);
    result->commit = build->commit;
    result->backend = "Compose";
    result->digest = fl_arena_strdup(entry->arena, digest);
    result->size = 1000;
    result->cache_misses = 1;
    for (size_t i = 0; i < build->platform_count; i++)
        result->platforms[result->platform_count++] = (struct fl_builder_platform){
            .platform = build->platforms[i], .digest = result->digest, .size = 1000, .layers = 1};
}

static void end(struct fl_builder_fake *fake, struct entry *entry)
{
    struct fl_builder_known *known = &entry->known;
    struct fl_builder_stage *stage = &known->stages[known->stage_count - 1];

    known->ended_us = fl_realtime_us(fake->env);
    stage->took_ms = (known->ended_us - known->started_us) / 1000;
    fake->running = NULL;
    if (entry->plan.code == 0) {
        known->state = FL_BUILDER_DONE;
        stage->state = FL_STAGE_DONE;
        show_result(fake, entry);
        return;
    }
    known->state = FL_BUILDER_FAILED;
    stage->state = FL_STAGE_FAILED;
    known->failed_stage = stage->name;
    (void)fl_error_set(&known->err, entry->plan.code, "%s",
                       fl_str_or(entry->plan.message, "by plan"));
    stage->message = known->err.msg;
}

static void unlink_waiting(struct fl_builder_fake *fake, const struct entry *entry)
{
    struct entry **at = &fake->first;

    while (*at && *at != entry)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = entry->next;
    if (fake->last == &entry->next)
        fake->last = at;
}

static struct entry *one_step(struct fl_builder_fake *fake)
{
    struct entry *entry = fake->running;

    if (entry && entry->due_ms <= fl_monotonic_ms(fake->env)) {
        end(fake, entry);
        return entry;
    }
    entry = fake->running ? NULL : fake->first;
    if (entry) {
        unlink_waiting(fake, entry);
        begin(fake, entry);
    }
    return entry;
}

size_t fl_builder_fake_step(struct fl_builder_fake *fake)
{
    const struct entry *entry;
    size_t count = 0;

    for (; (entry = one_step(fake)); count++)
        if (fake->changed)
            fake->changed(fake->changed_user, entry->key);
    return count;
}

int64_t fl_builder_fake_next_due_ms(const struct fl_builder_fake *fake)
{
    if (fake->running)
        return fake->running->due_ms;
    return fake->first ? fl_monotonic_ms(fake->env) : INT64_MAX;
}

/* The table. */

static int fake_start(struct fl_builder *self, const char *key, const struct fl_build *build,
                      struct fl_error *err)
{
    struct fl_builder_fake *fake = (struct fl_builder_fake *)self;
    struct entry *entry;

    (void)err;
    if (fl_map_get(fake->entries, key))
        return 0;
    entry = fl_calloc(1, sizeof(*entry));
    entry->arena = fl_arena_create();
    entry->key = fl_arena_strdup(entry->arena, key);
    entry->build = copy_build(entry->arena, build);
    entry->known.state = FL_BUILDER_WAITING;
    fl_map_put(fake->entries, key, entry);
    *fake->last = entry;
    fake->last = &entry->next;
    return 0;
}

static struct fl_builder_known copy_known(const struct fl_builder_known *from,
                                          struct fl_arena *arena)
{
    struct fl_builder_known known = *from;
    struct fl_builder_result *result = &known.result;

    for (size_t i = 0; i < known.stage_count; i++) {
        known.stages[i].name = fl_arena_copy(arena, known.stages[i].name);
        known.stages[i].message = fl_arena_copy(arena, known.stages[i].message);
    }
    known.failed_stage = fl_arena_copy(arena, known.failed_stage);
    known.log_tail = fl_arena_copy(arena, known.log_tail);
    result->commit = fl_arena_copy(arena, result->commit);
    result->digest = fl_arena_copy(arena, result->digest);
    for (size_t i = 0; i < result->platform_count; i++) {
        result->platforms[i].platform = fl_arena_copy(arena, result->platforms[i].platform);
        result->platforms[i].digest = fl_arena_copy(arena, result->platforms[i].digest);
    }
    return known;
}

static int fake_observe(struct fl_builder *self, const char *key, struct fl_arena *arena,
                        struct fl_builder_known *ret_known, struct fl_error *err)
{
    const struct entry *entry = fl_map_get(((struct fl_builder_fake *)self)->entries, key);

    (void)err;
    *ret_known = entry ? copy_known(&entry->known, arena) : (struct fl_builder_known){0};
    return 0;
}

static int fake_forget(struct fl_builder *self, const char *key, struct fl_error *err)
{
    struct fl_builder_fake *fake = (struct fl_builder_fake *)self;
    struct entry *entry = fl_map_take(fake->entries, key);

    (void)err;
    if (!entry)
        return 0;
    unlink_waiting(fake, entry);
    if (fake->running == entry)
        fake->running = NULL;
    entry_free(entry);
    return 0;
}

static void leave_open(struct fl_builder *self)
{
    (void)self;
}

struct fl_builder_fake *fl_builder_fake_create(const struct fl_env *env)
{
    static const struct fl_builder_ops ops = {
        .destroy = leave_open, .start = fake_start, .observe = fake_observe, .forget = fake_forget};
    struct fl_builder_fake *fake = fl_calloc(1, sizeof(*fake));

    fake->base.ops = &ops;
    fake->env = env;
    fake->entries = fl_map_create(entry_free);
    fake->last = &fake->first;
    return fake;
}

void fl_builder_fake_destroy(struct fl_builder_fake *fake)
{
    if (!fake)
        return;
    fl_map_destroy(fake->entries);
    free(fake);
}

void fl_builder_fake_crash(struct fl_builder_fake *fake)
{
    fl_map_destroy(fake->entries);
    fake->entries = fl_map_create(entry_free);
    fake->first = fake->running = NULL;
    fake->last = &fake->first;
}

struct fl_builder *fl_builder_fake_builder(struct fl_builder_fake *fake)
{
    return &fake->base;
}

void fl_builder_fake_on_change(struct fl_builder_fake *fake, fl_builder_changed_fn *changed,
                               void *user)
{
    fake->changed = changed;
    fake->changed_user = user;
}

void fl_builder_fake_on_plan(struct fl_builder_fake *fake, fl_builder_fake_plan_fn *plan,
                             void *user)
{
    fake->plan = plan;
    fake->plan_user = user;
}

/* What tests ask. */

size_t fl_builder_fake_begun(const struct fl_builder_fake *fake)
{
    return fake->begun;
}

size_t fl_builder_fake_known(const struct fl_builder_fake *fake)
{
    return fl_map_count(fake->entries);
}

size_t fl_builder_fake_live(const struct fl_builder_fake *fake, const char *prefix,
                            size_t *ret_live)
{
    const char *key;
    void *cursor = NULL, *value;
    size_t count = 0, live = 0;

    while (fl_map_next(fake->entries, &cursor, &key, &value)) {
        const struct entry *entry = value;

        if (!fl_str_has_prefix(key, prefix))
            continue;
        count++;
        live +=
            entry->known.state == FL_BUILDER_WAITING || entry->known.state == FL_BUILDER_RUNNING;
    }
    *ret_live = live;
    return count;
}

const char *fl_builder_fake_asked(const struct fl_builder_fake *fake, const char *key,
                                  struct fl_arena *arena)
{
    const struct entry *entry = fl_map_get(fake->entries, key);
    const char *text;

    if (!entry)
        return NULL;
    text = fl_arena_printf(arena, "%s/%s %s %s", fl_str_or(entry->build.registry, "-"),
                           fl_str_or(entry->build.repository, "-"),
                           fl_str_or(entry->build.registry_username, "-"),
                           fl_str_or(entry->build.registry_password, "-"));
    for (size_t i = 0; i < entry->build.tag_count; i++)
        text = fl_arena_printf(arena, "%s %s", text, entry->build.tags[i]);
    return entry->build.model ? fl_arena_printf(arena, "%s, %s", text, entry->build.model) : text;
}
