/* The child: from a request on one end to an answer on the other. Everything that strangers send
 * is read here and nowhere else. */
#include "controller/source/git_internal.h"

#include "controller/source/sshsig.h"
#include "lib/file.h"
#include "lib/run.h"
#include "lib/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <sodium.h>
#include <sys/file.h>
#include <unistd.h>

/* Each fetch adds a pack to what is kept; beyond this it is cheaper to begin anew. */
#define PACKS_MAX  50
#define SECRET_MIN 4

struct fetch {
    struct fl_git_request request;
    struct fl_git_url url;
    struct fl_arena *arena;
    const char *repository_dir;
    git_repository *repository;
    struct fl_git_found found;
    bool is_unsigned; /* of a failure: nobody who may has signed it */
    struct fl_snapshot *snapshot;
};

/* --- errors --- */

/* Servers choose some of the text, and libgit2 may put what it was given into it. */
static void hide(char *text, const char *secret)
{
    size_t len = secret ? strlen(secret) : 0;

    if (len < SECRET_MIN)
        return; /* it would be known from what is left of the text */
    for (char *at = text; (at = strstr(at, secret)); at += len)
        memset(at, '*', len);
}

static void make_printable(char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        size_t width = fl_utf8_width(text, left);

        if (width == 0 || (unsigned char)*text < ' ' || *text == 0x7f)
            *text = width == 0 ? '?' : ' ';
        width = width ? width : 1;
        text += width;
        left -= width;
    }
}

static int code_of(int code, int klass)
{
    if (code == GIT_ECERTIFICATE)
        return FL_E_FORBIDDEN;
    if (code == GIT_EAUTH)
        return FL_E_UNAUTHORIZED;
    switch (klass) {
    case GIT_ERROR_NET:
    case GIT_ERROR_SSL:
    case GIT_ERROR_SSH:
    case GIT_ERROR_HTTP:
        return FL_E_UNAVAILABLE;
    case GIT_ERROR_NOMEMORY:
        return FL_E_TOO_LARGE;
    default:
        return FL_E_INTERNAL; /* also what is broken on disk */
    }
}

int fl_git_error(const struct fl_source_request *request, int code, struct fl_error *err,
                 const char *fmt, ...)
{
    const git_error *last = git_error_last();
    const char *text = last && last->message ? last->message : "unknown failure";
    char where[512];
    va_list ap;
    int r;

    va_start(ap, fmt);
    (void)vsnprintf(where, sizeof(where), fmt, ap);
    va_end(ap);
    r = fl_error_set(err, code_of(code, last ? last->klass : GIT_ERROR_NONE), "%s: %s", where,
                     text);
    if (strstr(text, "status code: 404"))
        r = fl_error_set(err, FL_E_NOT_FOUND,
                         "%s: there is no such repository, or its credentials are missing", where);
    hide(err->msg, request->password);
    return r;
}

/* --- what is kept --- */

static size_t count_packs(struct fetch *fetch)
{
    DIR *dir = opendir(fl_arena_printf(fetch->arena, "%s/objects/pack", fetch->repository_dir));
    const struct dirent *entry;
    size_t count = 0;

    while (dir && (entry = readdir(dir)))
        count += fl_str_has_suffix(entry->d_name, ".pack");
    if (dir)
        (void)closedir(dir);
    return count;
}

static bool open_kept(struct fetch *fetch)
{
    git_config *config = NULL;
    bool good = git_repository_open_bare(&fetch->repository, fetch->repository_dir) == 0 &&
                git_repository_config_snapshot(&config, fetch->repository) == 0;

    git_config_free(config);
    if (!good)
        git_repository_free(FL_TAKE(fetch->repository));
    return good;
}

/* The kept repository, or a new one where it is missing, broken or has grown too many packs. */
static int open_repository(struct fetch *fetch, struct fl_error *err)
{
    git_repository_init_options options;
    int r;

    if (count_packs(fetch) > PACKS_MAX) {
        r = fl_dir_remove(fetch->repository_dir, err);
        if (r < 0)
            return r;
    }
    if (open_kept(fetch))
        return 0;
    r = fl_dir_remove(fetch->repository_dir, err);
    if (r < 0)
        return r;
    (void)git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
    options.flags =
        GIT_REPOSITORY_INIT_BARE | GIT_REPOSITORY_INIT_NO_DOTGIT_DIR | GIT_REPOSITORY_INIT_MKDIR;
    options.mode = 0700;
    options.initial_head = "none";
    r = git_repository_init_ext(&fetch->repository, fetch->repository_dir, &options);
    return r < 0 ? fl_git_error(&fetch->request.source, r, err, "%s", fetch->repository_dir) : 0;
}

/* --- signatures --- */

/* The tag's own signature stands at the end of its text. That it is the tag that was asked for is
 * part of what is signed, so that a good one cannot be served under another name. */
static int verify_tag(struct fetch *fetch, const char **ret_signer, struct fl_error *err)
{
    const struct fl_source_request *source = &fetch->request.source;
    const git_tag *tag = (const git_tag *)fetch->found.tag;
    const char *name = git_tag_name(tag), *data, *begin;
    git_odb *odb = NULL;
    git_odb_object *raw = NULL;
    size_t len;
    int r = git_repository_odb(&odb, fetch->repository);

    if (r == 0)
        r = git_odb_read(&raw, odb, git_tag_id(tag));
    git_odb_free(odb);
    if (r < 0)
        return fl_git_error(source, r, err, "tag %s", name);
    data = git_odb_object_data(raw);
    len = git_odb_object_size(raw);
    begin = memmem(data, len, "\n-----BEGIN ", 12);
    if (!fl_streq(name, source->tag))
        r = fl_error_set(err, FL_E_FORBIDDEN, "it is the tag \"%.200s\"", name);
    else if (!begin)
        r = fl_error_set(err, FL_E_FORBIDDEN, "not signed");
    else
        r = fl_sshsig_verify(begin + 1, len - (size_t)(begin + 1 - data), data,
                             (size_t)(begin + 1 - data), source->allowed_signers,
                             source->allowed_signer_count, fetch->arena, ret_signer, err);
    git_odb_object_free(raw);
    return r < 0 ? fl_error_wrap(err, "tag %s", source->tag) : 0;
}

static int verify_commit(struct fetch *fetch, const char **ret_signer, struct fl_error *err)
{
    const struct fl_source_request *source = &fetch->request.source;
    git_oid id = *git_commit_id(fetch->found.commit);
    git_buf signature = {0}, payload = {0};
    int r = git_commit_extract_signature(&signature, &payload, fetch->repository, &id, NULL);

    if (r == GIT_ENOTFOUND)
        r = fl_error_set(err, FL_E_FORBIDDEN, "not signed");
    else if (r < 0)
        r = fl_git_error(source, r, err, "commit");
    else
        r = fl_sshsig_verify(signature.ptr, signature.size, payload.ptr, payload.size,
                             source->allowed_signers, source->allowed_signer_count, fetch->arena,
                             ret_signer, err);
    git_buf_dispose(&signature);
    git_buf_dispose(&payload);
    return r;
}

/* The commit may be signed, or the annotated tag by which it was asked for. */
static int verify(struct fetch *fetch, struct fl_error *err)
{
    struct fl_error of_tag = {0};
    const char *signer = NULL;
    int r;

    if (fetch->request.source.allowed_signer_count == 0)
        return 0;
    r = verify_commit(fetch, &signer, err);
    if (r == FL_E_FORBIDDEN && fetch->found.tag) {
        if (verify_tag(fetch, &signer, &of_tag) == 0)
            r = 0;
        else
            r = fl_error_set(err, FL_E_FORBIDDEN, "%s; %s", err->msg, of_tag.msg);
    }
    if (r == 0)
        fetch->snapshot->signer = fl_arena_strdup(fetch->snapshot->arena, signer);
    else
        fetch->is_unsigned = r == FL_E_FORBIDDEN;
    return r < 0 ? fl_error_wrap(err, "%s", fetch->found.revision) : 0;
}

/* --- one fetch --- */

static void drop_attempt(struct fetch *fetch)
{
    git_commit_free(fetch->found.commit);
    git_object_free(fetch->found.tag);
    git_repository_free(fetch->repository);
    fl_snapshot_unref(fetch->snapshot);
    fetch->found = (struct fl_git_found){0};
    fetch->repository = NULL;
    fetch->snapshot = NULL;
}

/* What was handed over for the same commit and request is still that: nothing is written. */
static bool is_handed_over(struct fetch *fetch, const char *digest)
{
    FL_CLEANUP(fl_snapshot_unrefp) struct fl_snapshot *kept = NULL;

    if (fl_git_snapshot_read(fetch->request.dir, digest, &kept, NULL) < 0 ||
        !fl_streq(kept->revision, fetch->found.revision))
        return false;
    fetch->snapshot = FL_TAKE(kept);
    return true;
}

static int hand_over(struct fetch *fetch, const char *digest, struct fl_error *err)
{
    int r;

    fetch->snapshot = fl_snapshot_create();
    fetch->snapshot->revision = fl_arena_strdup(fetch->snapshot->arena, fetch->found.revision);
    r = verify(fetch, err);
    if (r == 0)
        r = fl_git_tree_read(fetch->repository, fetch->found.commit, &fetch->request.source,
                             fetch->snapshot, err);
    return r == 0 ? fl_git_snapshot_write(fetch->request.dir, fetch->snapshot, digest, err) : r;
}

static int check_out(struct fetch *fetch, struct fl_error *err)
{
    int r;

    fetch->snapshot = fl_snapshot_create(); /* for the signer's name */
    r = verify(fetch, err);
    return r < 0 ? r
                 : fl_git_tree_check_out(fetch->repository, fetch->found.commit,
                                         &fetch->request.source, fetch->found.revision,
                                         fetch->request.checkout, err);
}

static int attempt(struct fetch *fetch, struct fl_error *err)
{
    const char *digest = fl_git_request_digest(&fetch->request.source, fetch->arena);
    int r = open_repository(fetch, err);

    if (r == 0)
        r = fl_git_remote_fetch(fetch->repository, &fetch->request, &fetch->url, fetch->arena,
                                &fetch->found, err);
    if (r == 0 && fetch->request.checkout)
        return check_out(fetch, err);
    if (r < 0 || is_handed_over(fetch, digest))
        return r;
    return hand_over(fetch, digest, err);
}

/* What is kept may have been broken by a crash: then it is given up, once. */
static int fetch_all(struct fetch *fetch, struct fl_error *err)
{
    int r = attempt(fetch, err);

    if (r != FL_E_INTERNAL)
        return r;
    drop_attempt(fetch);
    r = fl_dir_remove(fetch->repository_dir, err);
    return r < 0 ? r : attempt(fetch, err);
}

/* --- surroundings --- */

/* libssh2 looks for known_hosts in HOME; the authorities must be in a file too. Neither is secret.
 */
static int write_trust(const struct fetch *fetch, const char *home, struct fl_error *err)
{
    const struct fl_source_request *source = &fetch->request.source;
    const char *ssh = fl_arena_printf(fetch->arena, "%s/.ssh", home);
    const char *ca = fl_arena_printf(fetch->arena, "%s/ca.crt", home);
    int r = fl_dir_ensure(ssh, 0700, err);

    if (r == 0 && source->known_hosts)
        r = fl_file_write(fl_arena_printf(fetch->arena, "%s/known_hosts", ssh), source->known_hosts,
                          strlen(source->known_hosts), 0600, err);
    if (r == 0 && source->ca_pem)
        r = fl_file_write(ca, source->ca_pem, strlen(source->ca_pem), 0600, err);
    if (r < 0 || fetch->url.scheme != FL_GIT_HTTPS)
        return r;
    if (fl_git_tls_set_up(source->ca_pem ? ca : NULL, err) < 0)
        return source->ca_pem
                   ? fl_error_set(err, FL_E_INVALID, "ca.crt: these are no PEM certificates")
                   : err->code;
    return 0;
}

/* Only one fetch at a time works on what is kept, also when an earlier control plane was killed. */
static int lock_dir(const struct fetch *fetch, struct fl_error *err)
{
    const char *path = fl_arena_printf(fetch->arena, "%s/lock", fetch->request.dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        return fl_error_errno(err, errno, "%s", path);
    return 0; /* held until this process ends */
}

/* The machine's configuration, templates and owners of folders have no say. */
static int set_up_library(struct fl_error *err)
{
    static const int levels[] = {GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM,
                                 GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL};
    int r = git_libgit2_init() < 0 ? -1 : 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(levels); i++)
        r = git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
    if (r == 0)
        r = git_libgit2_opts(GIT_OPT_SET_TEMPLATE_PATH, "");
    if (r == 0)
        r = git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    if (r == 0)
        r = git_libgit2_opts(GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, FL_GIT_MEMORY_BYTES_MAX / 4);
    if (r == 0)
        r = git_libgit2_opts(GIT_OPT_SET_MWINDOW_SIZE, (size_t)32 * 1024 * 1024);
    return r < 0 ? fl_error_set(err, FL_E_INTERNAL, "libgit2 cannot be set up") : 0;
}

static int prepare(struct fetch *fetch, struct fl_error *err)
{
    const char *home = fl_arena_printf(fetch->arena, "%s/home", fetch->request.dir);
    const struct fl_run_confinement confinement = {
        .home = home,
        .memory_bytes = FL_GIT_MEMORY_BYTES_MAX,
        .file_bytes = FL_GIT_PACK_BYTES_MAX + FL_GIT_PACK_BYTES_MAX / 4,
        .timeout_ms = fetch->request.source.timeout_ms,
    };
    int r = fl_run_confine(&confinement, err);

    fetch->repository_dir = fl_arena_printf(fetch->arena, "%s/repository", fetch->request.dir);
    if (r == 0)
        r = fl_git_request_check(&fetch->request, fetch->arena, &fetch->url, err);
    if (r == 0)
        r = fl_dir_ensure(home, 0700, err);
    if (r == 0)
        r = lock_dir(fetch, err);
    if (r == 0)
        r = set_up_library(err);
    return r == 0 ? write_trust(fetch, home, err) : r;
}

/* --- the answer --- */

static const char *reason_of(const struct fetch *fetch)
{
    if (fetch->found.missing)
        return "RevisionNotFound";
    return fetch->is_unsigned ? "NotSigned" : "FetchFailed";
}

static json_t *answer_of(struct fetch *fetch, int r, struct fl_error *err)
{
    json_t *answer = json_object();

    json_object_set_new(answer, "done", json_boolean(r == 0));
    fl_json_set_str(answer, "revision", fetch->found.revision);
    if (r == 0) {
        fl_json_set_str(answer, "signer", fetch->snapshot->signer);
        json_object_set_new(answer, "files", json_integer((json_int_t)fetch->snapshot->file_count));
        json_object_set_new(answer, "commit",
                            json_string(git_oid_tostr_s(git_commit_id(fetch->found.commit))));
        json_object_set_new(answer, "committed",
                            json_integer(git_commit_time(fetch->found.commit)));
        return answer;
    }
    make_printable(err->msg);
    fl_json_set_str(answer, "reason", reason_of(fetch));
    fl_json_set_str(answer, "code", fl_error_reason(err->code));
    fl_json_set_str(answer, "message", err->msg);
    return answer;
}

static int write_answer(int fd, const json_t *answer)
{
    struct fl_buf buf;
    size_t done = 0;
    ssize_t n = 1;

    fl_buf_init(&buf, FL_GIT_ANSWER_MAX);
    fl_json_write(&buf, answer);
    fl_buf_putc(&buf, '\n');
    while (done < buf.len && n > 0) {
        n = write(fd, buf.data + done, buf.len - done);
        done += n > 0 ? (size_t)n : 0;
    }
    fl_buf_finish(&buf);
    return n > 0 ? 0 : 1;
}

static int read_request(int fd, struct fl_arena *arena, struct fl_git_request *ret_request,
                        struct fl_error *err)
{
    json_t *value = NULL;
    int r = fl_json_read_secret(fd, FL_GIT_REQUEST_MAX, &value, err);

    return r < 0 ? r
                 : fl_git_request_decode(fl_json_in_arena(arena, value), arena, ret_request, err);
}

int fl_git_fetch_main(int in_fd, int out_fd)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fetch fetch = {.arena = arena};
    struct fl_error err = {0};
    FL_JSON answer = NULL;
    int r = sodium_init() < 0 ? fl_error_set(&err, FL_E_INTERNAL, "libsodium")
                              : read_request(in_fd, arena, &fetch.request, &err);

    if (r == 0)
        r = prepare(&fetch, &err);
    if (r == 0)
        r = fetch_all(&fetch, &err);
    answer = answer_of(&fetch, r, &err);
    drop_attempt(&fetch);
    fl_git_tls_finish();
    (void)git_libgit2_shutdown(); /* once too often is an error of no consequence */
    return write_answer(out_fd, answer);
}
