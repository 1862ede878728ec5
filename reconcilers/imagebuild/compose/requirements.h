/* requirements.txt as strangers write it, made into one that pip may be given.
 *
 * pip's own reading of such a file is far more than a list of names: lines are options that lead to
 * other files and servers, paths whose setup.py is run, ${NAMES} of its environment; a comment may
 * name another encoding, and a dozen characters end a line. None of this is for a control plane. So
 * pip never sees the file: it gets what is understood here, and what is not is refused by line. */
#ifndef FL_RECONCILERS_REQUIREMENTS_H
#define FL_RECONCILERS_REQUIREMENTS_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stddef.h>

/* NAME [EXTRAS] [VERSIONS] [; MARKER] [--hash=…], a line each, comments and continuations resolved,
 * lines numbered as they were. Arena. INVALID names the line. */
int fl_requirements_clean(struct fl_arena *arena, const char *text, size_t len,
                          const char **ret_clean, struct fl_error *err);

#endif
