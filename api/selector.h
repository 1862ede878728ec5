/* Label and field selectors, in the forms that the API's query parameters have.
 *
 * A selector lives in the arena it was parsed into. Bounded: 16 KiB of text, 256 requirements. */
#ifndef FL_API_SELECTOR_H
#define FL_API_SELECTOR_H

#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>

struct fl_selector;

/* "a=b,c!=d,e in (f,g),h notin (i),j,!k,n>5" (also "=="). Empty text selects everything and gives
 * NULL. BAD_REQUEST with the reason. */
int fl_label_selector_parse(struct fl_arena *arena, const char *text,
                            struct fl_selector **ret_selector, struct fl_error *err);
/* The object form in specs: {matchLabels, matchExpressions}. */
int fl_label_selector_from_json(struct fl_arena *arena, const json_t *value,
                                struct fl_selector **ret_selector, struct fl_error *err);
/* "metadata.name=x,spec.y!=z"; '\\', ',' and '=' are escaped by '\\'. */
int fl_field_selector_parse(struct fl_arena *arena, const char *text,
                            struct fl_selector **ret_selector, struct fl_error *err);

/* `get(user, key)` gives the value of a label or field, NULL where it is absent (for a field that
 * is the empty text). A NULL selector matches everything. */
bool fl_selector_matches(const struct fl_selector *selector,
                         const char *(*get)(void *user, const char *key), void *user);

/* The keys it asks for, to refuse unknown fields; and the value it demands of one ("=" only), or
 * NULL. */
size_t fl_selector_keys(const struct fl_selector *selector, const char *const **ret_keys);
const char *fl_selector_exact(const struct fl_selector *selector, const char *key);

#endif
