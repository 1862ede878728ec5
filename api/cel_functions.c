#include "api/cel_internal.h"
#include "lib/str.h"

/* What can be called: functions by name, kind and types, macros by shape. */

static const struct cel_function *const libraries[] = {
    fl_cel_standard_functions, fl_cel_time_functions,         fl_cel_string_functions,
    fl_cel_format_functions,   fl_cel_regex_functions,        fl_cel_list_functions,
    fl_cel_optional_functions, fl_cel_quantity_functions,     fl_cel_url_functions,
    fl_cel_net_functions,      fl_cel_named_format_functions,
};

bool fl_cel_is_function(const char *name, bool member)
{
    for (size_t l = 0; l < FL_COUNT_OF(libraries); l++) {
        for (const struct cel_function *f = libraries[l]; f->name; f++) {
            if (f->member == member && !strcmp(f->name, name))
                return true;
        }
    }
    return false;
}

int fl_cel_find_function(struct fl_arena *arena, const char *name, bool member,
                         const struct cel_type *const *types, size_t count,
                         const struct cel_function **ret_function, const struct cel_type **ret_type)
{
    bool known = false;

    for (size_t l = 0; l < FL_COUNT_OF(libraries); l++) {
        for (const struct cel_function *f = libraries[l]; f->name; f++) {
            const struct cel_type *type;

            if (strcmp(f->name, name) != 0)
                continue;
            known = true;
            type = f->member == member ? fl_cel_type_call(arena, f->signature, types, count) : NULL;
            if (type) {
                *ret_function = f;
                *ret_type = type;
                return 1;
            }
        }
    }
    return known ? -1 : 0;
}

/* Macros by name, number of arguments (without the receiver) and number of variables. */
static const struct cel_macro_shape macros[] = {
    {"all", 2, 1, CEL_ALL, false},
    {"exists", 2, 1, CEL_EXISTS, false},
    {"exists_one", 2, 1, CEL_EXISTS_ONE, false},
    {"existsOne", 2, 1, CEL_EXISTS_ONE, false},
    {"map", 2, 1, CEL_TRANSFORM_LIST, false},
    {"map", 3, 1, CEL_TRANSFORM_LIST, true},
    {"filter", 2, 1, CEL_TRANSFORM_LIST, true},
    {"all", 3, 2, CEL_ALL, false},
    {"exists", 3, 2, CEL_EXISTS, false},
    {"existsOne", 3, 2, CEL_EXISTS_ONE, false},
    {"exists_one", 3, 2, CEL_EXISTS_ONE, false},
    {"transformList", 3, 2, CEL_TRANSFORM_LIST, false},
    {"transformList", 4, 2, CEL_TRANSFORM_LIST, true},
    {"transformMap", 3, 2, CEL_TRANSFORM_MAP, false},
    {"transformMap", 4, 2, CEL_TRANSFORM_MAP, true},
    {"transformMapEntry", 3, 2, CEL_TRANSFORM_MAP_ENTRY, false},
    {"transformMapEntry", 4, 2, CEL_TRANSFORM_MAP_ENTRY, true},
    {"optMap", 2, 1, CEL_OPT_MAP, false},
    {"optFlatMap", 2, 1, CEL_OPT_FLAT_MAP, false},
};

const struct cel_macro_shape *fl_cel_find_macro(const struct cel_node *call)
{
    for (size_t i = 0; i < FL_COUNT_OF(macros); i++) {
        if (macros[i].args == call->count - 1 && !strcmp(macros[i].name, call->name))
            return &macros[i];
    }
    return NULL;
}
