/* Headers and small documents as a hostile registry may send them: whatever comes, the parsers stay
 * within their input, and what they accept keeps its promises. */
#include "lib/oci/registry_parse.h"
#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void check_url(struct fl_arena *arena, const struct fl_registry_url *url)
{
    const char *text =
        fl_arena_printf(arena, "%s%s", fl_registry_url_origin(arena, url), url->target);
    struct fl_registry_url again;

    check(url->target[0] == '/' && url->port > 0 && *url->host);
    check(!strpbrk(url->target, " \r\n\t#\"\\") && !strpbrk(url->host, "/?#@ \r\n"));
    if (strlen(text) > 4000) /* near the bound the added port may be too much */
        return;
    check(fl_registry_url_parse(arena, text, &again));
    check(fl_registry_url_same_origin(url, &again) && fl_streq(url->target, again.target));
}

static void try_challenges(struct fl_arena *arena, const char *text)
{
    struct fl_challenges found;

    fl_challenges_find(arena, fl_arena_printf(arena, "WWW-Authenticate: %s", text), &found);
    check(found.count <= FL_CHALLENGES_MAX);
    for (size_t i = 0; i < found.count; i++)
        check(*found.items[i].scheme && strlen(found.items[i].scheme) <= FL_CHALLENGE_TEXT_MAX &&
              (!found.items[i].realm || strlen(found.items[i].realm) <= FL_CHALLENGE_TEXT_MAX));
}

static void try_addresses(struct fl_arena *arena, const char *text)
{
    struct fl_registry_url base, url;

    if (fl_registry_url_parse(arena, text, &url))
        check_url(arena, &url);
    check(fl_registry_url_parse(arena, "https://h:5000/a/b?c", &base));
    if (fl_registry_url_resolve(arena, &base, text, &url))
        check_url(arena, &url);
}

static void try_ranges(const char *text)
{
    int64_t first, last, size;

    if (fl_registry_kept_parse(text, &size))
        check(size > 0);
    if (fl_registry_content_range_parse(text, &first, &last, &size))
        check(first >= 0 && first <= last && (size < 0 || last < size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text = fl_arena_strndup(arena, (const char *)data, size), *line;
    struct fl_registry_token token;

    try_challenges(arena, text);
    try_addresses(arena, text);
    try_ranges(text);
    (void)fl_registry_next_link(arena, text);
    if (fl_registry_token_parse(arena, text, strlen(text), &token, NULL) == 0)
        check(*token.text && !strpbrk(token.text, " \r\n") && token.valid_seconds >= 0 &&
              token.valid_seconds <= 86400);
    line = fl_registry_error_text(arena, text, strlen(text));
    if (line)
        check(strlen(line) <= 300 && !strpbrk(line, "\r\n\t\033"));
    return 0;
}
