#include "controller/source/applyset_internal.h"

#include "lib/str.h"

#include <sodium.h>
#include <stdlib.h>

/* Beyond these the oldest knowledge is worth no memory. */
#define ENTRIES_MAX ((size_t)4 * FL_MANIFESTS_MAX)

struct entry {
    unsigned char hash[crypto_generichash_BYTES];
    const char *uid; /* behind the version */
    char resource_version[];
};

struct fl_applyset_memo {
    struct fl_map *entries;
};

struct fl_applyset_memo *fl_applyset_memo_create(void)
{
    struct fl_applyset_memo *memo = fl_calloc(1, sizeof(*memo));

    memo->entries = fl_map_create(free);
    return memo;
}

void fl_applyset_memo_destroy(struct fl_applyset_memo *memo)
{
    if (!memo)
        return;
    fl_map_destroy(memo->entries);
    free(memo);
}

/* Of the content, since a Secret's must not be kept here. */
static void hash_of(const json_t *config, unsigned char hash[crypto_generichash_BYTES])
{
    struct fl_buf text;

    fl_buf_init(&text, 0);
    fl_json_write(&text, config);
    (void)crypto_generichash(hash, crypto_generichash_BYTES, (const unsigned char *)text.data,
                             text.len, NULL, 0);
    sodium_memzero(text.data, text.len);
    fl_buf_finish(&text);
}

bool fl_applyset_memo_knows(const struct fl_applyset_memo *memo, const char *key,
                            const json_t *config, const char *resource_version)
{
    const struct entry *entry = memo ? fl_map_get(memo->entries, key) : NULL;
    unsigned char hash[crypto_generichash_BYTES];

    if (!entry || !fl_streq(entry->resource_version, resource_version))
        return false;
    hash_of(config, hash);
    return memcmp(hash, entry->hash, sizeof(hash)) == 0;
}

bool fl_applyset_memo_made(const struct fl_applyset_memo *memo, const char *key,
                           const json_t *object)
{
    const struct entry *entry = memo ? fl_map_get(memo->entries, key) : NULL;

    return entry && *entry->uid && fl_streq(entry->uid, fl_json_str(object, "metadata.uid"));
}

void fl_applyset_memo_note(struct fl_applyset_memo *memo, const char *key, const json_t *config,
                           const json_t *object)
{
    const char *resource_version = fl_json_str(object, "metadata.resourceVersion");
    const char *uid = fl_str_or(fl_json_str(object, "metadata.uid"), "");
    struct entry *entry;
    size_t len;

    if (!memo || !resource_version)
        return;
    if (fl_map_count(memo->entries) >= ENTRIES_MAX) {
        fl_map_destroy(memo->entries);
        memo->entries = fl_map_create(free);
    }
    len = strlen(resource_version);
    entry = fl_malloc(sizeof(*entry) + len + 1 + strlen(uid) + 1);
    hash_of(config, entry->hash);
    memcpy(entry->resource_version, resource_version, len + 1);
    entry->uid = memcpy(entry->resource_version + len + 1, uid, strlen(uid) + 1);
    fl_map_put(memo->entries, key, entry);
}

void fl_applyset_memo_forget(struct fl_applyset_memo *memo, const char *key)
{
    if (memo)
        (void)fl_map_remove(memo->entries, key);
}
