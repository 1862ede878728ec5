#include "cmd/client.h"

#include "cmd/command.h"
#include "cmd/discovery.h"
#include "lib/str.h"

#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_REQUEST_MS 30000
#define PAGES_MAX          100000

static void destroy_http(void *user)
{
    fl_http_client_destroy(user);
}

int fl_client_open(const char *command, const struct fl_client_flags *flags, struct fl_arena *arena,
                   struct fl_client **ret_client, struct fl_error *err)
{
    struct fl_client *client = fl_new(arena, struct fl_client);
    struct fl_config *config = &client->config;
    struct fl_http_client_options options = {0};
    int r = fl_config_load(arena, flags, config, err);

    if (r < 0)
        return r;
    client->command = command;
    client->arena = arena;
    client->env = fl_env_real(NULL);
    client->ns = flags->ns ? flags->ns : config->ns;
    client->ns_is_chosen = flags->ns != NULL;
    client->request_timeout_ms =
        flags->request_timeout_ms > 0 ? flags->request_timeout_ms : DEFAULT_REQUEST_MS;
    options = (struct fl_http_client_options){
        .base_url = config->server,
        .ca_file = config->ca_file,
        .ca_pem = config->ca_pem,
        .cert_file = config->cert_file,
        .cert_pem = config->cert_pem,
        .key_file = config->key_file,
        .key_pem = config->key_pem,
        .bearer_token = config->token,
        .insecure = config->insecure,
        .user_agent = fl_arena_printf(arena, "flops/%s", fl_version()),
        .connect_timeout_ms = client->request_timeout_ms < 10000 ? client->request_timeout_ms : 0,
        .max_response_bytes = FL_ANSWER_MAX_BYTES,
    };
    r = fl_http_client_create(&options, &client->http, err);
    if (r < 0)
        return fl_error_wrap(err, "%s", config->path);
    fl_arena_on_reset(arena, destroy_http, client->http);
    *ret_client = client;
    return 0;
}

static int parse(const char *text, size_t len, json_t **ret_value, struct fl_error *err)
{
    struct fl_json_limits limits = {.max_bytes = FL_ANSWER_MAX_BYTES};
    int r = fl_json_parse(text, len, &limits, NULL, NULL, ret_value, err);

    return r < 0 ? fl_error_wrap(err, "the server's answer") : 0;
}

int fl_client_refused(struct fl_client *client, int http_status, const struct fl_bytes *body,
                      struct fl_error *err)
{
    json_t *status = NULL;
    const char *message;

    client->status = NULL;
    if (body && parse(body->data, body->len, &status, NULL) == 0)
        fl_json_in_arena(client->arena, status);
    message = fl_json_str(status, "message");
    if (!fl_streq(fl_json_str(status, "kind"), "Status") || !message)
        return fl_error_set(err, fl_error_from_status(NULL, http_status),
                            "%s answered with HTTP status %d", client->config.server, http_status);
    client->status = status;
    return fl_error_set(err, fl_error_from_status(fl_json_str(status, "reason"), http_status), "%s",
                        message);
}

/* Warning: 299 - "text" */
static void show_warnings(const char *headers)
{
    const char *line = headers;

    while (line && *line) {
        size_t len = strcspn(line, "\n");

        if (strncasecmp(line, "Warning: 299", 12) == 0) {
            const char *open = memchr(line, '"', len);

            (void)fputs(isatty(STDERR_FILENO) ? "\033[33mWarning:\033[0m " : "Warning: ", stderr);
            for (const char *c = open ? open + 1 : line; c < line + len && *c != '"'; c++) {
                if (*c == '\\' && c + 1 < line + len)
                    c++;
                (void)fputc(*c, stderr);
            }
            (void)fputc('\n', stderr);
        }
        line += len + (line[len] == '\n');
    }
}

int fl_client_call(struct fl_client *client, const struct fl_http_call *call, int *ret_http,
                   json_t **ret_value, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    FL_CLEANUP(fl_freep) char *headers = NULL;
    struct fl_http_call timed = *call;
    int http = 0, r;

    client->status = NULL;
    timed.timeout_ms = client->request_timeout_ms;
    if (!timed.accept)
        timed.accept = "application/json";
    r = fl_http_call(client->http, &timed, &http, &body, &headers, err);
    if (r < 0)
        return r;
    show_warnings(headers);
    if (ret_http)
        *ret_http = http;
    if (http >= 300)
        return fl_client_refused(client, http, body, err);
    return ret_value ? parse(body->data, body->len, ret_value, err) : 0;
}

int fl_client_get(struct fl_client *client, const char *target, const char *accept,
                  json_t **ret_value, struct fl_error *err)
{
    struct fl_http_call call = {.method = "GET", .target = target, .accept = accept};

    return fl_client_call(client, &call, NULL, ret_value, err);
}

char *fl_client_path(struct fl_client *client, const struct fl_api_resource *resource,
                     const char *ns, const char *name)
{
    struct fl_arena *arena = client->arena;
    char *path = *resource->group
                     ? fl_arena_printf(arena, "/apis/%s/%s", resource->group, resource->version)
                     : fl_arena_printf(arena, "/api/%s", resource->version);

    if (resource->namespaced && ns)
        path = fl_arena_printf(arena, "%s/namespaces/%s", path, fl_url_encode(arena, ns));
    path = fl_arena_printf(arena, "%s/%s", path, resource->plural);
    return name ? fl_arena_printf(arena, "%s/%s", path, fl_url_encode(arena, name)) : path;
}

char *fl_client_query(struct fl_client *client, const char *target, const char *key,
                      const char *value)
{
    if (!value)
        return (char *)target;
    return fl_arena_printf(client->arena, "%s%c%s=%s", target, strchr(target, '?') ? '&' : '?', key,
                           fl_url_encode(client->arena, value));
}

/* Adds the rows or items of a later page to the first. */
static void add_page(json_t *list, const json_t *page)
{
    const char *key = json_object_get(list, "rows") ? "rows" : "items";
    json_t *all = json_object_get(list, key);

    if (json_is_array(all))
        (void)json_array_extend(all, json_object_get(page, key));
    else
        (void)json_object_set(list, key, json_object_get(page, key));
}

int fl_client_list(struct fl_client *client, const struct fl_api_resource *resource,
                   const struct fl_list_query *query, json_t **ret_list, struct fl_error *err)
{
    const char *path = fl_client_path(client, resource, query->ns, NULL), *more = NULL;
    FL_JSON list = NULL;
    bool whole = query->chunk_size <= 0;

    path = fl_client_query(client, path, "labelSelector", query->label_selector);
    path = fl_client_query(client, path, "fieldSelector", query->field_selector);
    path = fl_client_query(client, path, "includeObject", query->include_object);
    for (int pages = 0; pages < PAGES_MAX; pages++) {
        FL_JSON page = NULL;
        const char *target = path;
        int r;

        if (!whole)
            target = fl_client_query(
                client, target, "limit",
                fl_arena_printf(client->arena, "%lld", (long long)query->chunk_size));
        target = fl_client_query(client, target, "continue", more);
        r = fl_client_get(client, target, query->accept, &page, err);
        if (r == FL_E_EXPIRED && more) { /* too slow for it: all of it at once */
            json_decref(FL_TAKE(list));
            more = NULL;
            whole = true;
            continue;
        }
        if (r < 0)
            return r;
        more = fl_json_str(page, "metadata.continue");
        more = more && *more ? fl_arena_strdup(client->arena, more) : NULL;
        if (list)
            add_page(list, page);
        else
            list = FL_TAKE(page);
        if (!more) {
            *ret_list = FL_TAKE(list);
            return 0;
        }
    }
    return fl_error_set(err, FL_E_TOO_LARGE, "the list has no end");
}

int fl_client_report(struct fl_client *client, const char *where, const struct fl_error *err)
{
    const json_t *causes = fl_json_path(client->status, "details.causes");
    const char *message = client->status ? fl_json_str(client->status, "message") : err->msg;
    const char *many = json_array_size(causes) > 1 ? strstr(message, " is invalid: ") : NULL;
    int len = many ? (int)(many - message) + 12 : (int)strlen(message);
    json_t *cause;
    size_t i;

    (void)fprintf(stderr, "flops %s: ", client->command);
    if (where)
        (void)fprintf(stderr, "%s: ", where);
    (void)fprintf(stderr, "%.*s\n", len, message);
    if (!many)
        return 1;
    json_array_foreach((json_t *)causes, i, cause) {
        (void)fprintf(stderr, "  %s: %s\n", fl_str_or(fl_json_str(cause, "field"), "?"),
                      fl_str_or(fl_json_str(cause, "message"), ""));
    }
    return 1;
}

void fl_client_pause(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&time, NULL);
}
