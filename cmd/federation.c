#include "cmd/federation.h"

#include "reconcilers/federation/federation_http.h"

int fl_federation_open(const struct fl_env *env, struct fl_blobs *content,
                       void (*changed)(void *user, const char *ns, const char *project), void *user,
                       struct fl_federation_driver **ret_driver, struct fl_error *err)
{
    const struct fl_federation_http_options options = {
        .env = env, .content = content, .changed = changed, .user = user};

    return fl_federation_http_create(&options, ret_driver, err);
}

void fl_federation_close(struct fl_federation_driver *driver)
{
    if (driver)
        driver->ops->destroy(driver);
}
