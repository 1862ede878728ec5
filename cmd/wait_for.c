#include "cmd/wait_for.h"

#include "api/jsonpath.h"
#include "lib/str.h"

#include <stdio.h>
#include <strings.h>

static const char *unquoted(struct fl_arena *arena, const char *text)
{
    size_t len = strlen(text);

    if (len >= 2 && (text[0] == '"' || text[0] == '\'') && text[len - 1] == text[0])
        return fl_arena_strndup(arena, text + 1, len - 2);
    return fl_arena_strdup(arena, text);
}

/* "{.status.phase}=Running": the path ends with the last brace before an equals sign. */
static int parse_path(struct fl_arena *arena, const char *text, struct fl_wait_for *goal,
                      struct fl_error *err)
{
    struct fl_jsonpath_options options = {.allow_missing = true};
    const char *end = NULL;
    int r;

    if (*text == '{')
        for (const char *at = text; (at = strstr(at, "}=")); at++)
            end = at + 1;
    else
        end = strchr(text, '=');
    goal->path_text =
        end ? fl_arena_strndup(arena, text, (size_t)(end - text)) : fl_arena_strdup(arena, text);
    goal->value = end ? unquoted(arena, end + 1) : NULL;
    r = fl_jsonpath_compile(goal->path_text, &options, &goal->path, err);
    return r < 0 ? fl_error_wrap(err, "--for=jsonpath") : 0;
}

int fl_wait_for_parse(struct fl_arena *arena, const char *text, struct fl_wait_for *ret_goal,
                      struct fl_error *err)
{
    struct fl_wait_for goal = {0};
    int r = 0;

    if (strcmp(text, "delete") == 0) {
        goal.kind = FL_WAIT_DELETE;
    } else if (strcmp(text, "create") == 0) {
        goal.kind = FL_WAIT_CREATE;
    } else if (fl_str_has_prefix(text, "condition=") && text[10] && text[10] != '=') {
        const char *equals = strchr(text + 10, '=');

        goal.kind = FL_WAIT_CONDITION;
        goal.condition = fl_arena_strndup(
            arena, text + 10, equals ? (size_t)(equals - text - 10) : strlen(text + 10));
        goal.value = equals ? unquoted(arena, equals + 1) : "True";
    } else if (fl_str_has_prefix(text, "jsonpath=") && text[9]) {
        goal.kind = FL_WAIT_JSONPATH;
        r = parse_path(arena, text + 9, &goal, err);
    } else {
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "--for=%s: must be condition=TYPE[=STATUS], jsonpath='{PATH}'[=VALUE], "
                            "delete or create",
                            text);
    }
    if (r == 0)
        *ret_goal = goal;
    return r;
}

void fl_wait_for_finish(struct fl_wait_for *goal)
{
    fl_jsonpath_destroy(goal->path);
    goal->path = NULL;
}

static bool is_stale(const json_t *object, const json_t *condition)
{
    int64_t observed = fl_json_int(condition, "observedGeneration",
                                   fl_json_int(object, "status.observedGeneration", -2));

    return observed != -2 && observed < fl_json_int(object, "metadata.generation", 0);
}

static bool condition_is_met(const struct fl_wait_for *goal, const json_t *object,
                             char text[FL_WAIT_TEXT_SIZE])
{
    const char *status, *reason, *message;
    json_t *condition, *found = NULL;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition) {
        const char *type = fl_json_str(condition, "type");

        if (type && strcasecmp(type, goal->condition) == 0)
            found = condition;
    }
    if (!found) {
        (void)snprintf(text, FL_WAIT_TEXT_SIZE, "it has no condition %s", goal->condition);
        return false;
    }
    status = fl_str_or(fl_json_str(found, "status"), "?");
    reason = fl_str_or(fl_json_str(found, "reason"), "");
    message = fl_str_or(fl_json_str(found, "message"), "");
    (void)snprintf(text, FL_WAIT_TEXT_SIZE, "%s is %s%s%s%s%s%s%s", goal->condition, status,
                   *reason ? " (" : "", reason, *reason ? ")" : "", *message ? ": " : "", message,
                   is_stale(object, found) ? " (of an older generation)" : "");
    return strcasecmp(status, goal->value) == 0 && !is_stale(object, found);
}

static bool path_is_met(const struct fl_wait_for *goal, const json_t *object,
                        char text[FL_WAIT_TEXT_SIZE])
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const json_t *const *values;
    struct fl_buf buf;
    size_t count = 0;
    bool met;

    if (fl_jsonpath_eval(goal->path, object, arena, &values, &count, NULL) < 0)
        count = 0;
    if (count == 0) {
        (void)snprintf(text, FL_WAIT_TEXT_SIZE, "%s is not there", goal->path_text);
        return false;
    }
    fl_buf_init(&buf, 0);
    fl_jsonpath_print_value(&buf, values[0]);
    (void)snprintf(text, FL_WAIT_TEXT_SIZE, "%s is \"%s\"", goal->path_text, fl_buf_text(&buf));
    met = count == 1 && (!goal->value || strcmp(fl_buf_text(&buf), goal->value) == 0);
    met = met || (count > 1 && !goal->value);
    fl_buf_finish(&buf);
    return met;
}

static const char *holders(struct fl_arena *arena, const json_t *object)
{
    const char *all = "";
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.finalizers"), i, item)
        all = fl_arena_printf(arena, "%s%s%s", all, *all ? ", " : "",
                              fl_str_or(json_string_value(item), "?"));
    return *all ? all : "nothing";
}

static bool deletion_is_met(const json_t *object, char text[FL_WAIT_TEXT_SIZE])
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    if (!object)
        return true;
    if (fl_json_str(object, "metadata.deletionTimestamp"))
        (void)snprintf(text, FL_WAIT_TEXT_SIZE, "it is being deleted; finalizers: %s",
                       holders(arena, object));
    else
        (void)snprintf(text, FL_WAIT_TEXT_SIZE, "nobody has deleted it");
    return false;
}

bool fl_wait_for_is_met(const struct fl_wait_for *goal, const json_t *object,
                        char text[FL_WAIT_TEXT_SIZE])
{
    *text = '\0';
    if (goal->kind == FL_WAIT_DELETE)
        return deletion_is_met(object, text);
    if (!object) {
        (void)snprintf(text, FL_WAIT_TEXT_SIZE, "it does not exist");
        return false;
    }
    if (goal->kind == FL_WAIT_CREATE)
        return true;
    return goal->kind == FL_WAIT_CONDITION ? condition_is_met(goal, object, text)
                                           : path_is_met(goal, object, text);
}
