/* Conditions of an object, as a client reads them. Pure; all is lent. */
#ifndef FL_CMD_CONDITION_H
#define FL_CMD_CONDITION_H

#include "lib/json.h"

/* Its "status", "reason" or "message"; NULL without such a condition. */
const char *fl_condition(const json_t *object, const char *type, const char *field);
bool fl_condition_is_true(const json_t *object, const char *type);
/* True, and said of the object as it is declared now. */
bool fl_condition_is_current(const json_t *object, const char *type);

#endif
