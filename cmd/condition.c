#include "cmd/condition.h"

#include "lib/str.h"

static const json_t *find(const json_t *object, const char *type)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(object, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), type))
            return condition;
    return NULL;
}

const char *fl_condition(const json_t *object, const char *type, const char *field)
{
    return json_string_value(json_object_get(find(object, type), field));
}

bool fl_condition_is_true(const json_t *object, const char *type)
{
    return fl_streq(fl_condition(object, type, "status"), "True");
}

bool fl_condition_is_current(const json_t *object, const char *type)
{
    const json_t *condition = find(object, type);
    const int64_t generation = fl_json_int(object, "metadata.generation", 0);
    const int64_t observed =
        fl_json_int(condition, "observedGeneration",
                    fl_json_int(object, "status.observedGeneration", generation));

    return fl_condition_is_true(object, type) && observed >= generation;
}
