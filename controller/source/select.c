#include "controller/source/select.h"

#include "lib/str.h"

bool fl_select_is_manifest(const char *path)
{
    return fl_str_has_suffix(path, ".yaml") || fl_str_has_suffix(path, ".yml") ||
           fl_str_has_suffix(path, ".json");
}

/* The places of the pattern that the path read so far may have led to. */
struct places {
    bool at[FL_SELECT_PATTERN_MAX + 1];
};

static size_t stars(const char *pattern, size_t i)
{
    return pattern[i] != '*' ? 0 : pattern[i + 1] == '*' ? 2 : 1;
}

/* Stars may stand for nothing, and the slash after "**" belongs to what that stands for. */
static void skip_stars(struct places *places, const char *pattern, size_t len, bool name_begins)
{
    for (size_t i = 0; i < len; i++) {
        size_t count = places->at[i] ? stars(pattern, i) : 0;

        if (count > 0)
            places->at[i + count] = true;
        if (count == 2 && pattern[i + 2] == '/' && name_begins && (i == 0 || pattern[i - 1] == '/'))
            places->at[i + 3] = true;
    }
}

static struct places take(const struct places *places, const char *pattern, size_t len, char c)
{
    struct places next = {0};

    for (size_t i = 0; i < len; i++) {
        size_t count = stars(pattern, i);

        if (!places->at[i])
            continue;
        if (count == 2 || (count == 1 && c != '/'))
            next.at[i] = true;
        else if (count == 0 && pattern[i] == c)
            next.at[i + 1] = true;
    }
    return next;
}

bool fl_select_matches(const char *pattern, const char *path)
{
    size_t len = strlen(pattern);
    struct places places = {.at = {true}};
    bool name_begins = true;

    if (len > FL_SELECT_PATTERN_MAX)
        return false;
    for (; *path; path++) {
        skip_stars(&places, pattern, len, name_begins);
        places = take(&places, pattern, len, *path);
        name_begins = *path == '/';
    }
    skip_stars(&places, pattern, len, name_begins);
    return places.at[len];
}

bool fl_select_is_excluded(const char *path, const char *const *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fl_select_matches(patterns[i], path))
            return true;
    return false;
}
