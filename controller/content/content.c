#include "controller/content/content.h"

#include "controller/content/internal.h"
#include "lib/log.h"
#include "lib/str.h"

#include <assert.h>

#define GRACE_MS     (INT64_C(60) * 60 * 1000)
#define WHO_MAX      16 /* names kept of one digest; more are counted by nobody */
#define WHO_SIZE     512
#define OBJECT_DEPTH 64

int fl_contents_open(const struct fl_contents_options *options, struct fl_contents **ret_contents,
                     struct fl_error *err)
{
    const struct fl_blobs_options blobs = {
        .env = options->env, .path = options->path, .max_bytes = options->max_bytes, .keeps = true};
    FL_CLEANUP(fl_contents_closep) struct fl_contents *contents = fl_calloc(1, sizeof(*contents));
    int r;

    TAILQ_INIT(&contents->uploads);
    contents->env = options->env;
    contents->max_bytes = options->max_bytes;
    contents->grace_ms = options->grace_ms ? options->grace_ms : GRACE_MS;
    contents->lock = fl_lock_create();
    contents->marks = fl_marks_create();
    contents->unmarked = fl_map_create(free);
    r = fl_blobs_open(&blobs, &contents->blobs, err);
    if (r < 0)
        return fl_error_wrap(err, "content store");
    *ret_contents = FL_TAKE(contents);
    return 0;
}

void fl_contents_close(struct fl_contents *contents)
{
    if (!contents)
        return;
    fl_content_uploads_end(contents);
    fl_blobs_close(contents->blobs);
    fl_map_destroy(contents->unmarked);
    fl_marks_destroy(contents->marks);
    fl_lock_destroy(contents->lock);
    free(contents);
}

struct fl_blobs *fl_contents_blobs(struct fl_contents *contents)
{
    return contents->blobs;
}

int64_t fl_contents_room(struct fl_contents *contents)
{
    int64_t left = contents->max_bytes - fl_blobs_bytes(contents->blobs);

    if (contents->max_bytes == 0)
        return INT64_MAX;
    return left > 0 ? left : 0;
}

/* Marks */

struct who {
    struct who *next;
    char name[];
};

struct mark {
    struct who *first;
    size_t count;
};

struct fl_marks {
    struct fl_map *map; /* digest -> struct mark */
};

static void mark_free(void *value)
{
    struct mark *mark = value;

    while (mark->first) {
        struct who *who = mark->first;

        mark->first = who->next;
        free(who);
    }
    free(mark);
}

struct fl_marks *fl_marks_create(void)
{
    struct fl_marks *marks = fl_calloc(1, sizeof(*marks));

    marks->map = fl_map_create(mark_free);
    return marks;
}

void fl_marks_destroy(struct fl_marks *marks)
{
    if (!marks)
        return;
    fl_map_destroy(marks->map);
    free(marks);
}

static bool names(const struct mark *mark, const char *who)
{
    for (const struct who *one = mark->first; one; one = one->next)
        if (strcmp(one->name, who) == 0)
            return true;
    return false;
}

void fl_marks_add(struct fl_marks *marks, const char *digest, const char *who)
{
    size_t len = strnlen(who, WHO_SIZE);
    struct mark *mark;
    struct who *one;

    if (!fl_digest_is_valid(digest))
        return;
    mark = fl_map_get(marks->map, digest);
    if (!mark) {
        mark = fl_calloc(1, sizeof(*mark));
        fl_map_put(marks->map, digest, mark);
    }
    if (mark->count == WHO_MAX || names(mark, who))
        return;
    one = fl_calloc(1, sizeof(*one) + len + 1);
    memcpy(one->name, who, len);
    one->next = mark->first;
    mark->first = one;
    mark->count++;
}

/* "sha256:…", "registry/name@sha256:…" */
static const char *digest_in(const char *text)
{
    const char *at = strrchr(text, '@');

    return at ? at + 1 : text;
}

static void add_texts(struct fl_marks *marks, const json_t *value, const char *who, int depth)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_string(value))
        fl_marks_add(marks, digest_in(json_string_value(value)), who);
    if (depth == OBJECT_DEPTH)
        return;
    json_object_foreach((json_t *)value, key, member)
        add_texts(marks, member, who, depth + 1);
    json_array_foreach((json_t *)value, i, member)
        add_texts(marks, member, who, depth + 1);
}

void fl_marks_add_object(struct fl_marks *marks, const json_t *object)
{
    const char *ns = fl_json_str(object, "metadata.namespace");
    char who[WHO_SIZE];

    (void)snprintf(who, sizeof(who), "%s %s%s%s", fl_str_or(fl_json_str(object, "kind"), "?"),
                   fl_str_or(ns, ""), ns ? "/" : "",
                   fl_str_or(fl_json_str(object, "metadata.name"), "?"));
    add_texts(marks, object, who, 0);
}

bool fl_marks_have(const struct fl_marks *marks, const char *digest)
{
    return fl_map_get(marks->map, digest) != NULL;
}

/* Sweeping */

/* Whether it has been unmarked and unused for long enough. With the lock. */
static bool is_due(struct fl_contents *contents, const struct fl_blob_entry *entry, int64_t now_ms)
{
    struct fl_unmarked *unmarked = fl_map_get(contents->unmarked, entry->digest);

    if (!unmarked) {
        unmarked = fl_calloc(1, sizeof(*unmarked));
        fl_map_put(contents->unmarked, entry->digest, unmarked);
        unmarked->since_ms = now_ms;
        unmarked->used_us = entry->used_us;
    }
    if (unmarked->used_us != entry->used_us) {
        unmarked->since_ms = now_ms;
        unmarked->used_us = entry->used_us;
    }
    return now_ms - unmarked->since_ms >= contents->grace_ms;
}

static void sweep_one(struct fl_contents *contents, const struct fl_blob_entry *entry,
                      int64_t now_ms, struct fl_swept *swept)
{
    struct fl_error err = {0};

    if (!is_due(contents, entry, now_ms)) {
        swept->waiting++;
        return;
    }
    if (fl_blobs_remove_unused(contents->blobs, entry->digest, entry->used_us, &err) < 0) {
        swept->waiting++;
        if (err.code != FL_E_CONFLICT)
            fl_log_warn(contents->env->log, "content cannot be removed",
                        FL_STR("digest", entry->digest), FL_STR("error", err.msg));
        return;
    }
    (void)fl_map_remove(contents->unmarked, entry->digest);
    swept->removed++;
    swept->removed_bytes += entry->size;
    fl_log_info(contents->env->log, "content that nothing refers to was removed",
                FL_STR("digest", entry->digest), FL_INT("bytes", entry->size));
}

/* What went by another way must not be taken for old when it comes again. */
static void forget_gone(struct fl_contents *contents, const struct fl_blob_entry *entries,
                        size_t count)
{
    struct fl_map *kept = fl_map_create(free);

    for (size_t i = 0; i < count; i++) {
        const struct fl_unmarked *unmarked = fl_map_get(contents->unmarked, entries[i].digest);

        if (unmarked) {
            struct fl_unmarked *copy = fl_calloc(1, sizeof(*copy));

            *copy = *unmarked;
            fl_map_put(kept, entries[i].digest, copy);
        }
    }
    fl_map_destroy(contents->unmarked);
    contents->unmarked = kept;
}

struct fl_swept fl_contents_sweep(struct fl_contents *contents, struct fl_marks *marks)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    int64_t now_ms = fl_monotonic_ms(contents->env);
    struct fl_blob_entry *entries;
    struct fl_swept swept = {0};
    size_t count;

    FL_LOCKED(contents->lock);
    fl_marks_destroy(contents->marks);
    contents->marks = marks;
    count = fl_blobs_list(contents->blobs, arena, &entries);
    for (size_t i = 0; i < count; i++) {
        if (fl_map_get(marks->map, entries[i].digest))
            (void)fl_map_remove(contents->unmarked, entries[i].digest);
        else
            sweep_one(contents, &entries[i], now_ms, &swept);
    }
    forget_gone(contents, entries, count);
    return swept;
}

const char **fl_contents_references(struct fl_contents *contents, const char *digest,
                                    struct fl_arena *arena)
{
    const struct mark *mark;
    const char **list;
    size_t count = 0;

    FL_LOCKED(contents->lock);
    mark = fl_map_get(contents->marks->map, digest);
    list = fl_new_array(arena, const char *, (mark ? mark->count : 0) + 1);
    for (const struct who *who = mark ? mark->first : NULL; who; who = who->next)
        list[count++] = fl_arena_strdup(arena, who->name);
    return list;
}
