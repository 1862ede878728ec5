#include "lib/map.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Strangers choose keys, so the hash is keyed per process: nobody outside can make keys collide.
 * Order is not affected, it is that of insertion. */
static unsigned char hash_key[crypto_shorthash_KEYBYTES];

static void make_hash_key(void)
{
    randombytes_buf(hash_key, sizeof(hash_key));
}

static unsigned hash_bytes(const void *data, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned char hash[crypto_shorthash_BYTES];
    unsigned low;

    (void)pthread_once(&once, make_hash_key);
    (void)crypto_shorthash(hash, data, len, hash_key);
    memcpy(&low, hash, sizeof(low));
    return low;
}

#define HASH_FUNCTION(key, len, hash) ((hash) = hash_bytes(key, len))
/* Out of memory ends the program, as everywhere (lib/mem.h). */
#define uthash_fatal(msg)   abort()
#define uthash_malloc(size) fl_malloc(size)
#include <uthash.h>

/* clang does not read the comments by which uthash marks its fall-throughs. */
#pragma GCC diagnostic ignored "-Wimplicit-fallthrough"

struct entry {
    UT_hash_handle hh;
    void *value;
    char key[];
};

struct fl_map {
    struct entry *head;
    void (*destroy)(void *value);
};

struct fl_map *fl_map_create(void (*destroy)(void *value))
{
    struct fl_map *map = fl_calloc(1, sizeof(*map));

    map->destroy = destroy;
    return map;
}

static void *unlink_entry(struct fl_map *map, struct entry *entry)
{
    void *value = entry->value;

    HASH_DEL(map->head, entry);
    free(entry);
    return value;
}

void fl_map_destroy(struct fl_map *map)
{
    if (!map)
        return;
    while (map->head) {
        void *value = unlink_entry(map, map->head);

        if (map->destroy)
            map->destroy(value);
    }
    free(map);
}

static struct entry *find(const struct fl_map *map, const char *key, size_t len)
{
    struct entry *entry;

    HASH_FIND(hh, map->head, key, len, entry);
    return entry;
}

void *fl_map_get_n(const struct fl_map *map, const char *key, size_t len)
{
    struct entry *entry = find(map, key, len);

    return entry ? entry->value : NULL;
}

void *fl_map_get(const struct fl_map *map, const char *key)
{
    return fl_map_get_n(map, key, strlen(key));
}

void fl_map_put(struct fl_map *map, const char *key, void *value)
{
    size_t len = strlen(key);
    struct entry *entry = find(map, key, len);

    if (entry) {
        if (map->destroy && entry->value != value)
            map->destroy(entry->value);
        entry->value = value;
        return;
    }
    entry = fl_calloc(1, sizeof(*entry) + len + 1);
    memcpy(entry->key, key, len);
    entry->value = value;
    HASH_ADD_KEYPTR(hh, map->head, entry->key, len, entry);
}

void *fl_map_take(struct fl_map *map, const char *key)
{
    struct entry *entry = find(map, key, strlen(key));

    return entry ? unlink_entry(map, entry) : NULL;
}

bool fl_map_remove(struct fl_map *map, const char *key)
{
    struct entry *entry = find(map, key, strlen(key));
    void *value;

    if (!entry)
        return false;
    value = unlink_entry(map, entry);
    if (map->destroy)
        map->destroy(value);
    return true;
}

size_t fl_map_count(const struct fl_map *map)
{
    return HASH_COUNT(map->head);
}

/* The cursor is the entry to visit next, fetched before the visitor may remove the current one;
 * a mark of its own stands for "visited the last". */
bool fl_map_next(const struct fl_map *map, void **cursor, const char **ret_key, void **ret_value)
{
    static char at_end;
    struct entry *entry = *cursor ? *cursor : map->head;

    if (!entry || *cursor == &at_end)
        return false;
    if (ret_key)
        *ret_key = entry->key;
    if (ret_value)
        *ret_value = entry->value;
    *cursor = entry->hh.next ? entry->hh.next : &at_end;
    return true;
}
