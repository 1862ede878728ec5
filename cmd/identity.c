#include "cmd/identity.h"

#include "lib/file.h"
#include "lib/str.h"

#include <unistd.h>

#define TEXT_MAX 512

static char *fresh(const struct fl_env *env)
{
    char host[256] = "localhost", uuid[FL_UUID_SIZE];

    if (gethostname(host, sizeof(host) - 1) != 0 || !fl_utf8_valid(host, strlen(host)))
        memcpy(host, "localhost", sizeof("localhost"));
    fl_uuid_v4(env, uuid);
    return fl_asprintf("%s_%s", host, uuid);
}

int fl_identity_ensure(const struct fl_env *env, const char *data_dir, char **ret_identity,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/identity", data_dir);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    FL_CLEANUP(fl_freep) char *identity = NULL;
    int r = fl_file_read(path, TEXT_MAX, &text, NULL);

    if (r == 0 && text->len > FL_UUID_SIZE && fl_utf8_valid(text->data, text->len)) {
        *ret_identity = fl_strndup(text->data, text->len);
        return 0;
    }
    identity = fresh(env);
    r = fl_file_write(path, identity, strlen(identity), 0600, err);
    if (r < 0)
        return r;
    *ret_identity = FL_TAKE(identity);
    return 0;
}
