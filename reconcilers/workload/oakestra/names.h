/* Names on an Oakestra root: letters and digits, at most 30. Pure; any thread. */
#ifndef FL_RECONCILERS_OAKESTRA_NAMES_H
#define FL_RECONCILERS_OAKESTRA_NAMES_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define OAK_NAME_MAX  30
#define OAK_NAME_SIZE (OAK_NAME_MAX + 1)

bool oak_name_is_valid(const char *name);

/* "fl" and six characters that say whose it is: of one control plane's one Orchestrator. */
#define OAK_PREFIX_SIZE 9
void oak_prefix(const char *identity, const char *orchestrator, char out[OAK_PREFIX_SIZE]);

/* The application of a Workload: the prefix and 22 characters of its uid's SHA-256. */
void oak_app_name(const char *prefix, const char *uid, char out[OAK_NAME_SIZE]);

/* What the root keeps of the uid, so that it is known again without any record. */
const char *oak_app_desc(struct fl_arena *arena, const char *uid);
/* The uid, if the description is one of ours and leads to this name; else NULL. */
const char *oak_app_uid(struct fl_arena *arena, const char *prefix, const char *name,
                        const char *desc);

/* The service of a run: "i0r1". Nothing else ever has this name in its application. */
void oak_service_name(int64_t index, int64_t number, char out[OAK_NAME_SIZE]);
bool oak_service_parse(const char *name, int64_t *ret_index, int64_t *ret_number);

/* What a cluster's object is called: the cluster's name where that can be one (lower case, digits,
 * '-', at most 63), else something like it that is nobody else's. */
const char *oak_safe_name(struct fl_arena *arena, const char *name);

#endif
