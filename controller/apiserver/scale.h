/* The scale subresource: autoscaling/v1 Scale, read from and written into an object. */
#ifndef FL_CONTROLLER_APISERVER_SCALE_H
#define FL_CONTROLLER_APISERVER_SCALE_H

#include "api/resource.h"
#include "lib/json.h"

json_t *fl_scale_from_object(const struct fl_resource *resource, const json_t *object);

/* A copy of `object` with the replicas of `scale`; CONFLICT where the scale's resourceVersion or
 * uid is another's. A negative number is a field error. */
int fl_scale_into_object(const struct fl_resource *resource, const json_t *scale,
                         const json_t *object, json_t **ret_object, struct fl_field_errors *errors,
                         struct fl_error *err);

#endif
