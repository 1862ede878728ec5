#include "controller/source/source_fake.h"

#include "controller/source/select.h"
#include "lib/map.h"
#include "lib/str.h"

#include <stdlib.h>

struct commit {
    const char *name, *signer;
    const struct fl_source_fake_file *files;
    size_t file_count;
};

struct remote {
    struct fl_arena *arena;
    struct fl_map *commits;
    struct commit *head;
    bool unreachable;
    int64_t delay_ms;
};

struct fetch {
    struct fl_arena *arena; /* of what follows */
    struct fl_source_request request;
    enum fl_fetch_state state;
    uint64_t ticket;
    int64_t due_ms, finished_ms;
    bool too_slow;
    struct fl_snapshot *snapshot;
    const char *attempted, *reason;
    struct fl_error failure;
};

struct fl_source_fake {
    struct fl_source base;
    const struct fl_env *env;
    fl_source_changed_fn *changed;
    void *user;
    struct fl_map *remotes, *fetches;
    struct fl_map *kept; /* by key: the last good snapshot, as on a disk */
    uint64_t tickets;
    size_t commits, begun;
};

static void remote_destroy(void *value)
{
    struct remote *remote = value;

    fl_map_destroy(remote->commits);
    fl_arena_destroy(remote->arena);
    free(remote);
}

static void fetch_destroy(void *value)
{
    struct fetch *fetch = value;

    fl_snapshot_unref(fetch->snapshot);
    fl_arena_destroy(fetch->arena);
    free(fetch);
}

struct kept {
    char *request;
    struct fl_snapshot *snapshot;
};

static void kept_destroy(void *value)
{
    struct kept *kept = value;

    fl_snapshot_unref(kept->snapshot);
    free(kept->request);
    free(kept);
}

/* The world */

static struct remote *get_remote(struct fl_source_fake *fake, const char *url)
{
    struct remote *remote = fl_map_get(fake->remotes, url);

    if (!remote) {
        remote = fl_calloc(1, sizeof(*remote));
        remote->arena = fl_arena_create();
        remote->commits = fl_map_create(NULL);
        fl_map_put(fake->remotes, url, remote);
    }
    return remote;
}

static int compare_files(const void *a, const void *b)
{
    const struct fl_source_fake_file *left = a, *right = b;

    return strcmp(left->path, right->path);
}

static void copy_files(struct remote *remote, const struct fl_source_fake_file *files,
                       struct commit *commit)
{
    struct fl_source_fake_file *copies;
    size_t count = 0;

    while (files && files[count].path)
        count++;
    copies = fl_new_array(remote->arena, struct fl_source_fake_file, count);
    for (size_t i = 0; i < count; i++)
        copies[i] = (struct fl_source_fake_file){fl_arena_strdup(remote->arena, files[i].path),
                                                 fl_arena_strdup(remote->arena, files[i].text)};
    if (count)
        qsort(copies, count, sizeof(*copies), compare_files);
    commit->files = copies;
    commit->file_count = count;
}

const char *fl_source_fake_commit(struct fl_source_fake *fake, const char *url, const char *commit,
                                  const struct fl_source_fake_file *files)
{
    struct remote *remote = get_remote(fake, url);
    struct commit *fresh = commit ? fl_map_get(remote->commits, commit) : NULL;

    if (!fresh) {
        fresh = fl_new(remote->arena, struct commit);
        fresh->name = commit ? fl_arena_strdup(remote->arena, commit)
                             : fl_arena_printf(remote->arena, "c%zu", ++fake->commits);
        copy_files(remote, files, fresh);
        fl_map_put(remote->commits, fresh->name, fresh);
    }
    remote->head = fresh;
    return fresh->name;
}

void fl_source_fake_sign(struct fl_source_fake *fake, const char *url, const char *signer)
{
    struct remote *remote = get_remote(fake, url);

    remote->head->signer = signer ? fl_arena_strdup(remote->arena, signer) : NULL;
}

void fl_source_fake_reach(struct fl_source_fake *fake, const char *url, bool reachable)
{
    get_remote(fake, url)->unreachable = !reachable;
}

void fl_source_fake_slow(struct fl_source_fake *fake, const char *url, int64_t delay_ms)
{
    get_remote(fake, url)->delay_ms = delay_ms;
}

/* What a fetch finds */

static struct commit *choose_commit(const struct remote *remote,
                                    const struct fl_source_request *request)
{
    return request->commit ? fl_map_get(remote->commits, request->commit) : remote->head;
}

static bool is_signed(const struct commit *commit, const struct fl_source_request *request)
{
    for (size_t i = 0; i < request->allowed_signer_count; i++)
        if (fl_streq(commit->signer, request->allowed_signers[i]))
            return true;
    return request->allowed_signer_count == 0;
}

/* The path below the request's folder, or NULL. */
static const char *path_within(const struct fl_source_request *request, const char *path)
{
    const char *folder = fl_str_or(request->path, ".");
    size_t len = strlen(folder);

    if (strcmp(folder, ".") == 0)
        return path;
    return strncmp(path, folder, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

static struct fl_snapshot *make_snapshot(const struct fl_source_request *request,
                                         const struct commit *commit)
{
    struct fl_snapshot *snapshot = fl_snapshot_create();

    snapshot->revision = fl_arena_printf(snapshot->arena, "main@%s", commit->name);
    if (request->allowed_signer_count)
        snapshot->signer = fl_arena_strdup(snapshot->arena, commit->signer);
    snapshot->files = fl_new_array(snapshot->arena, struct fl_source_file, commit->file_count);
    for (size_t i = 0; i < commit->file_count; i++) {
        const struct fl_source_fake_file *file = &commit->files[i];
        const char *within = path_within(request, file->path);

        if (!within || !fl_select_is_manifest(within) ||
            fl_select_is_excluded(within, request->exclude, request->exclude_count))
            continue;
        snapshot->files[snapshot->file_count++] = (struct fl_source_file){
            .path = fl_arena_strdup(snapshot->arena, file->path),
            .data = fl_arena_strdup(snapshot->arena, file->text),
            .len = strlen(file->text),
        };
    }
    return snapshot;
}

/* What a request is about, for the snapshot that is kept of it. */
static const char *subject_of(const struct fetch *fetch)
{
    const struct fl_source_request *request = &fetch->request;
    const char *text =
        fl_arena_printf(fetch->arena, "%s %s %s %s %s", request->url,
                        fl_str_or(request->branch, "-"), fl_str_or(request->tag, "-"),
                        fl_str_or(request->commit, "-"), fl_str_or(request->path, "."));

    for (size_t i = 0; i < request->exclude_count; i++)
        text = fl_arena_printf(fetch->arena, "%s -%s", text, request->exclude[i]);
    for (size_t i = 0; i < request->allowed_signer_count; i++)
        text = fl_arena_printf(fetch->arena, "%s +%s", text, request->allowed_signers[i]);
    return text;
}

static void keep(struct fl_source_fake *fake, const char *key, const struct fetch *fetch)
{
    struct kept *kept = fl_calloc(1, sizeof(*kept));

    kept->request = fl_strdup(subject_of(fetch));
    kept->snapshot = fl_snapshot_ref(fetch->snapshot);
    fl_map_put(fake->kept, key, kept);
}

static void take_kept(struct fl_source_fake *fake, const char *key, struct fetch *fetch)
{
    const struct kept *kept = fl_map_get(fake->kept, key);

    if (kept && strcmp(kept->request, subject_of(fetch)) == 0)
        fetch->snapshot = fl_snapshot_ref(kept->snapshot);
}

static void end_badly(struct fetch *fetch, const char *reason, int code, const char *text)
{
    fetch->state = FL_FETCH_FAILED;
    fetch->reason = reason;
    (void)fl_error_set(&fetch->failure, code, "%s: %s", fetch->request.url, text);
}

static void find_commit(struct fl_source_fake *fake, struct fetch *fetch)
{
    struct remote *remote = get_remote(fake, fetch->request.url);
    struct commit *commit = choose_commit(remote, &fetch->request);

    fetch->finished_ms = fl_monotonic_ms(fake->env);
    if (remote->unreachable || fetch->too_slow) {
        end_badly(fetch, "FetchFailed", FL_E_UNAVAILABLE, "cannot be reached");
        return;
    }
    if (!commit) {
        end_badly(fetch, "RevisionNotFound", FL_E_NOT_FOUND, "has no such commit");
        return;
    }
    fetch->attempted = fl_arena_printf(fetch->arena, "main@%s", commit->name);
    if (!is_signed(commit, &fetch->request)) {
        end_badly(fetch, "NotSigned", FL_E_FORBIDDEN, "is not signed by an allowed key");
        return;
    }
    fetch->snapshot = make_snapshot(&fetch->request, commit);
    fetch->state = FL_FETCH_DONE;
}

static void end_fetch(struct fl_source_fake *fake, const char *key, struct fetch *fetch)
{
    find_commit(fake, fetch);
    if (fetch->state == FL_FETCH_DONE)
        keep(fake, key, fetch);
    else
        take_kept(fake, key, fetch);
}

static bool is_due(const struct fl_source_fake *fake, const struct fetch *fetch)
{
    return fetch->state == FL_FETCH_RUNNING && fetch->due_ms <= fl_monotonic_ms(fake->env);
}

static struct fetch *find_due(struct fl_source_fake *fake, const char **ret_key)
{
    void *cursor = NULL, *value;

    while (fl_map_next(fake->fetches, &cursor, ret_key, &value))
        if (is_due(fake, value))
            return value;
    return NULL;
}

size_t fl_source_fake_step(struct fl_source_fake *fake)
{
    struct fetch *fetch;
    const char *key;
    size_t count = 0;

    while ((fetch = find_due(fake, &key))) {
        end_fetch(fake, key, fetch);
        if (fake->changed)
            fake->changed(fake->user, key);
        count++;
    }
    return count;
}

int64_t fl_source_fake_next_due_ms(const struct fl_source_fake *fake)
{
    int64_t next = INT64_MAX;
    const char *key;
    void *cursor = NULL, *value;

    while (fl_map_next(fake->fetches, &cursor, &key, &value)) {
        const struct fetch *fetch = value;

        if (fetch->state == FL_FETCH_RUNNING && fetch->due_ms < next)
            next = fetch->due_ms;
    }
    return next;
}

/* The driver */

static const char *const *copy_texts(struct fl_arena *arena, const char *const *texts, size_t count)
{
    const char **copies = fl_new_array(arena, const char *, count);

    for (size_t i = 0; i < count; i++)
        copies[i] = fl_arena_strdup(arena, texts[i]);
    return copies;
}

static const char *copy_text(struct fl_arena *arena, const char *text)
{
    return text ? fl_arena_strdup(arena, text) : NULL;
}

static struct fl_source_request copy_request(struct fl_arena *arena,
                                             const struct fl_source_request *from)
{
    struct fl_source_request request = *from;

    request.url = copy_text(arena, from->url);
    request.branch = copy_text(arena, from->branch);
    request.tag = copy_text(arena, from->tag);
    request.commit = copy_text(arena, from->commit);
    request.path = copy_text(arena, from->path);
    request.username = copy_text(arena, from->username);
    request.password = copy_text(arena, from->password);
    request.identity = request.known_hosts = request.ca_pem = NULL;
    request.exclude = copy_texts(arena, from->exclude, from->exclude_count);
    request.allowed_signers = copy_texts(arena, from->allowed_signers, from->allowed_signer_count);
    return request;
}

static void begin(struct fl_source_fake *fake, const char *key,
                  const struct fl_source_request *request)
{
    struct fetch *fetch = fl_calloc(1, sizeof(*fetch));
    int64_t delay_ms = get_remote(fake, request->url)->delay_ms;

    fetch->arena = fl_arena_create();
    fetch->request = copy_request(fetch->arena, request);
    fetch->state = FL_FETCH_RUNNING;
    fetch->ticket = ++fake->tickets;
    fetch->too_slow = request->timeout_ms > 0 && delay_ms > request->timeout_ms;
    fetch->due_ms = fl_monotonic_ms(fake->env) + (fetch->too_slow ? request->timeout_ms : delay_ms);
    fake->begun++;
    fl_map_put(fake->fetches, key, fetch);
}

static int fake_fetch(struct fl_source *self, const char *key,
                      const struct fl_source_request *request, uint64_t *ret_ticket,
                      struct fl_error *err)
{
    struct fl_source_fake *fake = (struct fl_source_fake *)self;
    const struct fetch *fetch = fl_map_get(fake->fetches, key);

    if (!*request->url)
        return fl_error_set(err, FL_E_INVALID, "a source needs a URL");
    if (!fetch || fetch->state != FL_FETCH_RUNNING)
        begin(fake, key, request);
    *ret_ticket = ((const struct fetch *)fl_map_get(fake->fetches, key))->ticket;
    return 0;
}

static int fake_observe(struct fl_source *self, const char *key, struct fl_arena *arena,
                        struct fl_fetch_result *ret_result, struct fl_error *err)
{
    struct fl_source_fake *fake = (struct fl_source_fake *)self;
    struct fetch *fetch = fl_map_get(fake->fetches, key);

    (void)err;
    *ret_result = (struct fl_fetch_result){0};
    if (!fetch)
        return 0;
    if (is_due(fake, fetch))
        end_fetch(fake, key, fetch); /* whoever looks sees it, told or not */
    *ret_result = (struct fl_fetch_result){
        .state = fetch->state,
        .ticket = fetch->ticket,
        .snapshot = fl_snapshot_ref(fetch->snapshot),
        .attempted = copy_text(arena, fetch->attempted),
        .reason = fetch->reason,
        .err = fetch->failure,
        .finished_ms = fetch->finished_ms,
    };
    return 0;
}

static int fake_forget(struct fl_source *self, const char *key, struct fl_error *err)
{
    (void)err;
    (void)fl_map_remove(((struct fl_source_fake *)self)->fetches, key);
    (void)fl_map_remove(((struct fl_source_fake *)self)->kept, key);
    return 0;
}

static void fake_destroy(struct fl_source *self)
{
    (void)self;
}

static const struct fl_source_ops ops = {
    .name = "fake",
    .destroy = fake_destroy,
    .fetch = fake_fetch,
    .observe = fake_observe,
    .forget = fake_forget,
};

struct fl_source_fake *fl_source_fake_create(const struct fl_env *env)
{
    struct fl_source_fake *fake = fl_calloc(1, sizeof(*fake));

    fake->base.ops = &ops;
    fake->env = env;
    fake->remotes = fl_map_create(remote_destroy);
    fake->fetches = fl_map_create(fetch_destroy);
    fake->kept = fl_map_create(kept_destroy);
    return fake;
}

void fl_source_fake_destroy(struct fl_source_fake *fake)
{
    if (!fake)
        return;
    fl_map_destroy(fake->fetches);
    fl_map_destroy(fake->kept);
    fl_map_destroy(fake->remotes);
    free(fake);
}

struct fl_source *fl_source_fake_source(struct fl_source_fake *fake)
{
    return &fake->base;
}

void fl_source_fake_on_change(struct fl_source_fake *fake, fl_source_changed_fn *changed,
                              void *user)
{
    fake->changed = changed;
    fake->user = user;
}

/* Who watches has a new result at once, under a ticket of its own. */
void fl_source_fake_announce(struct fl_source_fake *fake, const char *url)
{
    const char *key;
    void *cursor = NULL, *value;

    while (fl_map_next(fake->fetches, &cursor, &key, &value)) {
        struct fetch *fetch = value;

        if (fetch->state == FL_FETCH_RUNNING || !fl_streq(fetch->request.url, url))
            continue;
        fl_snapshot_unref(FL_TAKE(fetch->snapshot));
        fetch->attempted = fetch->reason = NULL;
        fetch->failure = (struct fl_error){0};
        fetch->ticket = ++fake->tickets;
        end_fetch(fake, key, fetch);
        if (fake->changed)
            fake->changed(fake->user, key);
    }
}

void fl_source_fake_crash(struct fl_source_fake *fake)
{
    fl_map_destroy(fake->fetches);
    fake->fetches = fl_map_create(fetch_destroy);
}

size_t fl_source_fake_fetches(const struct fl_source_fake *fake)
{
    return fake->begun;
}

bool fl_source_fake_knows(const struct fl_source_fake *fake, const char *key)
{
    return fl_map_get(fake->fetches, key) != NULL;
}

const char *fl_source_fake_asked(const struct fl_source_fake *fake, const char *key)
{
    struct fetch *fetch = fl_map_get(fake->fetches, key);
    const struct fl_source_request *request = fetch ? &fetch->request : NULL;

    if (!request)
        return NULL;
    return fl_arena_printf(
        fetch->arena, "%s %s %s %s %s", request->url,
        fl_str_or(request->branch, fl_str_or(request->tag, fl_str_or(request->commit, "HEAD"))),
        fl_str_or(request->path, "."), fl_str_or(request->username, "-"),
        fl_str_or(request->password, "-"));
}
