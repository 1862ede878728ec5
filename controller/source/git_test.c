#include "controller/source/git_internal.h"

#include "controller/source/checkout.h"
#include "lib/file.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG_MS 120000

/* A folder with a data directory `data`, a work tree `src` and a bare repository `remote.git`, all
 * made by the real git with a configuration that would do harm if it were read. */
struct rig {
    char dir[64];
    struct fl_env env;
    struct fl_source *source;
    struct fl_arena *arena;
    struct fl_lock *lock;
    struct fl_signal *news;
    unsigned changed;
    char url[128];
};

static void shell(struct rig *rig, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void shell(struct rig *rig, const char *fmt, ...)
{
    static const char *const set = "export HOME=$PWD/home GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a "
                                   "GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=c "
                                   "GIT_COMMITTER_EMAIL=c@d; set -e; ";
    char *script, *command;
    va_list ap;

    va_start(ap, fmt);
    assert_true(vasprintf(&script, fmt, ap) > 0);
    va_end(ap);
    command = fl_asprintf("cd %s; %s %s", rig->dir, set, script);
    if (system(command) != 0)
        fail_msg("failed: %s", script);
    free(command);
    free(script);
}

static const char *output(struct rig *rig, const char *command)
{
    struct fl_bytes *text = NULL;
    char *copy;

    shell(rig, "%s > out.txt", command);
    assert_int_equal(
        fl_file_read(fl_arena_printf(rig->arena, "%s/out.txt", rig->dir), 1 << 20, &text, NULL), 0);
    copy = fl_arena_strndup(rig->arena, text->data, strcspn(text->data, "\n"));
    fl_bytes_unref(text);
    return copy;
}

static void on_changed(void *user, const char *key)
{
    struct rig *rig = user;

    (void)key;
    FL_LOCKED(rig->lock);
    rig->changed++;
    fl_signal_all(rig->news);
}

static void open_source(struct rig *rig)
{
    const char *data = fl_arena_printf(rig->arena, "%s/data", rig->dir);
    const struct fl_source_options options = {
        .env = &rig->env, .data_dir = data, .changed = on_changed, .user = rig};

    assert_int_equal(fl_source_git_create(&options, &rig->source, NULL), 0);
}

static void close_source(struct rig *rig)
{
    rig->source->ops->destroy(rig->source);
    rig->source = NULL;
}

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    (void)snprintf(rig->dir, sizeof(rig->dir), "/tmp/git_test.XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    rig->env = fl_env_real(NULL);
    rig->arena = fl_arena_create();
    rig->lock = fl_lock_create();
    rig->news = fl_signal_create();
    (void)snprintf(rig->url, sizeof(rig->url), "file://%s/remote.git", rig->dir);
    open_source(rig);
    shell(rig, "mkdir home; git init -q --bare -b main remote.git; git init -q -b main src; cd src;"
               "git remote add origin ../remote.git; mkdir -p apps/x docs;"
               "echo 'kind: A' > apps/a.yaml; echo 'kind: B' > apps/x/b.yml; echo {} > c.json;"
               "echo no > docs/readme.md; git add .; git commit -qm one; git push -q origin main");
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    if (rig->source)
        close_source(rig);
    fl_signal_destroy(rig->news);
    fl_lock_destroy(rig->lock);
    assert_int_equal(fl_dir_remove(rig->dir, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

static struct fl_source_request request_of(struct rig *rig)
{
    return (struct fl_source_request){.url = rig->url, .timeout_ms = LONG_MS};
}

static struct fl_fetch_result observe(struct rig *rig, const char *key)
{
    struct fl_fetch_result result;

    assert_int_equal(rig->source->ops->observe(rig->source, key, rig->arena, &result, NULL), 0);
    return result;
}

/* Waits for the news, and looks. */
static struct fl_fetch_result result_of(struct rig *rig, const char *key)
{
    for (;;) {
        unsigned before;
        struct fl_fetch_result result;

        fl_lock_take(rig->lock);
        before = rig->changed;
        fl_lock_release(rig->lock);
        result = observe(rig, key);
        if (result.state != FL_FETCH_RUNNING)
            return result;
        fl_fetch_result_finish(&result);
        fl_lock_take(rig->lock);
        while (rig->changed == before)
            assert_true(fl_signal_wait(rig->news, rig->lock, LONG_MS));
        fl_lock_release(rig->lock);
    }
}

static struct fl_fetch_result fetch(struct rig *rig, const struct fl_source_request *request)
{
    uint64_t ticket = 0;
    struct fl_fetch_result result;

    assert_int_equal(rig->source->ops->fetch(rig->source, "key", request, &ticket, NULL), 0);
    result = result_of(rig, "key");
    assert_int_equal(result.ticket, ticket);
    return result;
}

static void fetch_expect(struct rig *rig, const struct fl_source_request *request,
                         const char *revision, size_t files)
{
    struct fl_fetch_result result = fetch(rig, request);

    if (result.state != FL_FETCH_DONE)
        fail_msg("%s: %s", result.reason, result.err.msg);
    assert_string_equal(result.snapshot->revision, revision);
    assert_string_equal(result.attempted, revision);
    assert_int_equal(result.snapshot->file_count, files);
    fl_fetch_result_finish(&result);
}

static void fetch_refuse(struct rig *rig, const struct fl_source_request *request,
                         const char *reason, int code, const char *text)
{
    struct fl_fetch_result result = fetch(rig, request);

    assert_int_equal(result.state, FL_FETCH_FAILED);
    if (!strstr(result.err.msg, text))
        fail_msg("\"%s\" is not in \"%s\"", text, result.err.msg);
    assert_string_equal(result.reason, reason);
    assert_int_equal(result.err.code, code);
    fl_fetch_result_finish(&result);
}

static const char *main_revision(struct rig *rig)
{
    return fl_arena_printf(rig->arena, "main@sha1:%s",
                           output(rig, "git -C remote.git rev-parse main"));
}

static void files_are_those_of_the_commit(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    struct fl_fetch_result result = fetch(rig, &request);

    assert_int_equal(result.state, FL_FETCH_DONE);
    assert_string_equal(result.snapshot->revision, main_revision(rig));
    assert_null(result.snapshot->signer);
    assert_int_equal(result.snapshot->file_count, 3);
    assert_string_equal(result.snapshot->files[0].path, "apps/a.yaml");
    assert_string_equal(result.snapshot->files[1].path, "apps/x/b.yml");
    assert_string_equal(result.snapshot->files[2].path, "c.json");
    assert_memory_equal(result.snapshot->files[0].data, "kind: A\n", 8);
    assert_int_equal(result.snapshot->files[2].len, 3);
    fl_fetch_result_finish(&result);
}

static void references_are_followed(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    const char *first = output(rig, "git -C src rev-parse HEAD"), *second;

    shell(rig, "cd src; git tag light; git tag -a -m x heavy; git tag -a -m y twice heavy;"
               "echo 'kind: C' > new.yaml; git add .; git commit -qm two; git branch other;"
               "git push -q origin main other light heavy twice");
    second = output(rig, "git -C src rev-parse HEAD");
    request.branch = "other";
    fetch_expect(rig, &request, fl_arena_printf(rig->arena, "other@sha1:%s", second), 4);
    request.branch = NULL;
    for (size_t i = 0; i < 3; i++) {
        static const char *const tags[] = {"light", "heavy", "twice"};

        request.tag = tags[i];
        fetch_expect(rig, &request, fl_arena_printf(rig->arena, "%s@sha1:%s", tags[i], first), 3);
    }
    request.tag = NULL;
    request.commit = first;
    fetch_expect(rig, &request, fl_arena_printf(rig->arena, "sha1:%s", first), 3);
    request.commit = second;
    fetch_expect(rig, &request, fl_arena_printf(rig->arena, "sha1:%s", second), 4);
}

static void a_new_commit_and_a_force_push_are_seen(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);

    request.branch = "main";
    fetch_expect(rig, &request, main_revision(rig), 3);
    shell(rig, "cd src; rm c.json; git commit -qam two; git push -q origin main");
    fetch_expect(rig, &request, main_revision(rig), 2);
    shell(rig,
          "cd src; git checkout -q --orphan fresh; git rm -rfq --cached .; git add apps/a.yaml;"
          "git commit -qm other; git push -qf origin fresh:main");
    fetch_expect(rig, &request, main_revision(rig), 1);
}

static void what_is_missing_is_told(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);

    request.branch = "nope";
    fetch_refuse(rig, &request, "RevisionNotFound", FL_E_NOT_FOUND, "has no branch nope");
    request.branch = NULL;
    request.tag = "nope";
    fetch_refuse(rig, &request, "RevisionNotFound", FL_E_NOT_FOUND, "has no tag nope");
    request.tag = NULL;
    request.commit = "0123456789012345678901234567890123456789";
    fetch_refuse(rig, &request, "RevisionNotFound", FL_E_NOT_FOUND, "with the commit 01234567");
    request.commit = NULL;
    request.path = "nope";
    fetch_refuse(rig, &request, "FetchFailed", FL_E_NOT_FOUND, "has no folder nope");
    request.path = "c.json";
    fetch_refuse(rig, &request, "FetchFailed", FL_E_INVALID, "is no folder");
    request.path = NULL;
    shell(rig, "git init -q --bare -b main empty.git");
    request.url = fl_arena_printf(rig->arena, "file://%s/empty.git", rig->dir);
    fetch_refuse(rig, &request, "RevisionNotFound", FL_E_NOT_FOUND, "default branch");
}

/* A commit that was there once and is in no branch any more is not given out. */
static void a_commit_must_be_reachable(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    const char *lost;

    shell(rig, "cd src; echo 'kind: L' > lost.yaml; git add .; git commit -qm lost;"
               "git push -q origin main");
    lost = output(rig, "git -C src rev-parse HEAD");
    fetch_expect(rig, &request, main_revision(rig), 4);
    shell(rig, "cd src; git reset -q --hard HEAD~1; git push -qf origin main");
    request.commit = lost;
    fetch_refuse(rig, &request, "RevisionNotFound", FL_E_NOT_FOUND, "with the commit");
}

static void path_and_patterns_choose(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *path, *exclude;
        size_t files;
    } rows[] = {
        {".", NULL, 3},      {"./apps/", NULL, 2}, {"apps", "x", 1},         {"apps", "x/b.yml", 1},
        {"apps", "*", 0},    {NULL, "apps", 1},    {NULL, "apps/*", 1},      {NULL, "**/b.yml", 2},
        {NULL, "*.json", 2}, {NULL, "**", 0},      {"apps", "**/*.yaml", 1}, {"docs", NULL, 0},
    };

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_source_request request = request_of(rig);

        request.path = rows[i].path;
        request.exclude = &rows[i].exclude;
        request.exclude_count = rows[i].exclude ? 1 : 0;
        fetch_expect(rig, &request, main_revision(rig), rows[i].files);
    }
}

static const struct fl_source_file *file_of(const struct fl_fetch_result *result, const char *path)
{
    for (size_t i = 0; i < result->snapshot->file_count; i++)
        if (fl_streq(result->snapshot->files[i].path, path))
            return &result->snapshot->files[i];
    return NULL;
}

static void links_and_submodules_are_not_followed(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    struct fl_fetch_result result;
    const struct fl_source_file *link;

    shell(rig, "cd src; ln -s /etc/passwd passwd.yaml; ln -s apps more; git add .;"
               "git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub.yaml;"
               "git commit -qm links; git push -q origin main");
    result = fetch(rig, &request);
    assert_int_equal(result.state, FL_FETCH_DONE);
    link = file_of(&result, "passwd.yaml"); /* it has not gone, and must not seem to */
    assert_string_equal(link->fault, "is a link, which is not followed; leave it out with exclude");
    assert_memory_equal(link->data, "/etc/passwd", link->len);
    assert_null(file_of(&result, "sub.yaml"));
    fl_fetch_result_finish(&result);
    request.path = "more";
    fetch_refuse(rig, &request, "FetchFailed", FL_E_INVALID, "is no folder");
}

/* Whole commits on disk. */

static int check_out(struct rig *rig, const struct fl_source_request *request,
                     struct fl_checked_out *ret_out, struct fl_error *err)
{
    const struct fl_checkout checkout = {
        .request = request,
        .dir = fl_arena_printf(rig->arena, "%s/data/build", rig->dir),
        .folder = fl_arena_printf(rig->arena, "%s/out", rig->dir),
    };

    return fl_git_checkout(&checkout, rig->arena, ret_out, err);
}

static void a_commit_is_checked_out(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    const char *exclude = "left-out";
    struct fl_checked_out out;

    shell(rig, "cd src; mkdir -p code/deep code/left-out; echo 'print(1)' > code/run.py;"
               "chmod +x code/run.py; ln -s ../../../etc/passwd code/link; echo x > code/deep/x;"
               "echo y > code/left-out/y; git add .; git commit -qm code; git push -q origin main");
    request.path = "./code/";
    request.exclude = &exclude;
    request.exclude_count = 1;
    for (unsigned i = 0; i < 2; i++) { /* what an earlier one left is not in the way */
        assert_int_equal(check_out(rig, &request, &out, NULL), 0);
        assert_string_equal(out.commit, output(rig, "git -C src rev-parse HEAD"));
        assert_string_equal(out.revision, main_revision(rig));
        assert_true(out.committed_s > 1600000000);
        assert_string_equal(
            output(rig, "find out -mindepth 1 -printf '%P %m %l;' | tr ';' '\\n' | sort |"
                        "tr '\\n' ';'"),
            "deep 755 ;deep/x 644 ;link 777 ../../../etc/passwd;run.py 755 ;");
    }
}

static void what_cannot_be_checked_out_is_named(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    struct fl_checked_out out;
    struct fl_error err = {0};

    request.path = "nowhere";
    assert_int_equal(check_out(rig, &request, &out, &err), FL_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no folder nowhere"));
    assert_string_equal(out.reason, "FetchFailed");
    request.path = NULL;
    request.branch = "gone";
    assert_int_equal(check_out(rig, &request, &out, &err), FL_E_NOT_FOUND);
    assert_string_equal(out.reason, "RevisionNotFound");
    request.branch = NULL;
    shell(rig, "cd src; git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub;"
               "git commit -qm sub; git push -q origin main");
    assert_int_equal(check_out(rig, &request, &out, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "sub is a submodule"));
}

static void bounds_hold_by_name(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    const char *exclude = "big.yaml";

    shell(rig, "cd src; head -c 3145729 /dev/zero > big.yaml; head -c 9000000 /dev/zero > data.bin;"
               "git add .; git commit -qm big; git push -q origin main");
    fetch_refuse(rig, &request, "FetchFailed", FL_E_TOO_LARGE, "big.yaml: ");
    request.exclude = &exclude;
    request.exclude_count = 1;
    fetch_expect(rig, &request, main_revision(rig), 3);
    shell(rig, "cd src; mkdir many; cd many;"
               "for i in $(seq 23); do (echo $i; head -c 3000000 /dev/zero) > $i.yaml; done;"
               "git add .; git commit -qm many; git push -q origin main");
    fetch_refuse(rig, &request, "FetchFailed", FL_E_TOO_LARGE, "many/9.yaml: ");
    shell(rig, "cd src; git rm -rq many; mkdir count; cd count;"
               "for i in $(seq 10001); do echo > $i.yaml; done;"
               "git add .; git commit -qm count; git push -q origin main");
    fetch_refuse(rig, &request, "FetchFailed", FL_E_TOO_LARGE, "manifests are more than 10000");
}

/* Folders that hold the same folder ten times, thirty levels deep, are a few hundred bytes. */
static void a_tree_without_end_is_refused(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);

    shell(rig,
          "cd src; t=$(printf '100644 blob %%s\\ta.txt\\n' $(echo x | git hash-object -w --stdin)"
          " | git mktree); for d in $(seq 30); do t=$(for i in 0 1 2 3 4 5 6 7 8 9; do"
          " printf '040000 tree %%s\\td%%s\\n' $t $i; done | git mktree); done;"
          "git push -qf origin $(git commit-tree -m bomb $t):refs/heads/main");
    fetch_refuse(rig, &request, "FetchFailed", FL_E_TOO_LARGE, "files and folders are more than");
}

static void requests_that_may_not_be_are_refused(void **state)
{
    struct rig *rig = *state;
    static const char *const signers[] = {"ssh-ed25519 AAAA"};
    const struct {
        struct fl_source_request request;
        const char *text;
    } rows[] = {
        {{.url = "http://example.com/x"}, "is not encrypted"},
        {{.url = "git://example.com/x"}, "is not encrypted"},
        {{.url = "http://example.com/x",
          .password = "p",
          .allowed_signers = signers,
          .allowed_signer_count = 1},
         "sent over https only"},
        {{.url = "https://u:p@example.com/x"}, "carries a password"},
        {{.url = "ssh://git@localhost/x", .identity = "k"}, "put known_hosts"},
        {{.url = "git@localhost:x", .known_hosts = "k"}, "put identity"},
        {{.url = "git@localhost:x", .identity = "k", .known_hosts = "@revoked * ssh-rsa A"},
         "@revoked"},
        {{.url = "ftp://localhost/x"}, "none of https"},
        {{.url = "https:///x"}, "names no host"},
        {{.url = "ssh://-oProxyCommand=x/y"}, "names no host"},
        {{.url = "file://host/x"}, "file:///FOLDER"},
        {{.url = rig->url, .branch = "a", .tag = "b"}, "at most one"},
        {{.url = rig->url, .branch = "a..b"}, "is no name"},
        {{.url = rig->url, .commit = "abc"}, "40 lower-case"},
        {{.url = rig->url, .path = "a/../.."}, "leads out"},
        {{.url = rig->url, .path = "/etc"}, "leads out"},
    };

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_source_request request = rows[i].request;

        request.timeout_ms = LONG_MS;
        fetch_refuse(rig, &request, "FetchFailed", FL_E_INVALID, rows[i].text);
    }
}

/* What was fetched for somebody else is not to be read through a URL of one's own. */
static void kept_repositories_are_private(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    uint64_t ticket;
    struct fl_fetch_result result;

    fetch_expect(rig, &request, main_revision(rig), 3);
    shell(rig, "ln -s data/git/key/repository way");
    for (size_t i = 0; i < 3; i++) {
        static const char *const ways[] = {"data/git/key/repository", "way", "src/../data/git/key"};

        request.url = fl_arena_printf(rig->arena, "file://%s/%s", rig->dir, ways[i]);
        assert_int_equal(rig->source->ops->fetch(rig->source, "thief", &request, &ticket, NULL), 0);
        result = result_of(rig, "thief");
        assert_int_equal(result.state, FL_FETCH_FAILED);
        assert_int_equal(result.err.code, FL_E_FORBIDDEN);
        fl_fetch_result_finish(&result);
    }
}

/* The last good snapshot is there beside a failure, and without the network after a restart; for
 * another request it is not. */
static void the_last_good_one_stays(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    struct fl_fetch_result result;
    const char *revision = main_revision(rig);

    fetch_expect(rig, &request, revision, 3);
    shell(rig, "mv remote.git away.git");
    for (int restarted = 0; restarted < 2; restarted++) {
        result = fetch(rig, &request);
        assert_int_equal(result.state, FL_FETCH_FAILED);
        assert_int_equal(result.err.code, FL_E_NOT_FOUND);
        assert_non_null(result.snapshot);
        assert_string_equal(result.snapshot->revision, revision);
        assert_int_equal(result.snapshot->file_count, 3);
        fl_fetch_result_finish(&result);
        close_source(rig);
        open_source(rig);
        result = observe(rig, "key");
        assert_int_equal(result.state, FL_FETCH_NONE);
    }
    request.path = "apps";
    result = fetch(rig, &request);
    assert_null(result.snapshot);
    fl_fetch_result_finish(&result);
}

static void what_is_broken_on_disk_is_made_anew(void **state)
{
    struct rig *rig = *state;
    static const char *const harms[] = {
        "rm repository/HEAD",
        "rm -r repository/objects",
        "for f in repository/objects/pack/*.pack; do chmod u+w $f; echo x > $f; done",
        "rm -f repository/objects/pack/*.idx",
        "rm -r repository/refs; touch repository/refs",
        "echo '[core' > repository/config",
        "echo x > snapshot",
        "echo '{}' > snapshot",
    };
    struct fl_source_request request = request_of(rig);

    for (size_t i = 0; i < FL_COUNT_OF(harms); i++) {
        fetch_expect(rig, &request, main_revision(rig), 3);
        shell(rig, "cd data/git/key; %s", harms[i]);
        close_source(rig);
        open_source(rig);
        fetch_expect(rig, &request, main_revision(rig), 3);
    }
}

static void many_fetches_do_not_pile_up(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    int packs;

    for (int i = 0; i < 55; i++) {
        shell(rig, "cd src; echo 'n: %d' > c.json; git commit -qam %d; git push -q origin main", i,
              i);
        fetch_expect(rig, &request, main_revision(rig), 3);
    }
    packs = atoi(output(rig, "ls data/git/key/repository/objects/pack | grep -c 'pack$'"));
    assert_in_range(packs, 1, 51);
}

/* Asking again for what is there costs no writing and no memory. */
static void nothing_new_changes_nothing(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    struct fl_fetch_result first = fetch(rig, &request), again;
    const char *list = "find data/git -newer mark -type f | wc -l";

    shell(rig,
          "touch -d '1 second ago' data/git/key/snapshot $(find data/git -type f); touch mark");
    again = fetch(rig, &request);
    assert_int_equal(again.state, FL_FETCH_DONE);
    assert_ptr_equal(again.snapshot, first.snapshot);
    assert_string_equal(output(rig, list), "0");
    fl_fetch_result_finish(&first);
    fl_fetch_result_finish(&again);
}

static void the_machines_configuration_has_no_say(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);

    shell(rig, "git config --global url.file:///nowhere/.insteadOf file://;"
               "mkdir -p home/template; touch home/template/planted;"
               "git config --global init.templateDir $HOME/template");
    assert_int_equal(setenv("HOME", fl_arena_printf(rig->arena, "%s/home", rig->dir), 1), 0);
    fetch_expect(rig, &request, main_revision(rig), 3);
    shell(rig, "test ! -e data/git/key/repository/planted");
}

static void forgetting_leaves_nothing(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    struct fl_fetch_result result;

    fetch_expect(rig, &request, main_revision(rig), 3);
    assert_int_equal(rig->source->ops->forget(rig->source, "key", NULL), 0);
    assert_int_equal(rig->source->ops->forget(rig->source, "key", NULL), 0);
    result = observe(rig, "key");
    assert_int_equal(result.state, FL_FETCH_NONE);
    assert_string_equal(output(rig, "ls -A data/git | wc -l"), "0");
    fetch_expect(rig, &request, main_revision(rig), 3);
    close_source(rig);
    shell(rig, "mkdir -p data/git/.gone-1/repository");
    open_source(rig);
    assert_int_equal(rig->source->ops->forget(rig->source, "key", NULL), 0);
    assert_string_equal(output(rig, "ls -A data/git | wc -l"), "0");
    assert_int_equal(rig->source->ops->forget(rig->source, "../x", NULL), FL_E_INVALID);
}

/* A socket that listens and that nobody accepts from: connections are made, and nothing is said. */
static int listen_silently(int *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static void a_silent_remote_ends_at_the_deadline(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = request_of(rig);
    int port, fd = listen_silently(&port);

    request.timeout_ms = 1000;
    request.url = fl_arena_printf(rig->arena, "http://127.0.0.1:%d/x", port);
    fetch_refuse(rig, &request, "FetchFailed", FL_E_TIMEOUT, "did not answer within 1000 ms");
    request.timeout_ms = 10 * LONG_MS;
    for (int i = 0; i < 12; i++) {
        const char *key = fl_arena_printf(rig->arena, "k%d", i);
        uint64_t ticket, again;

        assert_int_equal(rig->source->ops->fetch(rig->source, key, &request, &ticket, NULL), 0);
        assert_int_equal(rig->source->ops->fetch(rig->source, key, &request, &again, NULL), 0);
        assert_int_equal(ticket, again);
    }
    /* More than may be busy at once hang, and one that answers is served nevertheless. */
    request = request_of(rig);
    fetch_expect(rig, &request, main_revision(rig), 3);
    /* Both one that runs and one that waits for its turn are stopped at once, and all at the end.
     */
    assert_int_equal(rig->source->ops->forget(rig->source, "k0", NULL), 0);
    assert_int_equal(rig->source->ops->forget(rig->source, "k11", NULL), 0);
    assert_int_equal(observe(rig, "k11").state, FL_FETCH_NONE);
    close_source(rig);
    assert_int_equal(close(fd), 0);
}

/* --- signatures --- */

#define SIGNED "git -c gpg.format=ssh -c user.signingKey=$PWD/../%s "

/* Two keys, of which `ours` is allowed. */
static struct fl_source_request signed_request(struct rig *rig)
{
    struct fl_source_request request = request_of(rig);
    const char **signers = fl_new_array(rig->arena, const char *, 1);

    shell(rig, "ssh-keygen -q -t ed25519 -N '' -C 'our key' -f ours;"
               "ssh-keygen -q -t ed25519 -N '' -C 'their key' -f theirs");
    signers[0] = output(rig, "cat ours.pub");
    request.allowed_signers = signers;
    request.allowed_signer_count = 1;
    return request;
}

static void only_signed_commits_pass(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = signed_request(rig);
    struct fl_fetch_result result;
    const char *good;

    fetch_refuse(rig, &request, "NotSigned", FL_E_FORBIDDEN, "not signed");
    shell(rig, "cd src; " SIGNED "commit -qS --allow-empty -m good; git push -q origin main",
          "ours");
    good = main_revision(rig);
    result = fetch(rig, &request);
    assert_int_equal(result.state, FL_FETCH_DONE);
    assert_true(fl_str_has_prefix(result.snapshot->signer, "SHA256:"));
    assert_true(fl_str_has_suffix(result.snapshot->signer, " our key"));
    fl_fetch_result_finish(&result);
    shell(rig, "cd src; " SIGNED "commit -qS --allow-empty -m bad; git push -q origin main",
          "theirs");
    fetch_refuse(rig, &request, "NotSigned", FL_E_FORBIDDEN, "not an allowed signer");
    result = fetch(rig, &request);
    assert_string_equal(result.attempted, main_revision(rig));
    assert_string_equal(result.snapshot->revision, good);
    assert_non_null(result.snapshot->signer);
    fl_fetch_result_finish(&result);
}

/* Each script makes a commit object on standard output out of a good one on standard input. */
static void forged_commits_are_refused(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *script, *text;
    } rows[] = {
        {"sed 's/^good$/evil/'", "is of other content"},
        {"sed 's/^author a/author b/'", "is of other content"},
        {"sed '/^ .*END SSH/d'", "cut off"},
        {"sed 's/^ U1NI/ U1NJ/'", "damaged"},
        {"sed 's/SSH SIGNATURE/PGP SIGNATURE/'", "GPG"},
        {"sed '/^gpgsig/,/END SSH/d'", "not signed"},
    };
    struct fl_source_request request = signed_request(rig);

    shell(rig, "cd src; " SIGNED "commit -qS --allow-empty -m good; git push -q origin main",
          "ours");
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        shell(rig,
              "cd src; git push -qf origin $(git cat-file commit HEAD | %s | git hash-object "
              "-t commit -w --literally --stdin):refs/heads/main",
              rows[i].script);
        fetch_refuse(rig, &request, "NotSigned", FL_E_FORBIDDEN, rows[i].text);
    }
}

/* An annotated tag may vouch for a commit that has no signature, under its own name only. */
static void a_signed_tag_vouches_for_its_commit(void **state)
{
    struct rig *rig = *state;
    struct fl_source_request request = signed_request(rig);
    struct fl_fetch_result result;

    shell(rig,
          "cd src; " SIGNED "tag -s -m x good; git tag plain; git tag -a -m x unsigned;"
          "git push -q origin --tags; git -C ../remote.git update-ref refs/tags/moved "
          "$(git rev-parse good)",
          "ours");
    shell(rig, "cd src; " SIGNED "tag -s -m x bad; git push -q origin bad", "theirs");
    request.tag = "good";
    result = fetch(rig, &request);
    assert_int_equal(result.state, FL_FETCH_DONE);
    assert_true(fl_str_has_suffix(result.snapshot->signer, " our key"));
    fl_fetch_result_finish(&result);
    request.tag = "plain";
    fetch_refuse(rig, &request, "NotSigned", FL_E_FORBIDDEN, "not signed");
    request.tag = "unsigned";
    fetch_refuse(rig, &request, "NotSigned", FL_E_FORBIDDEN, "tag unsigned: not signed");
    request.tag = "bad";
    fetch_refuse(rig, &request, "NotSigned", FL_E_FORBIDDEN, "not an allowed signer");
    request.tag = "moved";
    fetch_refuse(rig, &request, "NotSigned", FL_E_FORBIDDEN, "it is the tag \"good\"");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(files_are_those_of_the_commit),
        TEST(references_are_followed),
        TEST(a_new_commit_and_a_force_push_are_seen),
        TEST(what_is_missing_is_told),
        TEST(a_commit_must_be_reachable),
        TEST(path_and_patterns_choose),
        TEST(links_and_submodules_are_not_followed),
        TEST(a_commit_is_checked_out),
        TEST(what_cannot_be_checked_out_is_named),
        TEST(bounds_hold_by_name),
        TEST(a_tree_without_end_is_refused),
        TEST(requests_that_may_not_be_are_refused),
        TEST(kept_repositories_are_private),
        TEST(the_last_good_one_stays),
        TEST(what_is_broken_on_disk_is_made_anew),
        TEST(many_fetches_do_not_pile_up),
        TEST(nothing_new_changes_nothing),
        TEST(the_machines_configuration_has_no_say),
        TEST(forgetting_leaves_nothing),
        TEST(a_silent_remote_ends_at_the_deadline),
        TEST(only_signed_commits_pass),
        TEST(forged_commits_are_refused),
        TEST(a_signed_tag_vouches_for_its_commit),
    };

    if (fl_git_is_fetch(argc, argv))
        return fl_git_fetch_main(STDIN_FILENO, STDOUT_FILENO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
