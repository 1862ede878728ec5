#include "controller/apiserver/health.h"

static const char *const checks[] = {"ping", "store", "not-draining"};

static bool is_healthy(const struct fl_request *request, const char *check)
{
    if (strcmp(check, "not-draining") == 0)
        return !request->server->draining;
    return true; /* the server answers: its loop runs, its store is loaded */
}

static bool known_check(const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(checks); i++)
        if (strcmp(checks[i], name) == 0)
            return true;
    return false;
}

/* Draining says "not ready", not "not alive". */
static bool counts_for(const char *endpoint, const char *check)
{
    return strcmp(endpoint, "/readyz") == 0 || strcmp(check, "not-draining") != 0;
}

static void respond_checks(struct fl_request *request, const char *endpoint)
{
    bool verbose = fl_request_param(request, "verbose") != NULL, healthy = true;
    struct fl_buf text;

    fl_buf_init(&text, 0);
    for (size_t i = 0; i < FL_COUNT_OF(checks); i++) {
        bool ok = is_healthy(request, checks[i]);

        if (!counts_for(endpoint, checks[i]))
            continue;
        healthy = healthy && ok;
        fl_buf_printf(&text, ok ? "[+]%s ok\n" : "[-]%s failed\n", checks[i]);
    }
    fl_buf_printf(&text, "%s check %s\n", endpoint + 1, healthy ? "passed" : "failed");
    if (healthy && !verbose)
        fl_respond_text(request, 200, "ok");
    else
        fl_respond_text(request, healthy ? 200 : 500, text.data);
    fl_buf_finish(&text);
}

static bool respond_health(struct fl_request *request, const char *path)
{
    static const char *const endpoints[] = {"/healthz", "/livez", "/readyz"};

    for (size_t i = 0; i < FL_COUNT_OF(endpoints); i++) {
        size_t len = strlen(endpoints[i]);

        if (strncmp(path, endpoints[i], len) != 0)
            continue;
        if (!path[len]) {
            respond_checks(request, endpoints[i]);
            return true;
        }
        if (path[len] == '/' && known_check(path + len + 1)) {
            bool ok = is_healthy(request, path + len + 1);

            fl_respond_text(request, ok ? 200 : 500, ok ? "ok" : "failed");
            return true;
        }
    }
    return false;
}

/* The Kubernetes version whose API this is; clients compare it with their own. */
static void respond_version(struct fl_request *request)
{
    FL_JSON value = json_pack("{s:s, s:s, s:s+, s:s, s:s, s:s, s:s, s:s, s:s}", "major", "1",
                              "minor", "32", "gitVersion", "v1.32.0+flops.",
                              request->server->version, "gitCommit", request->server->version,
                              "gitTreeState", "clean", "buildDate", "1970-01-01T00:00:00Z",
                              "goVersion", "none", "compiler", "gcc", "platform", "linux/amd64");

    fl_respond_json(request, 200, value);
}

static void respond_metrics(struct fl_request *request)
{
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_metrics_write(request->server, &buf);
    fl_respond_buf(request, 200, "text/plain; version=0.0.4; charset=utf-8", &buf);
}

bool fl_handle_health(struct fl_request *request, const char *path)
{
    if (strcmp(path, "/version") == 0)
        respond_version(request);
    else if (strcmp(path, "/metrics") == 0)
        respond_metrics(request);
    else
        return respond_health(request, path);
    return true;
}
