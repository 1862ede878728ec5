/* /version, /metrics, /healthz, /livez, /readyz. */
#ifndef FL_CONTROLLER_APISERVER_HEALTH_H
#define FL_CONTROLLER_APISERVER_HEALTH_H

#include "controller/apiserver/internal.h"

bool fl_handle_health(struct fl_request *request, const char *path);

#endif
