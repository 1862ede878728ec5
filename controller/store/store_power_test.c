/* Power cuts. A file system of the test's own stands between SQLite and the disk and knows what was
 * synced. While threads write, the power is cut at random moments: what was synced is there, of
 * what was not, any sectors may be. The store that opens on that has everything that was
 * acknowledged before the cut, and is exactly what the running one was at that revision.
 *
 * FLOPS_CRASH_ROUNDS sets how often (50), FLOPS_CRASH_SEED what comes out of chance. */
#include "controller/store/store_testing.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define SECTOR   512
#define WRITERS  3
#define KEYS     40
#define TEXT_MAX 5000

/* One write or truncation that no sync has followed yet. */
struct change {
    struct change *next;
    sqlite3_int64 at;
    size_t len;
    bool truncates;
    char data[];
};

/* What is on the disk for sure, and what may be. */
struct disk {
    char path[128];
    char *data;
    size_t len, cap;
    struct change *first, **last;
};

struct cut_file {
    sqlite3_file base;
    struct disk *disk;
    sqlite3_file *real; /* behind this struct */
};

static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static struct disk disks[2]; /* the file and its log; the lock guards them */
static sqlite3_vfs *real_vfs;
static const char *watched; /* path of the file whose power is cut */
static size_t syncs, checkpoints;

static void set_len(struct disk *disk, size_t len)
{
    if (len > disk->cap) {
        disk->cap = 2 * len;
        disk->data = fl_realloc(disk->data, disk->cap);
    }
    if (len > disk->len)
        memset(disk->data + disk->len, 0, len - disk->len);
    disk->len = len;
}

static void apply(struct disk *disk, const struct change *change, size_t from, size_t to)
{
    if (change->truncates) {
        set_len(disk, (size_t)change->at);
        return;
    }
    if ((size_t)change->at + to > disk->len)
        set_len(disk, (size_t)change->at + to);
    memcpy(disk->data + change->at + from, change->data + from, to - from);
}

static void forget_changes(struct disk *disk)
{
    while (disk->first) {
        struct change *next = disk->first->next;

        free(disk->first);
        disk->first = next;
    }
    disk->last = &disk->first;
}

static void remember(struct disk *disk, const void *data, size_t len, sqlite3_int64 at)
{
    struct change *change = fl_calloc(1, sizeof(*change) + len);

    change->at = at;
    change->len = len;
    change->truncates = data == NULL;
    if (data)
        memcpy(change->data, data, len);
    pthread_mutex_lock(&disk_lock);
    *disk->last = change;
    disk->last = &change->next;
    pthread_mutex_unlock(&disk_lock);
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct cut_file *)file)->real;
}

static int cut_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int cut_read(sqlite3_file *file, void *out, int len, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), out, len, at);
}

static int cut_write(sqlite3_file *file, const void *data, int len, sqlite3_int64 at)
{
    struct disk *disk = ((struct cut_file *)file)->disk;

    if (disk)
        remember(disk, data, (size_t)len, at);
    return real_of(file)->pMethods->xWrite(real_of(file), data, len, at);
}

static int cut_truncate(sqlite3_file *file, sqlite3_int64 len)
{
    struct disk *disk = ((struct cut_file *)file)->disk;

    if (disk)
        remember(disk, NULL, 0, len);
    return real_of(file)->pMethods->xTruncate(real_of(file), len);
}

static int cut_sync(sqlite3_file *file, int flags)
{
    struct disk *disk = ((struct cut_file *)file)->disk;

    (void)flags;
    if (!disk)
        return SQLITE_OK;
    pthread_mutex_lock(&disk_lock);
    for (struct change *change = disk->first; change; change = change->next)
        apply(disk, change, 0, change->len);
    forget_changes(disk);
    syncs++;
    checkpoints += disk == &disks[0];
    pthread_mutex_unlock(&disk_lock);
    return SQLITE_OK;
}

static int cut_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), ret_size);
}

static int cut_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int cut_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int cut_check_lock(sqlite3_file *file, int *ret_locked)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), ret_locked);
}

static int cut_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int cut_sector_size(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int cut_characteristics(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

/* Version 1: no shared memory, which an exclusively locked store does without. */
static const sqlite3_io_methods cut_methods = {
    .iVersion = 1,
    .xClose = cut_close,
    .xRead = cut_read,
    .xWrite = cut_write,
    .xTruncate = cut_truncate,
    .xSync = cut_sync,
    .xFileSize = cut_size,
    .xLock = cut_lock,
    .xUnlock = cut_unlock,
    .xCheckReservedLock = cut_check_lock,
    .xFileControl = cut_control,
    .xSectorSize = cut_sector_size,
    .xDeviceCharacteristics = cut_characteristics,
};

static int cut_open(sqlite3_vfs *vfs, sqlite3_filename path, sqlite3_file *file, int flags,
                    int *ret_flags)
{
    struct cut_file *cut = (struct cut_file *)file;
    int r;

    (void)vfs;
    memset(cut, 0, sizeof(*cut));
    cut->real = (sqlite3_file *)(cut + 1);
    if (path && watched && fl_str_has_prefix(path, watched)) {
        cut->disk = &disks[(flags & SQLITE_OPEN_WAL) != 0];
        (void)snprintf(cut->disk->path, sizeof(cut->disk->path), "%s", path);
    }
    r = real_vfs->xOpen(real_vfs, path, cut->real, flags, ret_flags);
    if (r == SQLITE_OK)
        cut->base.pMethods = &cut_methods;
    return r;
}

static void install_vfs(void)
{
    static sqlite3_vfs vfs;

    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.zName = "cut";
    vfs.szOsFile = (int)sizeof(struct cut_file) + real_vfs->szOsFile;
    vfs.xOpen = cut_open;
    vfs.pNext = NULL;
    for (size_t i = 0; i < FL_COUNT_OF(disks); i++)
        disks[i].last = &disks[i].first;
    assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
}

/* Some sectors of what was not synced reached the disk. */
static void cut_power(struct disk *disk, unsigned *seed, struct disk *ret_left)
{
    *ret_left = (struct disk){0};
    set_len(ret_left, disk->len);
    if (disk->len)
        memcpy(ret_left->data, disk->data, disk->len);
    for (const struct change *change = disk->first; change; change = change->next) {
        if (change->truncates && rand_r(seed) % 2)
            apply(ret_left, change, 0, 0);
        for (size_t at = 0; at < change->len; at += SECTOR)
            if (rand_r(seed) % 4)
                apply(ret_left, change, at, at + SECTOR < change->len ? at + SECTOR : change->len);
    }
}

static void write_left(const char *path, struct disk *left)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    if (left->len)
        assert_int_equal(write(fd, left->data, left->len), left->len);
    (void)close(fd);
    free(left->data);
}

struct load {
    struct fl_store *store;
    pthread_rwlock_t gate; /* held against the writers while the two are compared */
    atomic_bool stop;
    atomic_ullong acknowledged; /* the newest */
    atomic_uint next_id;
};

static void *write_on(void *user)
{
    struct load *load = user;
    unsigned seed = atomic_fetch_add(&load->next_id, 1);
    static _Thread_local char text[TEXT_MAX + 1];

    memset(text, 'a' + (int)(seed % 26), TEXT_MAX);
    while (!atomic_load(&load->stop)) {
        enum fl_store_op op = (enum fl_store_op)(rand_r(&seed) % 3);
        char name[16], *end = text + rand_r(&seed) % TEXT_MAX;
        unsigned long long newest = atomic_load(&load->acknowledged);
        int64_t r;

        (void)snprintf(name, sizeof(name), "k%d", rand_r(&seed) % KEYS);
        *end = '\0';
        pthread_rwlock_rdlock(&load->gate);
        r = put(load->store, op, PROJECTS, "ns", name, op == FL_STORE_DELETE ? NULL : text, 0);
        pthread_rwlock_unlock(&load->gate);
        *end = 'z';
        while (r > 0 && newest < (unsigned long long)r &&
               !atomic_compare_exchange_weak(&load->acknowledged, &newest, (unsigned long long)r))
            ;
    }
    return NULL;
}

static void assert_same(struct fl_store *live, struct fl_store *left)
{
    struct fl_list_query query = {.resource = PROJECTS};
    FL_CLEANUP(fl_list_finish) struct fl_list expected = {0}, found = {0};

    assert_int_equal(fl_store_list(left, &query, &found, NULL), 0);
    query.revision = found.revision;
    if (found.revision == 0)
        return;
    assert_int_equal(fl_store_list(live, &query, &expected, NULL), 0);
    assert_int_equal(found.count, expected.count);
    for (size_t i = 0; i < found.count; i++) {
        assert_int_equal(found.objects[i]->revision, expected.objects[i]->revision);
        assert_string_equal(found.objects[i]->json->data, expected.objects[i]->json->data);
    }
}

/* Every change since the compacted revision is there, without a gap. */
static void assert_history(struct fl_store *left)
{
    uint64_t at = fl_store_compacted_revision(left);
    struct fl_watch *watch = NULL;
    struct fl_event event;

    assert_int_equal(fl_store_watch(left, PROJECTS, NULL, at, &watch, NULL), 0);
    while (fl_watch_next(watch, &event, NULL) == 1)
        assert_int_equal(event.revision, ++at);
    assert_int_equal(at, fl_store_revision(left));
    fl_watch_close(watch);
}

static void check_cut(struct fixture *live, struct load *load, unsigned *seed)
{
    struct fixture left;
    struct disk image[2];
    unsigned long long acknowledged;
    char log[128];

    fixture_init(&left, "sqlite");
    (void)snprintf(log, sizeof(log), "%s-wal", left.path);
    acknowledged = atomic_load(&load->acknowledged);
    pthread_mutex_lock(&disk_lock);
    for (size_t i = 0; i < 2; i++)
        cut_power(&disks[i], seed, &image[i]);
    pthread_mutex_unlock(&disk_lock);
    /* At once, while the running store's history still reaches back so far. */
    pthread_rwlock_wrlock(&load->gate);
    write_left(left.path, &image[0]);
    write_left(log, &image[1]);
    fixture_open(&left);
    assert_true(fl_store_revision(left.store) >= acknowledged);
    assert_same(live->store, left.store);
    pthread_rwlock_unlock(&load->gate);
    assert_history(left.store);
    fixture_finish(&left);
}

static void test_power_cuts(void **state)
{
    const char *rounds_text = getenv("FLOPS_CRASH_ROUNDS"), *seed_text = getenv("FLOPS_CRASH_SEED");
    int rounds = rounds_text ? atoi(rounds_text) : 50;
    unsigned seed = seed_text ? (unsigned)strtoul(seed_text, NULL, 10) : (unsigned)time(NULL);
    /* Or the readers, the store's writers, would never let it through. */
    struct load load = {.gate = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP};
    pthread_t threads[WRITERS];
    struct fixture f;

    (void)state;
    print_message("FLOPS_CRASH_SEED=%u\n", seed);
    install_vfs();
    fixture_init(&f, "sqlite");
    f.options.max_history_events = 1000;
    watched = f.path;
    fixture_open(&f);
    load.store = f.store;
    atomic_store(&load.next_id, seed);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, &load), 0);
    for (int i = 0; i < rounds; i++) {
        (void)nanosleep(&(struct timespec){0, rand_r(&seed) % 60 * 1000000}, NULL);
        check_cut(&f, &load, &seed);
    }
    atomic_store(&load.stop, true);
    for (int i = 0; i < WRITERS; i++)
        (void)pthread_join(threads[i], NULL);
    print_message("%d cuts within %llu writes, %zu syncs, %zu of them checkpoints\n", rounds,
                  atomic_load(&load.acknowledged), syncs, checkpoints);
    assert_true(atomic_load(&load.acknowledged) > (unsigned long long)rounds);
    fixture_finish(&f);
    for (size_t i = 0; i < FL_COUNT_OF(disks); i++) {
        forget_changes(&disks[i]);
        free(disks[i].data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_cuts)};

    return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
