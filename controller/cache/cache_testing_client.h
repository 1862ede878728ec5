/* A client around a driver's table, as much of one as the cache needs. */
#ifndef FL_CONTROLLER_CACHE_TESTING_CLIENT_H
#define FL_CONTROLLER_CACHE_TESTING_CLIENT_H

#include "controller/client/client.h"

struct fl_apiclient {
    const struct fl_apiclient_ops *ops;
    void *self;
};

struct fl_apiclient_watch {
    struct fl_apiclient *client;
    void *watch;
};

struct fl_apiclient *fl_apiclient_create(const struct fl_env *env,
                                         const struct fl_apiclient_ops *ops, void *self)
{
    struct fl_apiclient *client = fl_calloc(1, sizeof(*client));

    (void)env;
    *client = (struct fl_apiclient){ops, self};
    return client;
}

void fl_apiclient_destroy(struct fl_apiclient *client)
{
    if (client)
        client->ops->destroy(client->self);
    free(client);
}

int fl_apiclient_list_objects(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                              struct fl_list *ret_list, struct fl_error *err)
{
    return client->ops->list(client->self, gvr, ns, ret_list, err);
}

int fl_apiclient_watch(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                       uint64_t revision, void (*wake)(void *user), void *user,
                       struct fl_apiclient_watch **ret_watch, struct fl_error *err)
{
    struct fl_apiclient_watch *watch = fl_calloc(1, sizeof(*watch));
    int r;

    watch->client = client;
    r = client->ops->watch(client->self, gvr, ns, revision, wake, user, &watch->watch, err);
    if (r < 0) {
        free(watch);
        return r;
    }
    *ret_watch = watch;
    return 0;
}

int fl_apiclient_watch_next(struct fl_apiclient_watch *watch, struct fl_event *ret_event,
                            struct fl_error *err)
{
    return watch->client->ops->watch_next(watch->client->self, watch->watch, ret_event, err);
}

void fl_apiclient_watch_close(struct fl_apiclient_watch *watch)
{
    if (watch)
        watch->client->ops->watch_close(watch->client->self, watch->watch);
    free(watch);
}

#endif
