/* `flops top`: what becomes of all that was declared, as it happens. */
#include "cmd/client.h"
#include "cmd/command.h"
#include "cmd/discovery.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "cmd/screen.h"
#include "cmd/top_layout.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/terminal.h"

#include <stdio.h>
#include <unistd.h>

static const char help[] =
    "Usage: flops top [options]\n\n"
    "A live view of projects with their rounds, aggregators and learners, and of inference\n"
    "servers. Where the output is no terminal: one picture of it, as plain lines.\n\n"
    "  -A, --all-namespaces\n"
    "  -w, --watch             plain lines, and then one for each change, until it is stopped\n"
    "      --once              one picture, on a terminal too\n"
    "      --workloads         every workload; otherwise only those that have trouble\n" //
    FL_CLIENT_HELP "\nKeys:\n"
    "  q           ends it\n"
    "  w           every workload, or only those that have trouble\n"
    "  arrows, page up and down, home, end; also j, k, space, g, G\n"
    "\nExit status: 0; 1 failed; 2 wrong usage; 130 after Ctrl-C.\n";

#define RESOURCE(kind)                                                                             \
    {                                                                                              \
        .group = "flops.dev", .version = "v1alpha1", .plural = (kind), .namespaced = true          \
    }
static const struct fl_api_resource resources[FL_TOP_KINDS] = {
    [FL_TOP_PROJECTS] = RESOURCE("flprojects"),
    [FL_TOP_ROUNDS] = RESOURCE("flrounds"),
    [FL_TOP_WORKLOADS] = RESOURCE("workloads"),
    [FL_TOP_SERVERS] = RESOURCE("inferenceservers"),
};

struct command;

/* Whom a watcher tells. */
struct source {
    struct command *command;
    enum fl_top_kind kind;
    struct fl_watcher *watcher;
};

struct command {
    struct fl_client_flags flags;
    bool all_namespaces, watch, once;

    struct fl_arena *arena;
    struct fl_client *client;
    struct fl_loop *loop;
    struct fl_http_async *async;
    struct fl_top *top;
    struct fl_top_view view;
    struct fl_screen *screen; /* NULL: plain lines */
    struct source sources[FL_TOP_KINDS];
    struct fl_map *said; /* the last line about an object, by its uid */
    bool pictured;       /* the first picture was printed: from now on changes are */
    struct fl_error err;
    int status;
};

static void finish(struct command *command)
{
    fl_screen_destroy(command->screen);
    for (size_t i = 0; i < FL_TOP_KINDS; i++)
        fl_watcher_destroy(command->sources[i].watcher);
    fl_http_async_destroy(command->async);
    fl_loop_destroy(command->loop);
    fl_top_destroy(command->top);
    fl_map_destroy(command->said);
    fl_arena_destroy(command->arena);
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(command->flags),
        {"all-namespaces", 'A', FL_OPTION_FLAG, &command->all_namespaces},
        {"watch", 'w', FL_OPTION_FLAG, &command->watch},
        {"once", 0, FL_OPTION_FLAG, &command->once},
        {"workloads", 0, FL_OPTION_FLAG, &command->view.workloads},
    };
    const struct fl_options options = {"top", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("top", "unexpected argument \"%s\"", words.items[0]);
    if (command->watch && command->once)
        return fl_command_usage("top", "--watch and --once exclude each other");
    return -1;
}

static void end(void *user, int status)
{
    struct command *command = user;

    command->status = status;
    fl_loop_stop(command->loop);
}

static void fail(struct command *command, const struct fl_error *err)
{
    command->err = *err;
    end(command, 1);
}

/* Plain lines */

static void print(struct command *command, const struct fl_buf *text)
{
    (void)fwrite(fl_buf_text(text), 1, text->len, stdout);
    if (fflush(stdout) != 0) /* nobody reads any more */
        end(command, 1);
}

static void print_picture(struct command *command)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};

    command->view.now_us = fl_realtime_us(&command->client->env);
    fl_top_header(command->top, &command->view, &text);
    fl_top_body(command->top, &command->view, &text);
    print(command, &text);
    command->pictured = true;
    if (!command->watch)
        end(command, 0);
}

static bool all_listed(const struct command *command)
{
    for (int kind = 0; kind < FL_TOP_KINDS; kind++) {
        const char *why;
        const enum fl_watcher_state state =
            fl_top_state(command->top, (enum fl_top_kind)kind, &why);

        if (state == FL_WATCHER_NEW || state == FL_WATCHER_LOST)
            return false;
    }
    return true;
}

/* What is printed of an object is remembered: what changes that is not shown is no news. */
static void tell_change(struct command *command, enum fl_top_kind kind, const json_t *object)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};
    const char *uid = fl_str_or(fl_json_str(object, "metadata.uid"), "");

    fl_top_line(kind, object, command->all_namespaces, &line);
    if (fl_streq(fl_map_get(command->said, uid), fl_buf_text(&line)))
        return;
    fl_map_put(command->said, uid, fl_strdup(fl_buf_text(&line)));
    if (!command->pictured)
        return;
    fl_buf_putc(&line, '\n');
    print(command, &line);
}

static void tell_end(void *user, const json_t *object)
{
    static const char *const words[] = {"project", "round", "workload", "server"};
    FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};
    struct source *source = user;
    struct command *command = source->command;

    (void)fl_map_remove(command->said, fl_str_or(fl_json_str(object, "metadata.uid"), ""));
    fl_buf_printf(&line, "%s %s: gone\n", words[source->kind],
                  fl_str_or(fl_json_str(object, "metadata.name"), ""));
    if (command->pictured)
        print(command, &line);
}

/* What watchers tell */

static void on_begin(void *user)
{
    struct source *source = user;

    fl_top_begin(source->command->top, source->kind);
}

static void on_object(void *user, const json_t *object)
{
    struct source *source = user;
    struct command *command = source->command;
    const json_t *kept = fl_top_put(command->top, source->kind, object);

    if (command->screen)
        fl_screen_changed(command->screen);
    else if (command->watch && kept)
        tell_change(command, source->kind, kept);
}

static void on_end(void *user)
{
    struct source *source = user;

    fl_top_end(source->command->top, source->kind, source->command->watch ? tell_end : NULL,
               source);
}

static void on_gone(void *user, const json_t *object)
{
    struct source *source = user;
    struct command *command = source->command;

    fl_top_remove(command->top, source->kind, object);
    if (command->screen)
        fl_screen_changed(command->screen);
    else if (command->watch)
        tell_end(source, object);
}

/* A server that was never reached, or projects that may not be seen, are the end of it; all else is
 * said and goes on. */
static void on_state(void *user, enum fl_watcher_state state, const struct fl_error *why)
{
    struct source *source = user;
    struct command *command = source->command;
    const char *old_why;
    const enum fl_watcher_state old = fl_top_state(command->top, source->kind, &old_why);

    fl_top_set_state(command->top, source->kind, state, why ? why->msg : NULL);
    if (why && ((state == FL_WATCHER_LOST && old == FL_WATCHER_NEW) ||
                (state == FL_WATCHER_REFUSED && source->kind == FL_TOP_PROJECTS)))
        fail(command, why);
    else if (command->screen)
        fl_screen_changed(command->screen);
    else if (!command->pictured && all_listed(command))
        print_picture(command);
    else if (why && command->pictured && state != old)
        (void)fprintf(stderr, "flops top: %s: %s\n", resources[source->kind].plural, why->msg);
}

static const struct fl_watcher_events events = {on_begin, on_object, on_end, on_gone, on_state};

/* A live view */

static void paint(void *user, size_t columns, struct fl_buf *header, struct fl_buf *body)
{
    struct command *command = user;

    command->view.width = columns;
    command->view.now_us = fl_realtime_us(&command->client->env);
    fl_top_header(command->top, &command->view, header);
    fl_top_body(command->top, &command->view, body);
}

static bool key(void *user, int key)
{
    struct command *command = user;

    if (key != 'w')
        return false;
    command->view.workloads = !command->view.workloads;
    return true;
}

static int open_screen(struct command *command, struct fl_error *err)
{
    const struct fl_screen_options options = {
        .loop = command->loop,
        .env = &command->client->env,
        .paint = paint,
        .key = key,
        .end = end,
        .user = command,
        .hint = "q quit  w workloads",
        .utf8 = command->view.utf8,
        .colors = command->view.colors,
    };

    if (command->once || command->watch || !fl_terminal_can_draw(STDOUT_FILENO))
        return 0;
    return fl_screen_create(&options, &command->screen, err);
}

static void start_watchers(struct command *command)
{
    for (int kind = 0; kind < FL_TOP_KINDS; kind++) {
        struct source *source = &command->sources[kind];
        const struct fl_watcher_options options = {
            .loop = command->loop,
            .async = command->async,
            .client = command->client,
            .resource = &resources[kind],
            .ns = command->all_namespaces ? NULL : command->client->ns,
            .events = &events,
            .user = source,
        };

        *source = (struct source){.command = command, .kind = (enum fl_top_kind)kind};
        source->watcher = fl_watcher_create(&options);
    }
}

static int start(struct command *command, struct fl_error *err)
{
    struct fl_http_async_options options = {0};
    int r = fl_loop_create(&command->loop, err);

    options.loop = command->loop;
    if (r == 0)
        r = fl_http_async_create(&options, &command->async, err);
    if (r == 0)
        r = open_screen(command, err);
    if (r == 0)
        start_watchers(command);
    return r;
}

static void begin(struct command *command)
{
    command->top = fl_top_create();
    command->said = fl_map_create(free);
    command->view.utf8 = fl_terminal_is_utf8();
    command->view.colors = fl_output_has_colors(STDOUT_FILENO);
    command->view.with_namespace = command->all_namespaces;
    command->view.where =
        fl_arena_printf(command->arena, "%s at %s",
                        command->all_namespaces ? "all namespaces" : command->client->ns,
                        command->client->config.server);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(finish) struct command command = {.arena = fl_arena_create()};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (fl_client_open("top", &command.flags, command.arena, &command.client, &command.err) < 0)
        return fl_command_fail("top", &command.err);
    begin(&command);
    if (start(&command, &command.err) == 0)
        fl_loop_run(command.loop);
    fl_screen_destroy(FL_TAKE(command.screen)); /* before anything is said */
    return command.err.code ? fl_command_fail("top", &command.err) : command.status;
}

const struct fl_command fl_command_top = {"top", "projects, rounds and servers, live", run};
