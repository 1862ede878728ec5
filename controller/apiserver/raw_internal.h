/* Raw paths, as request.c sees them. Loop thread. */
#ifndef FL_CONTROLLER_APISERVER_RAW_INTERNAL_H
#define FL_CONTROLLER_APISERVER_RAW_INTERNAL_H

#include "controller/apiserver/internal.h"
#include "controller/apiserver/raw.h"

const struct fl_apiserver_raw *fl_raw_find(const struct fl_apiserver *server,
                                           const char *path); /* or NULL */
/* Its body is about to come. `refusal` NULL: it is allowed. */
void fl_raw_begin(struct fl_request *request, const struct fl_apiserver_raw *owner,
                  const struct fl_error *refusal);
/* Whether this one was begun; then its body is in, and it is served. */
bool fl_raw_resume(struct fl_apiserver *server, const struct fl_http_request *http);
/* A failure in the words of the path's owner, or of the server where it has none. */
void fl_raw_refuse(struct fl_request *request, const struct fl_apiserver_raw *owner,
                   const struct fl_error *err);
/* Whether the path is somebody's; then it is served. */
bool fl_handle_raw(struct fl_request *request, const char *path);

#endif
