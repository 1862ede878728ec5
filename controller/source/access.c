#include "controller/source/access.h"

#include "controller/runtime/reconcile.h"
#include "lib/str.h"

bool fl_source_is_local(const char *url)
{
    return fl_str_has_prefix(url, "dir:") || fl_str_has_prefix(url, "file:");
}

bool fl_source_may_be_read(const char *url, const char *ns)
{
    return !fl_source_is_local(url) || fl_streq(ns, FL_SYSTEM_NAMESPACE);
}

void fl_source_take_credentials(struct fl_source_request *request, const json_t *secret,
                                struct fl_arena *arena)
{
    request->username = fl_secret_text(arena, secret, "username");
    request->password = fl_secret_text(arena, secret, "password");
    request->identity = fl_secret_text(arena, secret, "identity");
    request->known_hosts = fl_secret_text(arena, secret, "known_hosts");
    request->ca_pem = fl_secret_text(arena, secret, "ca.crt");
}
