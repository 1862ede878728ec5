/* What pip says when it finds nothing, in one line that tells what to change. */
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include "lib/str.h"

#include <string.h>

/* The text behind `begin` and before `end`, where both are there. */
static const char *between(struct fl_arena *arena, const char *text, const char *begin,
                           const char *end)
{
    const char *from = strstr(text, begin), *to;

    if (!from)
        return NULL;
    from += strlen(begin);
    to = strstr(from, end);
    return to ? fl_arena_strndup(arena, from, (size_t)(to - from)) : NULL;
}

int fl_packages_explain_pip(struct fl_arena *arena, const char *said, const char *platform,
                            const char *python_version, struct fl_error *err)
{
    const char *requirement = between(arena, said, "satisfies the requirement ", " (from versions");
    const char *conflict =
        between(arena, said, "Cannot install ", " because these package versions");
    const char *colon = strstr(said, ": ");

    if (requirement && strstr(said, "(from versions: none"))
        return fl_error_set(err, FL_E_INVALID,
                            "%.200s " FL_NO_WHEEL
                            "%s and Python %s: there is no such package, or it has to be compiled",
                            requirement, platform, python_version);
    if (requirement)
        return fl_error_set(err, FL_E_INVALID,
                            "nothing fulfils %.200s for %s and Python %s: other versions have "
                            "wheels, this one has none",
                            requirement, platform, python_version);
    if (conflict)
        return fl_error_set(err, FL_E_INVALID, "these cannot be had together: %.300s", conflict);
    return fl_error_set(err, FL_E_INVALID, "pip: %.400s", colon ? colon + 2 : said);
}

bool fl_packages_is_offline(const char *errors)
{
    return strstr(errors, "WARNING: Retrying (Retry(") != NULL;
}
