#include "controller/runtime/own_writes.h"

#include "lib/map.h"
#include "lib/thread.h"

struct own_write {
    bool under_way, waited_for;
    uint64_t revision; /* that it made */
    uint64_t seen;     /* the newest that the cache showed while it was under way */
    int64_t forget_ms; /* monotonic */
};

struct fl_own_writes {
    struct fl_lock *lock;
    struct fl_map *entries; /* key → struct own_write */
};

struct fl_own_writes *fl_own_writes_create(void)
{
    struct fl_own_writes *writes = fl_calloc(1, sizeof(*writes));

    writes->lock = fl_lock_create();
    writes->entries = fl_map_create(free);
    return writes;
}

void fl_own_writes_destroy(struct fl_own_writes *writes)
{
    if (!writes)
        return;
    fl_map_destroy(writes->entries);
    fl_lock_destroy(writes->lock);
    free(writes);
}

void fl_own_writes_begin(struct fl_own_writes *writes, const char *key)
{
    struct own_write *entry = fl_calloc(1, sizeof(*entry));
    FL_LOCKED(writes->lock);

    entry->under_way = true;
    fl_map_put(writes->entries, key, entry);
}

/* The precondition says that nothing lies between what was read and what was written, so that all
 * that was seen up to the write is the write itself. */
bool fl_own_writes_end(struct fl_own_writes *writes, const char *key, uint64_t read,
                       uint64_t revision, int64_t now_ms)
{
    FL_LOCKED(writes->lock);
    struct own_write *entry = fl_map_get(writes->entries, key);
    uint64_t known = revision ? revision : read, seen;

    if (!entry)
        return false;
    seen = entry->seen;
    if (revision <= read || seen >= revision) { /* failed, changed nothing, or shown already */
        (void)fl_map_remove(writes->entries, key);
        return seen > known;
    }
    entry->under_way = false;
    entry->revision = revision;
    entry->forget_ms = now_ms + FL_OWN_WRITE_WAIT_MS;
    return false;
}

bool fl_own_writes_seen(struct fl_own_writes *writes, const char *key, uint64_t revision)
{
    FL_LOCKED(writes->lock);
    struct own_write *entry = fl_map_get(writes->entries, key);
    bool news;

    if (!entry)
        return true;
    if (entry->under_way) {
        if (revision > entry->seen)
            entry->seen = revision;
        return false;
    }
    if (revision < entry->revision) /* read before, or one of our own just before this one */
        return false;
    news = revision > entry->revision || entry->waited_for;
    (void)fl_map_remove(writes->entries, key);
    return news;
}

void fl_own_writes_gone(struct fl_own_writes *writes, const char *key)
{
    FL_LOCKED(writes->lock);

    (void)fl_map_remove(writes->entries, key);
}

int64_t fl_own_writes_wait_ms(struct fl_own_writes *writes, const char *key, uint64_t cached,
                              int64_t now_ms)
{
    FL_LOCKED(writes->lock);
    struct own_write *entry = fl_map_get(writes->entries, key);

    if (!entry)
        return 0;
    if (entry->under_way || cached >= entry->revision || now_ms >= entry->forget_ms) {
        (void)fl_map_remove(writes->entries, key);
        return 0;
    }
    entry->waited_for = true;
    return entry->forget_ms - now_ms;
}

size_t fl_own_writes_count(struct fl_own_writes *writes)
{
    FL_LOCKED(writes->lock);

    return fl_map_count(writes->entries);
}
