/* `flops describe`: an object, its state and what happened to it, on one page. */
#include "cmd/command.h"
#include "cmd/describe_text.h"
#include "cmd/event_list.h"
#include "cmd/target.h"
#include "lib/str.h"

#include <stdio.h>

static const char help[] =
    "Usage: flops describe TYPE [NAME…] | TYPE/NAME… [options]\n\n"
    "Shows objects for people: what they are, how they are, and what happened to them. Of Secrets\n"
    "only the sizes.\n\n"
    "  -A, --all-namespaces\n"
    "  -l, --selector SEL     by labels\n"
    "      --show-events=false\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops describe flp fashion\n"
    "  flops describe flr -l flops.dev/project=fashion\n"
    "\nExit status: 0; 1 something was not there or refused; 2 wrong usage.\n";

struct describe {
    struct fl_client_flags flags;
    bool all_namespaces, show_events;
    const char *selector;

    struct fl_arena *arena;
    struct fl_client *client;
    int status;
    bool printed;
};

static void describe_finish(struct describe *describe)
{
    fl_arena_destroy(describe->arena);
}

static int parse(struct describe *describe, int argc, char **argv, struct fl_words *words)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(describe->flags),
        {"all-namespaces", 'A', FL_OPTION_FLAG, &describe->all_namespaces},
        {"selector", 'l', FL_OPTION_TEXT, &describe->selector},
        {"show-events", 0, FL_OPTION_FLAG, &describe->show_events},
    };
    struct fl_options options = {"describe", help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, describe->arena, argc, argv, words);

    if (status >= 0)
        return status;
    if (words->count == 0)
        return fl_command_usage("describe", "say what: TYPE [NAME…] or TYPE/NAME…");
    return -1;
}

static void describe_object(struct describe *describe, const struct fl_api_resource *resource,
                            const json_t *object)
{
    FL_JSON copy = json_copy((json_t *)object);
    FL_JSON events = NULL;
    struct fl_buf out;

    fl_discovery_complete(resource, copy);
    if (describe->show_events)
        (void)fl_events_get(describe->client, fl_json_str(object, "metadata.namespace"),
                            fl_events_selector(describe->arena, resource->kind,
                                               fl_json_str(object, "metadata.name"),
                                               fl_json_str(object, "metadata.uid")),
                            &events, NULL);
    fl_buf_init(&out, 0);
    if (describe->printed)
        fl_buf_puts(&out, "\n\n");
    describe->printed = true;
    fl_describe_write(&out, copy, events, fl_realtime_us(&describe->client->env));
    (void)fwrite(fl_buf_text(&out), 1, out.len, stdout);
    fl_buf_finish(&out);
}

static int describe_target(struct describe *describe, const struct fl_target *target,
                           struct fl_error *err)
{
    struct fl_list_query query = {.ns = describe->all_namespaces ? NULL : describe->client->ns,
                                  .label_selector = describe->selector,
                                  .chunk_size = 500};
    FL_JSON answer = NULL;
    json_t *item;
    size_t i;
    int r;

    if (target->name) {
        r = fl_client_get(
            describe->client,
            fl_client_path(describe->client, target->resource, describe->client->ns, target->name),
            NULL, &answer, err);
        if (r == 0)
            describe_object(describe, target->resource, answer);
        return r;
    }
    r = fl_client_list(describe->client, target->resource, &query, &answer, err);
    json_array_foreach(r == 0 ? json_object_get(answer, "items") : NULL, i, item)
        describe_object(describe, target->resource, item);
    return r;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(describe_finish)
    struct describe describe = {.arena = fl_arena_create(), .show_events = true};
    struct fl_words words = {0};
    struct fl_targets targets = {0};
    struct fl_error err = {0};
    int status = parse(&describe, argc, argv, &words);

    if (status >= 0)
        return status;
    if (fl_client_open("describe", &describe.flags, describe.arena, &describe.client, &err) < 0)
        return fl_command_fail("describe", &err);
    if (fl_discovery_load(describe.client, false, &err) < 0 ||
        fl_targets_parse(describe.client->discovery, &words, &targets, &err) < 0)
        return fl_client_report(describe.client, NULL, &err);
    for (size_t i = 0; i < targets.count; i++)
        if (describe_target(&describe, &targets.items[i], &err) < 0)
            describe.status = fl_client_report(describe.client, NULL, &err);
    if (!describe.printed && describe.status == 0)
        (void)fprintf(stderr, "No resources found\n");
    return describe.status;
}

const struct fl_command fl_command_describe = {"describe", "show one object for people", run};
