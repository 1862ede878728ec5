/* `flops wait`: until objects have come to a state, with a deadline. */
#include "cmd/command.h"
#include "cmd/follow.h"
#include "cmd/target.h"
#include "cmd/wait_for.h"
#include "lib/str.h"

#include <stdio.h>
#include <unistd.h>

static const char help[] =
    "Usage: flops wait TYPE/NAME… | TYPE NAME… | TYPE -l SELECTOR | TYPE --all --for=WHAT\n\n"
    "Waits until each object has come to a state.\n\n"
    "      --for WHAT            condition=TYPE[=STATUS]   (status True where none is said)\n"
    "                            jsonpath='{PATH}'[=VALUE] (without a value: it is there)\n"
    "                            delete, create\n"
    "      --timeout D           for all of them together (default 30s; 0: look once)\n"
    "  -l, --selector SEL        by labels\n"
    "      --field-selector SEL  by fields\n"
    "      --all                 all of the type in the namespace\n"
    "  -A, --all-namespaces      with -l or --all\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops wait flp/fashion --for=condition=Ready --timeout=10m\n"
    "  flops wait flp/fashion --for=jsonpath='{.status.currentRound}'=10\n"
    "  flops wait flr -l flops.dev/project=fashion --for=delete\n"
    "\nExit status: 0; 1 not in time, or refused; 2 wrong usage.\n";

struct waiting {
    struct fl_client_flags flags;
    bool all, all_namespaces;
    const char *selector, *field_selector, *what;
    int64_t timeout_ms;

    struct fl_arena *arena;
    struct fl_client *client;
    struct fl_wait_for goal;
    int64_t deadline_ms;
    int status;
    size_t found;
};

/* One object that is waited for. */
struct subject {
    struct waiting *waiting;
    const char *text; /* "flproject.flops.dev/fashion" */
    const struct fl_api_resource *resource;
    const char *name;
    bool seen, listed;
    char last[FL_WAIT_TEXT_SIZE];
};

static void waiting_finish(struct waiting *waiting)
{
    fl_wait_for_finish(&waiting->goal);
    fl_arena_destroy(waiting->arena);
}

static int parse(struct waiting *waiting, int argc, char **argv, struct fl_words *words)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(waiting->flags),
        {"for", 0, FL_OPTION_TEXT, &waiting->what},
        {"timeout", 0, FL_OPTION_DURATION, &waiting->timeout_ms},
        {"selector", 'l', FL_OPTION_TEXT, &waiting->selector},
        {"field-selector", 0, FL_OPTION_TEXT, &waiting->field_selector},
        {"all", 0, FL_OPTION_FLAG, &waiting->all},
        {"all-namespaces", 'A', FL_OPTION_FLAG, &waiting->all_namespaces},
    };
    struct fl_options options = {"wait", help, items, FL_COUNT_OF(items)};
    struct fl_error err = {0};
    int status = fl_options_parse(&options, waiting->arena, argc, argv, words);

    if (status >= 0)
        return status;
    if (words->count == 0)
        return fl_command_usage("wait", "say for what object: TYPE/NAME");
    if (!waiting->what)
        return fl_command_usage("wait", "say until when: --for=condition=Ready");
    if (fl_wait_for_parse(waiting->arena, waiting->what, &waiting->goal, &err) < 0)
        return fl_command_usage("wait", "%s", err.msg);
    return -1;
}

/* > 0: the goal is reached. */
static int judge(struct subject *subject, const json_t *object)
{
    char text[FL_WAIT_TEXT_SIZE] = "";
    bool met = fl_wait_for_is_met(&subject->waiting->goal, object, text);

    if (!met && isatty(STDERR_FILENO) && strcmp(text, subject->last) != 0)
        (void)fprintf(stderr, "%s: %s\n", subject->text, text);
    memcpy(subject->last, text, sizeof(text));
    return met;
}

static int on_change(void *user, const char *event, json_t *object, struct fl_error *err)
{
    struct subject *subject = user;
    enum fl_wait_kind kind = subject->waiting->goal.kind;
    bool first = !subject->listed;
    int r;

    subject->listed = true;
    if (strcmp(event, "LIST") == 0)
        object = json_array_get(json_object_get(object, "items"), 0);
    else if (strcmp(event, "DELETED") == 0)
        object = NULL;
    r = judge(subject, object);
    if (r > 0 || object || kind == FL_WAIT_CREATE)
        return r;
    if (first)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s \"%s\" not found", subject->resource->plural,
                            subject->name);
    return fl_error_set(err, FL_E_NOT_FOUND, "it was deleted");
}

static void wait_for(struct waiting *waiting, const struct fl_api_resource *resource,
                     const char *ns, const char *name)
{
    struct subject subject = {.waiting = waiting,
                              .text = fl_target_text(waiting->arena, resource, name),
                              .resource = resource,
                              .name = name};
    struct fl_follow follow = {
        .resource = resource,
        .query = {.ns = ns, .field_selector = fl_follow_name(waiting->client, name, NULL)},
        .deadline_ms = waiting->deadline_ms,
    };
    struct fl_error err = {0};
    int r = fl_follow(waiting->client, &follow, on_change, &subject, &err);

    waiting->found++;
    if (r > 0) {
        (void)printf("%s condition met\n", subject.text);
        (void)fflush(stdout);
        return;
    }
    if (r == FL_E_TIMEOUT) {
        waiting->client->status = NULL;
        (void)fl_error_set(&err, r, "not in time: %s",
                           *subject.last ? subject.last : "the server did not answer");
    }
    waiting->status = fl_client_report(waiting->client, subject.text, &err);
}

/* All that are chosen now. */
static int wait_for_chosen(struct waiting *waiting, const struct fl_api_resource *resource,
                           struct fl_error *err)
{
    struct fl_list_query query = {.ns = waiting->all_namespaces ? NULL : waiting->client->ns,
                                  .label_selector = waiting->selector,
                                  .field_selector = waiting->field_selector,
                                  .chunk_size = 500};
    FL_JSON list = NULL;
    json_t *item;
    size_t i;
    int r = fl_client_list(waiting->client, resource, &query, &list, err);

    if (r < 0)
        return r;
    json_array_foreach(json_object_get(list, "items"), i, item)
        wait_for(waiting, resource, fl_json_str(item, "metadata.namespace"),
                 fl_str_or(fl_json_str(item, "metadata.name"), ""));
    return 0;
}

static int wait_for_all(struct waiting *waiting, const struct fl_words *words, struct fl_error *err)
{
    bool chosen = waiting->all || waiting->selector || waiting->field_selector;
    struct fl_targets targets = {0};
    int r = fl_targets_parse(waiting->client->discovery, words, &targets, err);

    for (size_t i = 0; r == 0 && i < targets.count; i++)
        if (!targets.items[i].name != chosen)
            return fl_error_set(err, FL_E_BAD_REQUEST,
                                "name the objects, or choose them with -l or --all");
    for (size_t i = 0; r == 0 && i < targets.count; i++) {
        if (chosen)
            r = wait_for_chosen(waiting, targets.items[i].resource, err);
        else
            wait_for(waiting, targets.items[i].resource, waiting->client->ns,
                     targets.items[i].name);
    }
    if (r == 0 && waiting->found == 0 && waiting->goal.kind != FL_WAIT_DELETE)
        return fl_error_set(err, FL_E_NOT_FOUND, "no such objects");
    return r;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(waiting_finish)
    struct waiting waiting = {.arena = fl_arena_create(), .timeout_ms = 30000};
    struct fl_words words = {0};
    struct fl_error err = {0};
    int status = parse(&waiting, argc, argv, &words);

    if (status >= 0)
        return status;
    if (fl_client_open("wait", &waiting.flags, waiting.arena, &waiting.client, &err) < 0)
        return fl_command_fail("wait", &err);
    if (waiting.timeout_ms < waiting.client->request_timeout_ms)
        waiting.client->request_timeout_ms = waiting.timeout_ms > 1000 ? waiting.timeout_ms : 1000;
    waiting.deadline_ms = fl_monotonic_ms(&waiting.client->env) + waiting.timeout_ms;
    if (fl_discovery_load(waiting.client, false, &err) < 0 ||
        wait_for_all(&waiting, &words, &err) < 0)
        return fl_client_report(waiting.client, NULL, &err);
    return waiting.status;
}

const struct fl_command fl_command_wait = {"wait", "wait until objects have a state", run};
