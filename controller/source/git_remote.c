#include "controller/source/git_internal.h"

#include "lib/str.h"

#include <git2.h>

#define KEPT_REF "refs/flops/kept"
/* Under this name a commit that was asked for by itself, and was found to be in the remote. */
#define PINNED_REF "refs/flops/pinned"
#define TIPS_MAX   100000

/* One conversation with a remote. */
struct talk {
    git_repository *repository;
    git_remote *remote;
    const struct fl_git_request *request;
    const struct fl_git_url *url;
    struct fl_arena *arena;
    const git_remote_head **heads;
    size_t head_count;
    unsigned asked; /* for credentials */
    bool too_large;
};

static int offer_userpass(git_credential **ret_credential, struct talk *talk)
{
    const struct fl_source_request *source = &talk->request->source;

    if (!source->password ||
        (talk->url->scheme != FL_GIT_HTTPS && talk->url->scheme != FL_GIT_HTTP))
        return GIT_PASSTHROUGH;
    return git_credential_userpass_plaintext_new(
        ret_credential, fl_str_or(source->username, fl_str_or(talk->url->user, "git")),
        source->password);
}

static int offer_key(git_credential **ret_credential, struct talk *talk, const char *user)
{
    const struct fl_source_request *source = &talk->request->source;

    if (!source->identity || talk->url->scheme != FL_GIT_SSH)
        return GIT_PASSTHROUGH;
    return git_credential_ssh_key_memory_new(ret_credential, user, NULL, source->identity, NULL);
}

/* Asked again, the remote has refused what it was given: there is nothing else to offer. It is
 * always the host of the URL that asks, since no redirect leads elsewhere. */
static int on_credentials(git_credential **ret_credential, const char *url, const char *user,
                          unsigned types, void *payload)
{
    struct talk *talk = payload;

    (void)url;
    if (types & GIT_CREDENTIAL_USERNAME)
        return git_credential_username_new(ret_credential,
                                           fl_str_or(talk->request->source.username, "git"));
    if (talk->asked++ > 0)
        return GIT_EAUTH;
    if (types & GIT_CREDENTIAL_SSH_MEMORY)
        return offer_key(ret_credential, talk, fl_str_or(user, "git"));
    if (types & GIT_CREDENTIAL_USERPASS_PLAINTEXT)
        return offer_userpass(ret_credential, talk);
    return GIT_PASSTHROUGH;
}

/* It was compared already: with known_hosts in our HOME, or with the authorities. */
static int on_certificate(git_cert *certificate, int valid, const char *host, void *payload)
{
    (void)host, (void)payload;
    if (valid)
        return 0;
    if (certificate->cert_type != GIT_CERT_HOSTKEY_LIBSSH2)
        return GIT_PASSTHROUGH; /* our TLS has said why */
    (void)git_error_set_str(GIT_ERROR_SSH, "the host's key is not the one in known_hosts");
    return GIT_ECERTIFICATE;
}

static int on_progress(const git_indexer_progress *progress, void *payload)
{
    struct talk *talk = payload;

    talk->too_large = progress->received_bytes > FL_GIT_PACK_BYTES_MAX;
    return talk->too_large ? -1 : 0;
}

static void set_callbacks(struct talk *talk, git_remote_callbacks *callbacks)
{
    callbacks->credentials = on_credentials;
    callbacks->certificate_check = on_certificate;
    callbacks->transfer_progress = on_progress;
    callbacks->payload = talk;
}

/* libssh2 up to 1.10 signs with RSA and SHA-1 only, which servers refuse by now. */
static int refused(const struct talk *talk, struct fl_error *err)
{
    const char *url = talk->request->source.url;

    if (talk->asked == 0 || (talk->asked == 1 && talk->url->scheme != FL_GIT_SSH))
        return fl_error_set(err, FL_E_UNAUTHORIZED,
                            "%s: the remote asks for credentials and there are none for it", url);
    if (talk->url->scheme == FL_GIT_SSH)
        return fl_error_set(
            err, FL_E_UNAUTHORIZED,
            "%s: the remote refused the key; if it is allowed there and an RSA key, "
            "use an Ed25519 one",
            url);
    return fl_error_set(err, FL_E_UNAUTHORIZED, "%s: the remote refused the user name or password",
                        url);
}

/* What libssh2 says of a key that it cannot read has no code of its own. */
static bool is_bad_key(const struct talk *talk)
{
    const git_error *last = git_error_last();

    return talk->url->scheme == FL_GIT_SSH && talk->asked > 0 && last && last->message &&
           fl_str_has_prefix(last->message, "Failed to authenticate SSH session");
}

static int failed(const struct talk *talk, int code, struct fl_error *err)
{
    const struct fl_source_request *source = &talk->request->source;

    if (code == GIT_EAUTH)
        return refused(talk, err);
    if (is_bad_key(talk))
        return fl_error_set(err, FL_E_UNAUTHORIZED,
                            "%s: identity cannot be used: it must be a private key in the form of "
                            "OpenSSH or PEM, without a passphrase",
                            source->url);
    if (talk->too_large)
        return fl_error_set(err, FL_E_TOO_LARGE, "%s: the repository has more than %zu MiB",
                            source->url, FL_GIT_PACK_BYTES_MAX >> 20);
    return fl_git_error(source, code, err, "%s", source->url);
}

/* Whatever went wrong so far, it was not what is kept here. */
static int failed_to_connect(const struct talk *talk, int code, struct fl_error *err)
{
    int r = failed(talk, code, err);

    if (r == FL_E_INTERNAL)
        r = err->code = FL_E_UNAVAILABLE;
    return r;
}

/* Nothing of this machine's or the repository's configuration has a say: no other URL instead, no
 * proxy. Redirects stay on the host. */
static int connect_remote(struct talk *talk, struct fl_error *err)
{
    git_remote_create_options create;
    git_remote_connect_options options;
    int r;

    (void)git_remote_create_options_init(&create, GIT_REMOTE_CREATE_OPTIONS_VERSION);
    (void)git_remote_connect_options_init(&options, GIT_REMOTE_CONNECT_OPTIONS_VERSION);
    create.repository = talk->repository;
    create.flags = GIT_REMOTE_CREATE_SKIP_INSTEADOF | GIT_REMOTE_CREATE_SKIP_DEFAULT_FETCHSPEC;
    set_callbacks(talk, &options.callbacks);
    options.follow_redirects = GIT_REMOTE_REDIRECT_NONE;
    options.proxy_opts.type = GIT_PROXY_NONE;
    r = git_remote_create_with_opts(&talk->remote, talk->request->source.url, &create);
    if (r == 0)
        r = git_remote_connect_ext(talk->remote, GIT_DIRECTION_FETCH, &options);
    if (r == 0)
        r = git_remote_ls(&talk->heads, &talk->head_count, talk->remote);
    return r < 0 ? failed_to_connect(talk, r, err) : 0;
}

static int download(struct talk *talk, char **refspecs, size_t count, bool shallow,
                    struct fl_error *err)
{
    git_fetch_options options;
    git_strarray specs = {refspecs, count};
    int r;

    (void)git_fetch_options_init(&options, GIT_FETCH_OPTIONS_VERSION);
    set_callbacks(talk, &options.callbacks);
    options.follow_redirects = GIT_REMOTE_REDIRECT_NONE;
    options.proxy_opts.type = GIT_PROXY_NONE;
    options.download_tags = GIT_REMOTE_DOWNLOAD_TAGS_NONE;
    options.update_fetchhead = 0;
#if LIBGIT2_VER_MAJOR > 1 || LIBGIT2_VER_MINOR >= 7
    if (shallow)
        options.depth = 1;
#else
    (void)shallow; /* the history comes along, once */
#endif
    r = git_remote_download(talk->remote, &specs, &options);
    return r < 0 ? failed(talk, r, err) : 0;
}

static int missing(struct fl_git_found *found, struct fl_error *err, const char *url,
                   const char *what, const char *name)
{
    found->missing = true;
    return fl_error_set(err, FL_E_NOT_FOUND, "%s has no %s%s", url, what, name);
}

static const git_remote_head *find_head(const struct talk *talk, const char *name)
{
    for (size_t i = 0; i < talk->head_count; i++)
        if (fl_streq(talk->heads[i]->name, name))
            return talk->heads[i];
    return NULL;
}

/* Later fetches ask only for what is new since what a reference holds. */
static int keep(struct talk *talk, const char *name, const git_oid *id, struct fl_error *err)
{
    git_reference *reference = NULL;
    git_oid now;
    int r;

    if (git_reference_name_to_id(&now, talk->repository, name) == 0 && git_oid_equal(&now, id))
        return 0;
    r = git_reference_create(&reference, talk->repository, name, id, 1, NULL);
    git_reference_free(reference);
    return r < 0 ? fl_git_error(&talk->request->source, r, err, "%s", name) : 0;
}

/* The commit of what a reference names. */
static int peel(struct talk *talk, const git_oid *id, const char *name, struct fl_git_found *found,
                struct fl_error *err)
{
    git_object *object = NULL, *commit = NULL;
    int r = git_object_lookup(&object, talk->repository, id, GIT_OBJECT_ANY);

    if (r < 0)
        return fl_git_error(&talk->request->source, r, err, "%s", name);
    r = git_object_peel(&commit, object, GIT_OBJECT_COMMIT);
    if (r == 0 && git_object_type(object) == GIT_OBJECT_TAG)
        found->tag = FL_TAKE(object);
    git_object_free(object);
    if (r == GIT_EPEEL || r == GIT_EINVALIDSPEC)
        return missing(found, err, talk->request->source.url, "commit at ", name);
    if (r < 0)
        return fl_git_error(&talk->request->source, r, err, "%s", name);
    found->commit = (git_commit *)commit;
    return 0;
}

static const char *revision_of(struct talk *talk, const char *label, const git_oid *id)
{
    char hex[GIT_OID_HEXSZ + 1];

    git_oid_tostr(hex, sizeof(hex), id);
    return fl_arena_printf(talk->arena, "%s%ssha1:%s", label, *label ? "@" : "", hex);
}

/* A commit that is here already is not asked for again. */
static int fetch_head(struct talk *talk, const git_remote_head *head, const char *label,
                      struct fl_git_found *found, struct fl_error *err)
{
    char *name = head->name;
    git_odb *odb = NULL;
    int r = git_repository_odb(&odb, talk->repository);
    bool have = r == 0 && git_odb_exists(odb, &head->oid) == 1;

    git_odb_free(odb);
    if (r < 0)
        return fl_git_error(&talk->request->source, r, err, "the kept repository");
    r = have ? 0 : download(talk, &name, 1, true, err);
    if (r == 0)
        r = keep(talk, KEPT_REF, &head->oid, err);
    if (r == 0)
        r = peel(talk, &head->oid, label, found, err);
    if (r == 0)
        found->revision = revision_of(talk, label, git_commit_id(found->commit));
    return r;
}

static int fetch_named(struct talk *talk, const char *kind, const char *folder, const char *name,
                       struct fl_git_found *found, struct fl_error *err)
{
    const git_remote_head *head =
        find_head(talk, fl_arena_printf(talk->arena, "refs/%s/%s", folder, name));

    if (!head)
        return missing(found, err, talk->request->source.url, kind, name);
    return fetch_head(talk, head, name, found, err);
}

/* What HEAD points to, where the remote says so; its name becomes part of the revision. */
static int fetch_default(struct talk *talk, struct fl_git_found *found, struct fl_error *err)
{
    const git_remote_head *head = find_head(talk, "HEAD");
    const char *target = head ? head->symref_target : NULL, *label = "HEAD";

    if (!head)
        return missing(found, err, talk->request->source.url, "commit on its default branch", "");
    if (target && fl_str_has_prefix(target, "refs/heads/") && strlen(target) < 256 &&
        find_head(talk, target))
        label = target + strlen("refs/heads/");
    return fetch_head(talk, head, label, found, err);
}

/* All commits that branches and tags of the remote point to. */
static size_t collect_tips(const struct talk *talk, git_oid *tips)
{
    size_t count = 0;

    for (size_t i = 0; i < talk->head_count && count < TIPS_MAX; i++) {
        git_object *object = NULL, *commit = NULL;

        if (git_object_lookup(&object, talk->repository, &talk->heads[i]->oid, GIT_OBJECT_ANY) ==
                0 &&
            git_object_peel(&commit, object, GIT_OBJECT_COMMIT) == 0)
            tips[count++] = *git_object_id(commit);
        git_object_free(commit);
        git_object_free(object);
    }
    return count;
}

static bool is_reachable(const struct talk *talk, const git_oid *id)
{
    size_t room = talk->head_count < TIPS_MAX ? talk->head_count : TIPS_MAX;
    git_oid *tips = fl_new_array(talk->arena, git_oid, room + 1);
    size_t count = collect_tips(talk, tips);

    for (size_t i = 0; i < count; i++)
        if (git_oid_equal(&tips[i], id))
            return true;
    return count > 0 && git_graph_reachable_from_any(talk->repository, id, tips, count) == 1;
}

static bool is_pinned(const struct talk *talk, const git_oid *id)
{
    git_oid pinned;

    return git_reference_name_to_id(&pinned, talk->repository, PINNED_REF) == 0 &&
           git_oid_equal(&pinned, id);
}

/* Servers need not give out a commit that no reference names, so all branches and tags are fetched
 * and it is looked for there. Once found it is pinned: its content cannot change. */
static int fetch_commit(struct talk *talk, struct fl_git_found *found, struct fl_error *err)
{
    char *all[] = {(char *)"refs/heads/*:refs/flops/heads/*",
                   (char *)"refs/tags/*:refs/flops/tags/*"};
    const char *hex = talk->request->source.commit;
    git_oid id;
    int r;

    if (git_oid_fromstr(&id, hex) < 0)
        return fl_error_set(err, FL_E_INVALID, "%s is no commit id", hex);
    if (!is_pinned(talk, &id)) {
        r = download(talk, all, FL_COUNT_OF(all), false, err);
        if (r < 0)
            return r;
        if (!is_reachable(talk, &id))
            return missing(found, err, talk->request->source.url, "branch or tag with the commit ",
                           hex);
        r = keep(talk, PINNED_REF, &id, err);
        if (r < 0)
            return r;
    }
    found->revision = revision_of(talk, "", &id);
    return peel(talk, &id, hex, found, err);
}

static int fetch_wanted(struct talk *talk, struct fl_git_found *found, struct fl_error *err)
{
    const struct fl_source_request *source = &talk->request->source;

    if (source->branch)
        return fetch_named(talk, "branch ", "heads", source->branch, found, err);
    if (source->tag)
        return fetch_named(talk, "tag ", "tags", source->tag, found, err);
    if (source->commit)
        return fetch_commit(talk, found, err);
    return fetch_default(talk, found, err);
}

int fl_git_remote_fetch(git_repository *repository, const struct fl_git_request *request,
                        const struct fl_git_url *url, struct fl_arena *arena,
                        struct fl_git_found *ret_found, struct fl_error *err)
{
    struct talk talk = {.repository = repository, .request = request, .url = url, .arena = arena};
    int r = connect_remote(&talk, err);

    if (r == 0)
        r = fetch_wanted(&talk, ret_found, err);
    git_remote_free(talk.remote);
    return r;
}
