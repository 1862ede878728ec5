/* JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch for built-in kinds.
 *
 * Pure functions on JSON values: the original is never changed, the result is new and the
 * caller's. Bounded: 10,000 operations, and copies may not grow the object past max_bytes. */
#ifndef FL_API_PATCH_H
#define FL_API_PATCH_H

#include "lib/error.h"
#include "lib/json.h"

/* BAD_REQUEST for what is no patch; INVALID for one that cannot be applied (test failed, path
 * missing), with the operation's index in the message. */
int fl_patch_json(const json_t *original, const json_t *patch, size_t max_bytes,
                  json_t **ret_result, struct fl_error *err);

/* Never fails but for a patch that is no object where the API needs one (BAD_REQUEST). */
int fl_patch_merge(const json_t *original, const json_t *patch, json_t **ret_result,
                   struct fl_error *err);

/* How a list of a built-in kind merges. `path` is the list's place ("metadata.ownerReferences"). */
struct fl_strategic_list {
    const char *path;
    const char *merge_key; /* NULL: a set of scalars */
};

/* Strategic merge: $patch: replace|delete|merge, $retainKeys, $setElementOrder/…,
 * $deleteFromPrimitiveList/…; lists not named in `lists` are replaced whole. */
int fl_patch_strategic(const json_t *original, const json_t *patch,
                       const struct fl_strategic_list *lists, size_t list_count,
                       json_t **ret_result, struct fl_error *err);

#endif
