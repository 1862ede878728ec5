/* Requests as users write them in a GitSync: what passes the check names one remote, no option of
 * a program, no way out of the repository, and no password for those who listen. */
#include "controller/source/git_internal.h"

#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool promise)
{
    if (!promise)
        abort();
}

static void check(const struct fl_source_request *request, const struct fl_git_url *url)
{
    bool is_file = url->scheme == FL_GIT_FILE;
    bool is_plain = url->scheme == FL_GIT_HTTP || url->scheme == FL_GIT_PLAIN;

    must(is_file ? *url->path == '/' : *url->host && *url->host != '-');
    must(!url->user || (*url->user != '-' && !strchr(url->user, ':')));
    must(url->scheme != FL_GIT_SSH || (request->known_hosts && request->identity));
    must(!is_plain || fl_git_url_is_loopback(url) ||
         (request->allowed_signer_count > 0 && !request->password));
    must(!request->path || (*request->path != '/' && !fl_streq(request->path, "..") &&
                            !strstr(request->path, "/../")));
    must(!!request->branch + !!request->tag + !!request->commit <= 1);
    must(!request->commit || strlen(request->commit) == 40);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON value = NULL;
    struct fl_git_request request;
    struct fl_git_url url;

    if (fl_json_parse((const char *)data, size, NULL, NULL, NULL, &value, NULL) < 0 ||
        fl_git_request_decode(value, arena, &request, NULL) < 0)
        return 0;
    (void)fl_git_request_digest(&request.source, arena);
    if (fl_git_request_check(&request, arena, &url, NULL) == 0)
        check(&request.source, &url);
    return 0;
}
