/* What a URL says, read by ourselves before libgit2 sees it: which rules hold depends on it. */
#include "controller/source/git_internal.h"

#include "lib/str.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>

#define URL_MAX 2048

static const struct {
    const char *prefix;
    enum fl_git_scheme scheme;
} schemes[] = {
    {"https://", FL_GIT_HTTPS}, {"http://", FL_GIT_HTTP}, {"ssh://", FL_GIT_SSH},
    {"git://", FL_GIT_PLAIN},   {"file://", FL_GIT_FILE},
};

/* "user@host:port", "[::1]:22": the user and the host. */
static int split_authority(const char *text, size_t len, struct fl_arena *arena,
                           struct fl_git_url *url, struct fl_error *err)
{
    const char *at = memrchr(text, '@', len), *host = at ? at + 1 : text, *end = text + len;
    const char *close = *host == '[' ? memchr(host, ']', (size_t)(end - host)) : NULL;
    const char *colon = memchr(close ? close : host, ':', (size_t)(end - (close ? close : host)));

    if (at)
        url->user = fl_arena_strndup(arena, text, (size_t)(at - text));
    if (url->user && strchr(url->user, ':'))
        return fl_error_set(err, FL_E_INVALID,
                            "the URL carries a password: put it in the credentials' Secret");
    end = close ? close : colon ? colon : end;
    host += close ? 1 : 0;
    url->host = fl_arena_strndup(arena, host, (size_t)(end - host));
    if (!*url->host || *url->host == '-' || (url->user && *url->user == '-'))
        return fl_error_set(err, FL_E_INVALID, "the URL names no host");
    return 0;
}

static int parse_file(const char *rest, struct fl_arena *arena, struct fl_git_url *url,
                      struct fl_error *err)
{
    url->host = "";
    url->path = fl_url_decode(arena, rest, strlen(rest), false);
    if (!url->path || *url->path != '/')
        return fl_error_set(err, FL_E_INVALID, "a file URL has the form file:///FOLDER");
    return 0;
}

static int parse_short(const char *text, struct fl_arena *arena, struct fl_git_url *url,
                       struct fl_error *err)
{
    const char *colon = strchr(text, ':');

    if (!colon || !memchr(text, '@', (size_t)(colon - text)) || strstr(text, "://"))
        return fl_error_set(err, FL_E_INVALID,
                            "the URL is none of https, ssh, git, file and user@host:path");
    url->scheme = FL_GIT_SSH;
    return split_authority(text, (size_t)(colon - text), arena, url, err);
}

static bool is_printable(const char *text)
{
    for (; *text; text++)
        if (!isgraph((unsigned char)*text))
            return false;
    return true;
}

int fl_git_url_parse(const char *text, struct fl_arena *arena, struct fl_git_url *ret_url,
                     struct fl_error *err)
{
    *ret_url = (struct fl_git_url){.host = ""};
    if (strlen(text) > URL_MAX || !is_printable(text))
        return fl_error_set(err, FL_E_INVALID, "the URL is too long or has blanks in it");
    for (size_t i = 0; i < FL_COUNT_OF(schemes); i++) {
        const char *rest = text + strlen(schemes[i].prefix);

        if (!fl_str_has_prefix(text, schemes[i].prefix))
            continue;
        ret_url->scheme = schemes[i].scheme;
        if (ret_url->scheme == FL_GIT_FILE)
            return parse_file(rest, arena, ret_url, err);
        return split_authority(rest, strcspn(rest, "/"), arena, ret_url, err);
    }
    return parse_short(text, arena, ret_url, err);
}

bool fl_git_url_is_loopback(const struct fl_git_url *url)
{
    return fl_streq(url->host, "localhost") || fl_streq(url->host, "127.0.0.1") ||
           fl_streq(url->host, "::1");
}

/* The kept repositories are other people's, private ones among them. */
static int check_file(const char *path, const char *data_dir, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *real = realpath(path, NULL);
    FL_CLEANUP(fl_freep) char *kept = NULL;

    if (!real)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s: %s", path, strerror(errno));
    kept = data_dir ? realpath(data_dir, NULL) : NULL;
    if (kept && fl_str_has_prefix(real, kept) &&
        (real[strlen(kept)] == '/' || real[strlen(kept)] == '\0'))
        return fl_error_set(err, FL_E_FORBIDDEN, "%s is in the control plane's own data", path);
    return 0;
}

/* Without encryption anybody on the way could put in manifests of their own, and read what is sent:
 * so it must be this machine, or a signature must vouch for what came. */
static int check_plain(const struct fl_source_request *request, const struct fl_git_url *url,
                       struct fl_error *err)
{
    if (fl_git_url_is_loopback(url))
        return 0;
    if (request->allowed_signer_count == 0)
        return fl_error_set(err, FL_E_INVALID,
                            "%s is not encrypted: use https or ssh, or let verify.allowedSigners "
                            "vouch for the commits",
                            request->url);
    if (request->username || request->password)
        return fl_error_set(err, FL_E_INVALID,
                            "%s is not encrypted: a password is sent over https only",
                            request->url);
    return 0;
}

/* Markers are refused because libssh2, which compares the keys, knows nothing of them. */
static int check_ssh(const struct fl_source_request *request, struct fl_error *err)
{
    if (!request->known_hosts || !*request->known_hosts)
        return fl_error_set(err, FL_E_INVALID,
                            "the host's key cannot be checked: put known_hosts (the output of "
                            "`ssh-keyscan HOST`, compared with what the host's owner says) in the "
                            "credentials' Secret");
    if (*request->known_hosts == '@' || strstr(request->known_hosts, "\n@"))
        return fl_error_set(err, FL_E_INVALID,
                            "known_hosts: lines with @revoked or @cert-authority are not "
                            "understood; list the host's own key");
    if (!request->identity || !*request->identity)
        return fl_error_set(err, FL_E_INVALID,
                            "ssh asks for a key: put identity (a private key without a passphrase) "
                            "in the credentials' Secret");
    return 0;
}

/* Names that libgit2 or a remote's rules would read as something else. */
static int check_ref(const char *what, const char *name, struct fl_error *err)
{
    if (!name)
        return 0;
    if (!*name || strlen(name) > 255 || strpbrk(name, " ~^:?*[\\") || !is_printable(name) ||
        strstr(name, "..") || strstr(name, "@{"))
        return fl_error_set(err, FL_E_INVALID, "%s \"%.255s\" is no name of one", what, name);
    return 0;
}

static int check_commit(const char *commit, struct fl_error *err)
{
    if (!commit)
        return 0;
    if (strlen(commit) == 64)
        return fl_error_set(err, FL_E_INVALID, "SHA-256 repositories cannot be read yet");
    if (strlen(commit) != 40 || strspn(commit, "0123456789abcdef") != 40)
        return fl_error_set(err, FL_E_INVALID, "commit: 40 lower-case hexadecimal digits");
    return 0;
}

static int check_path(const char *path, struct fl_error *err)
{
    for (const char *part = path; part && *part; part += strspn(part, "/")) {
        size_t len = strcspn(part, "/");

        if (*part == '/' || (len == 2 && memcmp(part, "..", 2) == 0))
            return fl_error_set(err, FL_E_INVALID, "path %s leads out of the repository", path);
        part += len;
    }
    return 0;
}

static int check_refs(const struct fl_source_request *request, struct fl_error *err)
{
    int r;

    if (!!request->branch + !!request->tag + !!request->commit > 1)
        return fl_error_set(err, FL_E_INVALID, "at most one of branch, tag and commit");
    r = check_ref("branch", request->branch, err);
    if (r == 0)
        r = check_ref("tag", request->tag, err);
    if (r == 0)
        r = check_commit(request->commit, err);
    return r == 0 ? check_path(request->path, err) : r;
}

int fl_git_request_check(const struct fl_git_request *request, struct fl_arena *arena,
                         struct fl_git_url *ret_url, struct fl_error *err)
{
    int r = fl_git_url_parse(request->source.url, arena, ret_url, err);

    if (r == 0)
        r = check_refs(&request->source, err);
    if (r < 0)
        return r;
    switch (ret_url->scheme) {
    case FL_GIT_FILE:
        return check_file(ret_url->path, request->data_dir, err);
    case FL_GIT_SSH:
        return check_ssh(&request->source, err);
    case FL_GIT_HTTP:
    case FL_GIT_PLAIN:
        return check_plain(&request->source, ret_url, err);
    case FL_GIT_HTTPS:
        break;
    }
    return 0;
}
