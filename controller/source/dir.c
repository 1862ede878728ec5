#include "controller/source/dir.h"

#include "controller/source/dir_scan.h"
#include "controller/source/select.h"
#include "lib/loop.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#define SCHEME "dir://"

/* One key: what was asked for, and what is known. Its lock is the source's. */
struct folder {
    struct dir *dir;
    int refs; /* the map's and those of calls posted to the loop; under the lock */
    bool gone;
    char *key;
    struct fl_arena *arena; /* of the request's texts */
    const char *root;       /* with the folder within it */
    const char *prefix;     /* "FOLDER/", as files are named */
    const char *const *exclude;
    size_t exclude_count;
    /* the newest result */
    enum fl_fetch_state state;
    uint64_t ticket;
    struct fl_snapshot *snapshot;
    struct fl_error failure;
    int64_t finished_ms;
    /* the loop's alone */
    struct fl_dir_watch watch;
    struct fl_loop_fd *heard;
    struct fl_timer *settle, *patience;
    int64_t changed_ms;     /* when the first change came that was not read yet; 0: none */
    struct fl_map *writers; /* "WATCH/NAME" of a file being written → when it was written to last */
};

struct dir {
    struct fl_source base;
    const struct fl_env *env;
    const char *const *directories;
    size_t directory_count;
    fl_source_changed_fn *changed;
    void *user;
    struct fl_lock *lock;
    struct fl_map *folders; /* by key */
    uint64_t tickets;
    struct fl_loop *loop;
    struct fl_thread *thread;
};

/* A folder's life. It is made and asked for on any thread; it is watched and ends on the loop. */

static struct folder *folder_create(struct dir *dir, const char *key)
{
    struct folder *folder = fl_calloc(1, sizeof(*folder));

    folder->dir = dir;
    folder->refs = 1;
    folder->key = fl_strdup(key);
    folder->watch.fd = -1;
    folder->writers = fl_map_create(free);
    return folder;
}

static void folder_destroy(struct folder *folder)
{
    fl_loop_unwatch_fd(folder->heard);
    fl_timer_destroy(folder->settle);
    fl_timer_destroy(folder->patience);
    fl_dir_watch_close(&folder->watch);
    fl_map_destroy(folder->writers);
    fl_snapshot_unref(folder->snapshot);
    fl_arena_destroy(folder->arena);
    free(folder->key);
    free(folder);
}

/* On the loop, or when that has ended. */
static void folder_unref(struct folder *folder)
{
    int left;

    {
        FL_LOCKED(folder->dir->lock);
        left = --folder->refs;
    }
    if (left == 0)
        folder_destroy(folder);
}

static void unref_on_loop(void *user)
{
    folder_unref(user);
}

/* What is read */

static bool is_left_out(const struct folder *folder, const char *path, struct fl_arena *arena)
{
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/'))
        if (fl_select_is_excluded(fl_arena_strndup(arena, path, (size_t)(slash - path)),
                                  folder->exclude, folder->exclude_count))
            return true;
    return fl_select_is_excluded(path, folder->exclude, folder->exclude_count);
}

static bool is_unfinished(const struct folder *folder, const char *key, int64_t now_ms)
{
    const int64_t *written_ms = fl_map_get(folder->writers, key);

    return written_ms && now_ms - *written_ms < FL_DIR_WRITER_MS;
}

/* Faults belong to the content: one that is mended is news. */
static const char *digest(const struct fl_snapshot *snapshot)
{
    crypto_hash_sha256_state state;
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof(hash) + 1];

    (void)crypto_hash_sha256_init(&state);
    for (size_t i = 0; i < snapshot->file_count; i++) {
        const struct fl_source_file *file = &snapshot->files[i];
        char size[40];
        int len = snprintf(size, sizeof(size), "\n%c%zu\n", file->fault ? '!' : ':', file->len);

        (void)crypto_hash_sha256_update(&state, (const unsigned char *)file->path,
                                        strlen(file->path));
        (void)crypto_hash_sha256_update(&state, (const unsigned char *)size, (size_t)len);
        (void)crypto_hash_sha256_update(&state, file->data, file->len);
    }
    (void)crypto_hash_sha256_final(&state, hash);
    fl_hex_encode(hash, sizeof(hash), hex);
    return fl_arena_printf(snapshot->arena, "sha256:%s", hex);
}

/* Leaves out what is excluded, and says what is unfinished. Under the lock. */
static void choose_files(const struct folder *folder, struct fl_snapshot *snapshot,
                         const char *const *keys)
{
    int64_t now_ms = fl_monotonic_ms(folder->dir->env);
    size_t count = 0;

    for (size_t i = 0; i < snapshot->file_count; i++) {
        struct fl_source_file file = snapshot->files[i];

        if (is_left_out(folder, file.path, snapshot->arena))
            continue;
        file.unfinished = is_unfinished(folder, keys[i], now_ms);
        file.path = fl_arena_printf(snapshot->arena, "%s%s", folder->prefix, file.path);
        snapshot->files[count++] = file;
    }
    snapshot->file_count = count;
}

static bool is_same(const struct fl_snapshot *a, const struct fl_snapshot *b)
{
    if (!a || !b || strcmp(a->revision, b->revision) != 0 || a->file_count != b->file_count ||
        !a->hold != !b->hold)
        return false;
    for (size_t i = 0; i < a->file_count; i++)
        if (a->files[i].unfinished != b->files[i].unfinished)
            return false;
    return true;
}

/* Publishing */

/* Under the lock; whether somebody is to be told. Takes the snapshot. */
static bool take_result(struct folder *folder, struct fl_snapshot *snapshot,
                        const struct fl_error *failure)
{
    bool asked = folder->state == FL_FETCH_RUNNING;
    bool same = snapshot ? is_same(snapshot, folder->snapshot)
                         : folder->state == FL_FETCH_FAILED &&
                               strcmp(failure->msg, folder->failure.msg) == 0;

    if (!asked && same) {
        fl_snapshot_unref(snapshot);
        return false;
    }
    if (!asked)
        folder->ticket = ++folder->dir->tickets;
    fl_snapshot_unref(folder->snapshot);
    folder->snapshot = snapshot;
    folder->state = snapshot ? FL_FETCH_DONE : FL_FETCH_FAILED;
    folder->failure = *failure;
    folder->finished_ms = fl_monotonic_ms(folder->dir->env);
    return !folder->gone;
}

/* `ticket` is what was current when the reading began: what was asked for since then is answered by
 * the reading that follows. */
static void publish(struct folder *folder, uint64_t ticket, struct fl_snapshot *snapshot,
                    const struct fl_error *failure)
{
    struct dir *dir = folder->dir;
    bool told = false;

    if (snapshot)
        snapshot->revision = digest(snapshot);
    {
        FL_LOCKED(dir->lock);
        if (folder->ticket == ticket)
            told = take_result(folder, FL_TAKE(snapshot), failure);
    }
    fl_snapshot_unref(snapshot);
    if (told && dir->changed)
        dir->changed(dir->user, folder->key);
}

/* What is heard */

static void note_writer(struct folder *folder, const char *key)
{
    int64_t *when = fl_malloc(sizeof(*when));

    *when = fl_monotonic_ms(folder->dir->env);
    fl_map_put(folder->writers, key, when);
}

static bool is_dotted(const char *name)
{
    return name[0] == '.' && name[1] != '.'; /* "..data" is how a ConfigMap is swapped */
}

/* Whether it is worth a reading. */
static bool hear(struct folder *folder, const struct inotify_event *event)
{
    const char *name = event->len ? event->name : "";
    char key[NAME_MAX + 16];

    if (event->mask & IN_Q_OVERFLOW) {
        fl_map_destroy(folder->writers); /* who closed what is not known any more */
        folder->writers = fl_map_create(free);
        return true;
    }
    (void)snprintf(key, sizeof(key), "%d/%s", event->wd, name);
    if (event->mask & IN_MODIFY)
        note_writer(folder, key);
    if (event->mask & (IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM))
        (void)fl_map_remove(folder->writers, key);
    return !(event->mask & IN_IGNORED) && !is_dotted(name);
}

static bool hear_all(struct folder *folder)
{
    _Alignas(struct inotify_event) char buf[16384];
    bool news = false;
    ssize_t len;

    while ((len = read(folder->watch.fd, buf, sizeof(buf))) > 0)
        for (char *at = buf; at < buf + len;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)at;

            news = hear(folder, event) || news;
            at += sizeof(*event) + event->len;
        }
    return news;
}

/* Not before there was quiet, and not later than the patience lasts. */
static void settle_later(struct folder *folder)
{
    int64_t now = fl_monotonic_ms(folder->dir->env), left;

    if (folder->changed_ms == 0)
        folder->changed_ms = now;
    left = folder->changed_ms + FL_DIR_SETTLE_MAX_MS - now;
    fl_timer_arm(folder->settle, left < 0 ? 0 : left < FL_DIR_QUIET_MS ? left : FL_DIR_QUIET_MS);
}

static void on_heard(void *user, unsigned what)
{
    (void)what;
    if (hear_all(user))
        settle_later(user);
}

/* A writer that never closes must not hold things up for ever: looked at when its time is over. */
static void await_writers(struct folder *folder)
{
    int64_t now = fl_monotonic_ms(folder->dir->env), latest = -1;
    const char *key;
    void *cursor = NULL, *value;

    while (fl_map_next(folder->writers, &cursor, &key, &value)) {
        int64_t end = *(int64_t *)value + FL_DIR_WRITER_MS;

        if (end <= now)
            (void)fl_map_remove(folder->writers, key);
        else if (end > latest)
            latest = end;
    }
    if (latest > 0)
        fl_timer_arm(folder->patience, latest - now);
}

/* Somebody wrote while we read: what was read may be half of it, or the beginning of nothing. Read
 * again when it is quiet, as long as there is patience. */
static bool is_stale(struct folder *folder)
{
    bool news = hear_all(folder);
    int64_t now = fl_monotonic_ms(folder->dir->env);

    if (!news)
        return false;
    settle_later(folder);
    return now - folder->changed_ms < FL_DIR_SETTLE_MAX_MS;
}

static int listen(struct folder *folder, struct fl_error *err)
{
    int r;

    if (folder->watch.fd >= 0)
        return 0;
    r = fl_dir_watch_open(&folder->watch, err);
    if (r < 0)
        return r;
    r = fl_loop_watch_fd(folder->dir->loop, folder->watch.fd, FL_LOOP_READ, on_heard, folder,
                         &folder->heard, err);
    if (r < 0)
        fl_dir_watch_close(&folder->watch);
    return r;
}

/* Both with their links resolved, so that no link leads to where it may not. */
static bool is_within(const char *path, const char *directory)
{
    char resolved[PATH_MAX];
    size_t len;

    if (!realpath(directory, resolved))
        return false;
    len = strcmp(resolved, "/") == 0 ? 0 : strlen(resolved);
    return strncmp(path, resolved, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool is_allowed(const struct dir *dir, const char *path)
{
    for (size_t i = 0; i < dir->directory_count; i++)
        if (is_within(path, dir->directories[i]))
            return true;
    return false;
}

/* Which folder is asked for now, where its links lead now. */
static int resolve_root(struct folder *folder, struct fl_arena *arena, uint64_t *ret_ticket,
                        const char **ret_root, struct fl_error *err)
{
    struct dir *dir = folder->dir;
    char resolved[PATH_MAX];
    const char *root;

    {
        FL_LOCKED(dir->lock);
        *ret_ticket = folder->ticket;
        root = fl_arena_strdup(arena, folder->root);
    }
    if (!realpath(root, resolved))
        return fl_error_errno(err, errno, "%.500s", root);
    if (!is_allowed(dir, resolved))
        return fl_error_set(err, FL_E_FORBIDDEN,
                            "%.500s is not within a folder that the control plane was started with "
                            "(--manifests); what was applied stays until the GitSync is deleted",
                            root);
    *ret_root = fl_arena_strdup(arena, resolved);
    return 0;
}

/* > 0: what was read is stale, and is read again soon. */
static int read_files(struct folder *folder, const char *root, struct fl_snapshot **ret_snapshot,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_snapshot_unrefp) struct fl_snapshot *snapshot = NULL;
    const char *const *keys = NULL;
    int r = listen(folder, err);

    if (r == 0)
        r = fl_dir_scan(root, &folder->watch, &snapshot, &keys, err);
    if (r < 0)
        return r;
    assert(snapshot);
    if (is_stale(folder))
        return 1;
    {
        FL_LOCKED(folder->dir->lock);
        choose_files(folder, snapshot, keys);
    }
    *ret_snapshot = FL_TAKE(snapshot);
    return 0;
}

static void read_folder(struct folder *folder)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_snapshot *snapshot = NULL;
    struct fl_error err = {0};
    const char *root = NULL;
    uint64_t ticket;
    int r = resolve_root(folder, arena, &ticket, &root, &err);

    if (r == 0)
        r = read_files(folder, root, &snapshot, &err);
    if (r > 0)
        return;
    folder->changed_ms = 0;
    publish(folder, ticket, snapshot, &err);
    await_writers(folder);
}

static void on_settled(void *user)
{
    read_folder(user);
}

static void read_on_loop(void *user)
{
    struct folder *folder = user;

    if (!folder->settle) {
        folder->settle = fl_timer_create(folder->dir->loop, on_settled, folder);
        folder->patience = fl_timer_create(folder->dir->loop, on_settled, folder);
    }
    if (!__atomic_load_n(&folder->gone, __ATOMIC_RELAXED)) {
        folder->changed_ms = 0;
        read_folder(folder);
    }
    folder_unref(folder);
}

/* Asking */

/* The folder that is meant, as a path of this machine. */
static int parse_request(const struct fl_source_request *request, struct fl_arena *arena,
                         const char **ret_root, struct fl_error *err)
{
    const char *path = fl_str_or(request->path, "."), *rest = path, *step, *root;

    if (!fl_str_has_prefix(request->url, SCHEME "/"))
        return fl_error_set(err, FL_E_INVALID, "%.200s is not of the form dir:///FOLDER",
                            request->url);
    root = fl_url_decode(arena, request->url + strlen(SCHEME),
                         strlen(request->url) - strlen(SCHEME), false);
    if (!root)
        return fl_error_set(err, FL_E_INVALID, "%.200s is not well escaped", request->url);
    while ((step = fl_str_next(arena, &rest, '/')))
        if (strcmp(step, "..") == 0)
            return fl_error_set(err, FL_E_INVALID, "path %.200s leaves the folder", path);
    *ret_root = fl_arena_printf(arena, "%s/%s", root, path);
    return 0;
}

/* Under the lock. Takes the arena, which has the root. */
static void set_request(struct folder *folder, const struct fl_source_request *request,
                        const char *root, struct fl_arena *arena)
{
    const char **exclude = fl_new_array(arena, const char *, request->exclude_count);

    for (size_t i = 0; i < request->exclude_count; i++)
        exclude[i] = fl_arena_strdup(arena, request->exclude[i]);
    fl_arena_destroy(folder->arena);
    folder->arena = arena;
    folder->root = root;
    folder->prefix = fl_streq(fl_str_or(request->path, "."), ".")
                         ? ""
                         : fl_arena_printf(arena, "%s/", request->path);
    folder->exclude = exclude;
    folder->exclude_count = request->exclude_count;
}

/* Under the lock. */
static int find_folder(struct dir *dir, const char *key, struct folder **ret_folder,
                       struct fl_error *err)
{
    struct folder *folder = fl_map_get(dir->folders, key);

    if (!folder && fl_map_count(dir->folders) == FL_DIR_KEYS_MAX)
        return fl_error_set(err, FL_E_UNAVAILABLE, "more than %d folders are watched",
                            FL_DIR_KEYS_MAX);
    if (!folder) {
        folder = folder_create(dir, key);
        fl_map_put(dir->folders, key, folder);
    }
    *ret_folder = folder;
    return 0;
}

/* Under the lock. A reading that is under way stays the one; else the caller has one to begin, and
 * holds a reference for it. */
static bool begin(struct folder *folder, const struct fl_source_request *request, const char *root,
                  struct fl_arena **arena)
{
    if (folder->state == FL_FETCH_RUNNING)
        return false;
    set_request(folder, request, root, FL_TAKE(*arena));
    folder->ticket = ++folder->dir->tickets;
    folder->state = FL_FETCH_RUNNING;
    folder->refs++;
    return true;
}

static int dir_fetch(struct fl_source *self, const char *key,
                     const struct fl_source_request *request, uint64_t *ret_ticket,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct dir *dir = (struct dir *)self;
    struct folder *folder = NULL;
    const char *root;
    bool begun;
    int r = parse_request(request, arena, &root, err);

    if (r < 0)
        return r;
    {
        FL_LOCKED(dir->lock);
        r = find_folder(dir, key, &folder, err);
        if (r < 0)
            return r;
        begun = begin(folder, request, root, &arena);
        *ret_ticket = folder->ticket;
    }
    if (begun)
        fl_loop_post(dir->loop, read_on_loop, folder);
    return 0;
}

static int dir_observe(struct fl_source *self, const char *key, struct fl_arena *arena,
                       struct fl_fetch_result *ret_result, struct fl_error *err)
{
    struct dir *dir = (struct dir *)self;
    FL_LOCKED(dir->lock);
    const struct folder *folder = fl_map_get(dir->folders, key);

    (void)err;
    *ret_result = (struct fl_fetch_result){0};
    if (!folder)
        return 0;
    ret_result->state = folder->state;
    ret_result->ticket = folder->ticket;
    if (folder->state == FL_FETCH_RUNNING)
        return 0;
    ret_result->finished_ms = folder->finished_ms;
    ret_result->snapshot = fl_snapshot_ref(folder->snapshot);
    if (folder->snapshot)
        ret_result->attempted = fl_arena_strdup(arena, folder->snapshot->revision);
    if (folder->state == FL_FETCH_FAILED) {
        ret_result->reason = "FetchFailed";
        ret_result->err = folder->failure;
    }
    return 0;
}

/* Ends it on the loop, behind whatever was posted for it. */
static int dir_forget(struct fl_source *self, const char *key, struct fl_error *err)
{
    struct dir *dir = (struct dir *)self;
    struct folder *folder;

    (void)err;
    {
        FL_LOCKED(dir->lock);
        folder = fl_map_take(dir->folders, key);
        if (folder)
            __atomic_store_n(&folder->gone, true, __ATOMIC_RELAXED);
    }
    if (folder)
        fl_loop_post(dir->loop, unref_on_loop, folder);
    return 0;
}

/* The source */

static void run_loop(void *user)
{
    fl_loop_run(((struct dir *)user)->loop);
}

static void forget_all(struct dir *dir)
{
    const char *key;
    void *cursor = NULL, *value;

    while (fl_map_next(dir->folders, &cursor, &key, &value)) {
        __atomic_store_n(&((struct folder *)value)->gone, true, __ATOMIC_RELAXED);
        fl_loop_post(dir->loop, unref_on_loop, value);
    }
}

/* The loop runs what was posted before it ends; what was posted last ends the folders. */
static void dir_destroy(struct fl_source *self)
{
    struct dir *dir = (struct dir *)self;

    if (dir->thread) {
        fl_loop_stop(dir->loop);
        fl_thread_join(dir->thread);
    }
    if (dir->loop) {
        forget_all(dir);
        fl_loop_run_for(dir->loop, 1);
        fl_loop_destroy(dir->loop);
    }
    fl_map_destroy(dir->folders);
    fl_lock_destroy(dir->lock);
    free(dir);
}

static const struct fl_source_ops ops = {
    .name = "dir",
    .destroy = dir_destroy,
    .fetch = dir_fetch,
    .observe = dir_observe,
    .forget = dir_forget,
};

int fl_source_dir_create(const struct fl_source_options *options, struct fl_source **ret_source,
                         struct fl_error *err)
{
    struct dir *dir = fl_calloc(1, sizeof(*dir));
    int r;

    dir->base.ops = &ops;
    dir->env = options->env;
    dir->directories = options->directories;
    dir->directory_count = options->directory_count;
    dir->changed = options->changed;
    dir->user = options->user;
    dir->lock = fl_lock_create();
    dir->folders = fl_map_create(NULL);
    r = fl_loop_create(&dir->loop, err);
    if (r == 0)
        r = fl_thread_start("flops-dir", run_loop, dir, &dir->thread, err);
    if (r < 0) {
        dir_destroy(&dir->base);
        return r;
    }
    *ret_source = &dir->base;
    return 0;
}
