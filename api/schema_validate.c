/* Does a value keep to its schema? Messages, their order and what counts as the best of failed
 * alternatives follow Kubernetes' own validator, so that kubectl shows the same words.
 *
 * A first pass only counts and allocates nothing; the pass that words the errors runs where the
 * first found some. On an update that pass sees the old value too, and what is wrong in a part that
 * did not change is forgiven. */
#include "api/schema_internal.h"
#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* After so many patterns ran out of steps in one object, the others fail at once. */
#define EXHAUSTED_MAX 8u

struct run {
    struct fl_field_errors *errors; /* NULL: only count */
    const struct fl_schema_node *root, *metadata;
    unsigned exhausted;
};

/* How many complaints, and how many checks passed: the branch of an anyOf that came furthest is the
 * one whose complaints are shown. */
struct outcome {
    size_t errors, matches;
};

/* A place in the object: the value, the one it replaces (NULL: none), the names that lead there. */
struct place {
    const json_t *value, *old;
    const struct fl_schema_path *path;
};

static struct outcome check(struct run *run, const struct fl_schema_node *node, struct place place);

static void merge(struct outcome *into, struct outcome part)
{
    into->errors += part.errors;
    into->matches += part.matches;
}

static const char *name_of(struct run *run, const struct fl_schema_path *path)
{
    return fl_schema_path_text(run->errors->arena, path);
}

/* What an error quotes, made only for one. */
static json_t *integer_value(struct run *run, int64_t value)
{
    return fl_json_in_arena(run->errors->arena, json_integer(value));
}

static json_t *text_value(struct run *run, const char *text)
{
    return fl_json_in_arena(run->errors->arena, json_string(text));
}

#define COMPLAIN(run, outcome, type, path, value, ...)                                             \
    do {                                                                                           \
        (outcome)->errors++;                                                                       \
        if ((run)->errors)                                                                         \
            fl_schema_add((run)->errors, (type), (path), (value), __VA_ARGS__);                    \
    } while (0)

/* "spec.rounds in body …" with the words that follow. */
#define SENTENCE(run, outcome, place, value, fmt, ...)                                             \
    COMPLAIN(run, outcome, FL_FIELD_INVALID, (place).path, value, "%s in body " fmt,               \
             name_of(run, (place).path), __VA_ARGS__)

/* Types. */

static bool is_integral(double value)
{
    return isfinite(value) && fabs(value) <= 9007199254740991.0 && value == floor(value);
}

static bool has_type(const struct fl_schema_node *node, const json_t *value)
{
    switch (node->type) {
    case FL_SCHEMA_OBJECT:
        return json_is_object(value);
    case FL_SCHEMA_ARRAY:
        return json_is_array(value);
    case FL_SCHEMA_STRING:
        return json_is_string(value);
    case FL_SCHEMA_NUMBER:
        return json_is_number(value);
    case FL_SCHEMA_BOOLEAN:
        return json_is_boolean(value);
    case FL_SCHEMA_INTEGER:
    case FL_SCHEMA_INT_OR_STRING:
        return json_is_integer(value) ||
               (json_is_real(value) && is_integral(json_real_value(value))) ||
               (node->type == FL_SCHEMA_INT_OR_STRING && json_is_string(value));
    default:
        return true;
    }
}

static void complain_type(struct run *run, struct outcome *outcome, struct place place,
                          const char *wanted, const char *got)
{
    outcome->errors++;
    if (!run->errors)
        return;
    fl_field_error_add_text(run->errors, FL_FIELD_TYPE_INVALID, name_of(run, place.path),
                            fl_arena_printf(run->errors->arena, "\"%s\"", got),
                            "%s in body must be of type %s: \"%s\"", name_of(run, place.path),
                            wanted, got);
}

/* Where a format stands and the value is no text, it is the format that was missed. */
static bool misses_format(struct run *run, const struct fl_schema_node *node, struct place place,
                          struct outcome *outcome)
{
    if (!node->format || json_is_string(place.value) || json_is_array(place.value) ||
        json_is_null(place.value) || (node->type_name && has_type(node, place.value)))
        return false;
    complain_type(run, outcome, place, node->format_name,
                  json_is_integer(place.value) ? "int64"
                  : json_is_real(place.value)  ? "float64"
                                               : "");
    return true;
}

static void check_type(struct run *run, const struct fl_schema_node *node, struct place place,
                       struct outcome *outcome)
{
    bool is_null = json_is_null(place.value);

    if (misses_format(run, node, place, outcome))
        return;
    if (node->type_name && (is_null ? !node->nullable : !has_type(node, place.value)))
        complain_type(run, outcome, place, node->type_name, fl_json_type_name(place.value));
    else if (node->type_name || is_null || node->format)
        outcome->matches++;
}

/* Strings. */

static size_t characters(const json_t *value)
{
    return fl_utf8_count(json_string_value(value), json_string_length(value));
}

static bool matches_pattern(struct run *run, const struct fl_schema_node *node, const json_t *value)
{
    int r;

    if (run->exhausted >= EXHAUSTED_MAX)
        return false;
    r = fl_schema_pattern_match(node->pattern, json_string_value(value), json_string_length(value));
    run->exhausted += r < 0;
    return r > 0;
}

/* Only the first thing wrong with a string is told. */
static void check_string(struct run *run, const struct fl_schema_node *node, struct place place,
                         struct outcome *outcome)
{
    size_t bytes = json_string_length(place.value);

    outcome->matches++;
    if (node->max_length >= 0 && bytes > (uint64_t)node->max_length &&
        characters(place.value) > (uint64_t)node->max_length)
        COMPLAIN(run, outcome, FL_FIELD_TOO_LONG, place.path, NULL,
                 "may not be more than %" PRId64 " bytes", node->max_length);
    else if (node->min_length > 0 && characters(place.value) < (uint64_t)node->min_length)
        SENTENCE(run, outcome, place, place.value, "should be at least %" PRId64 " chars long",
                 node->min_length);
    else if (node->pattern && !matches_pattern(run, node, place.value))
        SENTENCE(run, outcome, place, place.value, "should match '%s'", node->pattern_text);
}

static void check_format(struct run *run, const struct fl_schema_node *node, struct place place,
                         struct outcome *outcome)
{
    outcome->matches++;
    if (fl_schema_format_matches(node->format, json_string_value(place.value),
                                 json_string_length(place.value)))
        return;
    outcome->errors++;
    if (run->errors) {
        struct fl_buf quoted;

        fl_buf_init(&quoted, 0);
        fl_field_value_write(&quoted, place.value);
        fl_schema_add(run->errors, FL_FIELD_TYPE_INVALID, place.path, place.value,
                      "%s in body must be of type %s: %s", name_of(run, place.path),
                      node->format_name, fl_buf_text(&quoted));
        fl_buf_finish(&quoted);
    }
}

/* Numbers. */

static void complain_bound(struct run *run, struct outcome *outcome, struct place place,
                           const char *words, double bound)
{
    struct fl_buf text;
    json_t *number;

    outcome->errors++;
    if (!run->errors)
        return;
    number = json_is_integer(place.value) && fabs(bound) < 9.2e18 && bound == floor(bound)
                 ? json_integer((json_int_t)bound)
                 : json_real(bound);
    fl_buf_init(&text, 0);
    fl_field_value_write(&text, number);
    json_decref(number);
    fl_schema_add(run->errors, FL_FIELD_INVALID, place.path, place.value,
                  "%s in body should be %s %s", name_of(run, place.path), words,
                  fl_buf_text(&text));
    fl_buf_finish(&text);
}

static bool is_multiple(const json_t *value, double factor)
{
    double number = json_number_value(value);

    if (factor <= 0)
        return false;
    if (json_is_integer(value) && factor == floor(factor) && factor < 9.2e18)
        return json_integer_value(value) % (json_int_t)factor == 0;
    number = factor < 1 ? 1 / factor * number : number / factor;
    return fabs(number - nearbyint(number)) <= 1e-9 * fmax(1, fabs(number)) &&
           fabs(number) <= 9007199254740991.0;
}

static void check_number(struct run *run, const struct fl_schema_node *node, struct place place,
                         struct outcome *outcome)
{
    long double number = json_is_integer(place.value) ? (long double)json_integer_value(place.value)
                                                      : (long double)json_real_value(place.value);

    outcome->matches += 2;
    if (node->has_multiple && !is_multiple(place.value, node->multiple))
        complain_bound(run, outcome, place, "a multiple of", node->multiple);
    if (node->has_min && (number < node->min || (node->exclusive_min && number == node->min)))
        complain_bound(run, outcome, place,
                       node->exclusive_min ? "greater than" : "greater than or equal to",
                       node->min);
    if (node->has_max && (number > node->max || (node->exclusive_max && number == node->max)))
        complain_bound(run, outcome, place,
                       node->exclusive_max ? "less than" : "less than or equal to", node->max);
}

/* Enumerations. */

static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_string(a) && json_is_string(b))
        return json_string_length(a) == json_string_length(b) &&
               memcmp(json_string_value(a), json_string_value(b), json_string_length(a)) == 0;
    if (json_is_number(a) && json_is_number(b) && json_typeof(a) != json_typeof(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static void complain_enum(struct run *run, const struct fl_schema_node *node, struct place place)
{
    struct fl_buf list;
    const json_t *allowed;
    size_t i;

    fl_buf_init(&list, 0);
    json_array_foreach(node->enumeration, i, allowed) {
        char *text = fl_json_to_string(run->errors->arena, allowed);
        json_t *quoted =
            json_is_string(allowed) ? json_incref((json_t *)allowed) : json_string(text);

        fl_buf_puts(&list, i ? ", " : "supported values: ");
        fl_field_value_write(&list, quoted);
        json_decref(quoted);
    }
    fl_schema_add(run->errors, FL_FIELD_NOT_SUPPORTED, place.path, place.value, "%s",
                  fl_buf_text(&list));
    fl_buf_finish(&list);
}

/* A null is in no enumeration, as the real server has it. */
static void check_enum(struct run *run, const struct fl_schema_node *node, struct place place,
                       struct outcome *outcome)
{
    const json_t *allowed;
    size_t i;

    json_array_foreach(node->enumeration, i, allowed) {
        if (!json_is_null(place.value) && same_value(place.value, allowed))
            return;
    }
    outcome->errors++;
    if (run->errors)
        complain_enum(run, node, place);
}

/* Lists. */

static void check_list(struct run *run, const struct fl_schema_node *node, struct place place,
                       struct outcome *outcome)
{
    int64_t count = (int64_t)json_array_size(place.value);
    const json_t *item;
    size_t i;

    outcome->matches += 2;
    if (node->items) {
        struct fl_schema_old_list before = fl_schema_old_list(node, place.old);

        json_array_foreach(place.value, i, item) {
            const json_t *old = fl_schema_old_element(&before, item, i);

            merge(outcome,
                  check(run, node->items, (struct place){item, old, FL_PATH_AT(place.path, i)}));
        }
        fl_schema_old_list_finish(&before);
    }
    if (node->min_items >= 0 && count < node->min_items)
        SENTENCE(run, outcome, place, integer_value(run, count),
                 "should have at least %" PRId64 " items", node->min_items);
    if (node->max_items >= 0 && count > node->max_items)
        COMPLAIN(run, outcome, FL_FIELD_TOO_MANY, place.path, integer_value(run, count),
                 "must have at most %" PRId64 " items", node->max_items);
}

/* Objects. */

static void check_required(struct run *run, const struct fl_schema_node *node, struct place place,
                           size_t seen, struct outcome *outcome)
{
    for (uint32_t i = 0; seen < node->required_properties && i < node->property_count; i++) {
        const struct fl_schema_property *property = &node->properties[i];

        if (property->required && !json_object_getn(place.value, property->key, property->key_len))
            COMPLAIN(run, outcome, FL_FIELD_REQUIRED, FL_PATH_CHILD(place.path, property->key),
                     NULL, "%s", "");
    }
    for (size_t i = 0; i < node->required_count; i++) {
        if (!json_object_get(place.value, node->required[i]))
            COMPLAIN(run, outcome, FL_FIELD_REQUIRED, FL_PATH_CHILD(place.path, node->required[i]),
                     NULL, "%s", "");
    }
}

/* What replaces the root's view of a member: metadata is checked elsewhere but for what the schema
 * itself says of it, and a change of apiVersion is not seen in the old object. */
static const struct fl_schema_node *
root_member(struct run *run, const char *key, const struct fl_schema_node *node, const json_t **old)
{
    if (fl_streq(key, "metadata"))
        return run->metadata;
    if (fl_streq(key, "kind") || fl_streq(key, "apiVersion"))
        *old = NULL;
    return node;
}

static void check_members(struct run *run, const struct fl_schema_node *node, struct place place,
                          struct outcome *outcome)
{
    const char *key;
    size_t len, seen = 0;
    json_t *member;

    json_object_keylen_foreach((json_t *)place.value, key, len, member) {
        const struct fl_schema_property *property = fl_schema_find_property(node, key, len);
        const struct fl_schema_node *child = property ? property->node : node->additional_node;
        const json_t *old = place.old && child ? json_object_getn(place.old, key, len) : NULL;

        seen += property && property->required;
        if (!property && node->additional == FL_ADDITIONAL_FORBIDDEN)
            COMPLAIN(run, outcome, FL_FIELD_INVALID, place.path, text_value(run, key),
                     "%s.%s in body is a forbidden property", name_of(run, place.path), key);
        if (node == run->root)
            child = root_member(run, key, child, &old);
        if (child)
            merge(outcome,
                  check(run, child, (struct place){member, old, FL_PATH_CHILD(place.path, key)}));
    }
    check_required(run, node, place, seen, outcome);
}

static void check_object(struct run *run, const struct fl_schema_node *node, struct place place,
                         struct outcome *outcome)
{
    int64_t count = (int64_t)json_object_size(place.value);

    outcome->matches++;
    if (node->min_properties >= 0 && count < node->min_properties)
        SENTENCE(run, outcome, place, integer_value(run, count),
                 "should have at least %" PRId64 " properties", node->min_properties);
    if (node->max_properties >= 0 && count > node->max_properties)
        COMPLAIN(run, outcome, FL_FIELD_TOO_MANY, place.path, integer_value(run, count),
                 "must have at most %" PRId64 " items", node->max_properties);
    check_members(run, node, place, outcome);
}

/* allOf, anyOf, oneOf, not. Branches are tried without words first; then the one that came furthest
 * is run once more to tell what was wrong with it. */

static struct outcome try_branch(struct run *run, const struct fl_schema_node *branch,
                                 struct place place)
{
    struct run quiet = {NULL, run->root, run->metadata, run->exhausted};
    struct outcome outcome = check(&quiet, branch, place);

    run->exhausted = quiet.exhausted;
    return outcome;
}

/* Complaints about the junction itself carry no field. */
#define JUNCTION(run, outcome, place, fmt, ...)                                                    \
    COMPLAIN(run, outcome, FL_FIELD_INVALID, NULL, text_value(run, ""), "\"%s\" must " fmt,        \
             name_of(run, (place).path), __VA_ARGS__)

static void check_any(struct run *run, const struct fl_schema_node *node, struct place place,
                      struct outcome *outcome)
{
    const struct fl_schema_node *best = NULL;
    struct outcome best_outcome = {0, 0};

    for (size_t i = 0; i < node->any_of.count; i++) {
        struct outcome tried = try_branch(run, node->any_of.items[i], place);

        if (tried.errors == 0) {
            outcome->matches += tried.matches;
            return;
        }
        if (!best || tried.matches > best_outcome.matches) {
            best = node->any_of.items[i];
            best_outcome = tried;
        }
    }
    JUNCTION(run, outcome, place, "validate at least one schema (anyOf)%s", "");
    if (best)
        merge(outcome, run->errors ? check(run, best, place) : best_outcome);
}

static void check_one(struct run *run, const struct fl_schema_node *node, struct place place,
                      struct outcome *outcome)
{
    const struct fl_schema_node *best = NULL;
    struct outcome best_outcome = {0, 0}, first = {0, 0};
    size_t valid = 0;

    for (size_t i = 0; i < node->one_of.count; i++) {
        struct outcome tried = try_branch(run, node->one_of.items[i], place);

        if (tried.errors == 0) {
            if (valid++ == 0)
                first = tried;
        } else if (!best || tried.matches > best_outcome.matches) {
            best = node->one_of.items[i];
            best_outcome = tried;
        }
    }
    if (valid == 1) {
        outcome->matches += first.matches;
    } else if (valid > 1) {
        JUNCTION(run, outcome, place,
                 "validate one and only one schema (oneOf). Found %zu valid alternatives", valid);
    } else {
        JUNCTION(run, outcome, place, "validate one and only one schema (oneOf). %s",
                 "Found none valid");
        if (best)
            merge(outcome, run->errors ? check(run, best, place) : best_outcome);
    }
}

static void check_all(struct run *run, const struct fl_schema_node *node, struct place place,
                      struct outcome *outcome)
{
    size_t valid = 0;

    for (size_t i = 0; i < node->all_of.count; i++) {
        struct outcome tried = check(run, node->all_of.items[i], place);

        valid += tried.errors == 0;
        merge(outcome, tried);
    }
    if (valid < node->all_of.count)
        JUNCTION(run, outcome, place, "validate all the schemas (allOf)%s",
                 valid == 0 ? ". None validated" : "");
}

static void check_junctions(struct run *run, const struct fl_schema_node *node, struct place place,
                            struct outcome *outcome)
{
    if (node->any_of.count > 0)
        check_any(run, node, place, outcome);
    if (node->one_of.count > 0)
        check_one(run, node, place, outcome);
    if (node->all_of.count > 0)
        check_all(run, node, place, outcome);
    if (node->none_of && try_branch(run, node->none_of, place).errors == 0)
        JUNCTION(run, outcome, place, "not validate the schema (not)%s", "");
}

static struct outcome check_all_of(struct run *run, const struct fl_schema_node *node,
                                   struct place place)
{
    struct outcome outcome = {0, 0};

    check_type(run, node, place, &outcome);
    if (json_is_null(place.value)) {
        if (node->enumeration)
            check_enum(run, node, place, &outcome);
        return outcome;
    }
    /* The type if there is one to check, junctions (two) and the node itself, passed or not. */
    outcome.matches += node->type_name || node->format ? 4 : 3;
    check_junctions(run, node, place, &outcome);
    if (json_is_string(place.value)) {
        check_string(run, node, place, &outcome);
        if (node->format)
            check_format(run, node, place, &outcome);
    } else if (json_is_number(place.value)) {
        check_number(run, node, place, &outcome);
    } else if (json_is_array(place.value)) {
        check_list(run, node, place, &outcome);
    }
    outcome.matches++;
    if (node->enumeration)
        check_enum(run, node, place, &outcome);
    if (json_is_object(place.value))
        check_object(run, node, place, &outcome);
    return outcome;
}

/* The walk goes down only where the schema does, so the schema's depth bounds it. */
static struct outcome check(struct run *run, const struct fl_schema_node *node, struct place place)
{
    size_t count = run->errors ? run->errors->count : 0;
    size_t dropped = run->errors ? run->errors->dropped : 0;
    struct outcome outcome = check_all_of(run, node, place);

    if (outcome.errors > 0 && place.old && fl_schema_equal(node, place.value, place.old)) {
        outcome.errors = 0;
        if (run->errors) {
            run->errors->count = count;
            run->errors->dropped = dropped;
        }
    }
    return outcome;
}

/* The same complaint can come out of several branches; it is told once. */
static void drop_repeated(struct fl_field_errors *errors, size_t from)
{
    size_t kept = from;

    for (size_t i = from; i < errors->count; i++) {
        size_t j = from;

        while (j < kept && !(fl_streq(errors->items[j].path, errors->items[i].path) &&
                             fl_streq(errors->items[j].message, errors->items[i].message)))
            j++;
        if (j == kept)
            errors->items[kept++] = errors->items[i];
    }
    errors->count = kept;
}

void fl_schema_check_value(const struct fl_schema *schema, const struct fl_schema_node *node,
                           const json_t *value, const json_t *old,
                           const struct fl_schema_path *path, struct fl_field_errors *errors)
{
    struct run run = {NULL, schema->root, schema->metadata, 0};
    size_t from = errors->count;

    if (check(&run, node, (struct place){value, NULL, path}).errors == 0)
        return;
    run.errors = errors;
    run.exhausted = 0;
    (void)check(&run, node, (struct place){value, old, path});
    drop_repeated(errors, from);
}
