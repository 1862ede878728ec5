#include "cmd/simulate_manifest.h"

#include "cmd/options.h"
#include "cmd/simulate_project.h"
#include "lib/str.h"
#include "workloads/data/number.h"

/* --- from the API's texts to the protocol's numbers ------------------------------------------ */

/* The protocol has the API's names, but decimals are numbers in it, and spans have their unit. */
static json_t *to_number(const json_t *value)
{
    const char *text = json_string_value(value);
    double number;

    if (text && *text && fl_number_read(text, text + strlen(text), &number) == text + strlen(text))
        return json_real(number);
    return json_incref((json_t *)value);
}

static json_t *to_numbers(const json_t *object)
{
    json_t *numbers = json_object();
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
        json_object_set_new(numbers, key, to_number(value));
    return numbers;
}

static void set_span(json_t *object, const char *from, const char *to)
{
    const char *text = json_string_value(json_object_get(object, from));
    int64_t ms;

    if (text && fl_option_duration(text, &ms))
        json_object_set_new(object, to, json_integer(ms));
    json_object_del(object, from);
}

static int read_training(struct fl_arena *arena, const json_t *training,
                         struct fl_simulation *simulation, struct fl_error *err)
{
    static const char *const parts[] = {"local", "strategy", "participation", "staleness"};
    FL_JSON spec = fl_message_to_json(&fl_form_round_order, &simulation->spec);
    struct fl_round_order read;
    json_t *participation;
    int r;

    for (size_t i = 0; i < FL_COUNT_OF(parts); i++) {
        const json_t *part = json_object_get(training, parts[i]);

        if (part)
            json_object_set_new(spec, parts[i], to_numbers(part));
    }
    participation = fl_json_ensure_object(spec, "participation");
    set_span(participation, "deadline", "deadlineMs");
    set_span(participation, "availableWithin", "availableWithinMs");
    json_object_set(spec, "mode", json_object_get(training, "mode"));
    json_object_set(spec, "seed", json_object_get(training, "seed"));
    /* What a round has of its own; minAvailable is all learners here. */
    json_object_set_new(spec, "project", json_string("simulation"));
    json_object_set_new(spec, "round", json_integer(1));
    json_object_set_new(spec, "modelSize", json_integer(1));
    json_object_set_new(
        spec, "model",
        json_string("sha256:00000000000000000000000000000000000000000000000000000000"
                    "00000000"));
    json_object_set_new(participation, "minAvailable",
                        json_integer((json_int_t)simulation->partition.learners));
    r = fl_message_from_json(arena, &fl_form_round_order, spec, &read, err);
    if (r < 0)
        return r;
    simulation->spec = read;
    return 0;
}

/* --- the manifest --------------------------------------------------------------------------- */

static int read_trainer(struct fl_arena *arena, const json_t *spec,
                        struct fl_simulation *simulation, struct fl_error *err)
{
    const json_t *options = fl_json_path(spec, "source.builtin.options");
    const char *name = fl_json_str(spec, "source.builtin.trainer");

    if (!name) /* code of its own: --trainer must say what stands for it */
        return 0;
    simulation->trainer = fl_trainer_find(name);
    if (!simulation->trainer)
        return fl_error_set(err, FL_E_INVALID, "spec.source.builtin.trainer: there is no \"%s\"",
                            name);
    if (options)
        simulation->trainer_options = fl_json_in_arena(arena, json_incref((json_t *)options));
    return 0;
}

int fl_simulate_manifest_read(struct fl_arena *arena, const char *path,
                              struct fl_simulation *simulation, const char **ret_tag,
                              struct fl_error *err)
{
    json_t *object;
    const json_t *spec, *training;
    const char *target, *tag;
    int r = fl_simulate_project_read(arena, path, &object, err);

    if (r < 0)
        return r;
    spec = json_object_get(object, "spec");
    training = json_object_get(spec, "training");
    r = read_trainer(arena, spec, simulation, err);
    if (r < 0)
        return r;
    simulation->rounds = fl_json_int(training, "rounds", simulation->rounds);
    simulation->evaluate_every = fl_json_int(training, "evaluation.everyRounds", 1);
    simulation->partition.learners =
        (size_t)fl_json_int(spec, "learners.count", (int64_t)simulation->partition.learners);
    target = fl_json_str(training, "bestModel.stopWhen.target");
    if (target && fl_streq(fl_json_str(training, "bestModel.metric"), "accuracy"))
        (void)fl_number_read(target, target + strlen(target), &simulation->target_accuracy);
    tag = json_string_value(json_array_get(fl_json_path(spec, "data.tags"), 0));
    *ret_tag = tag ? fl_arena_strdup(arena, tag) : NULL;
    return read_training(arena, training, simulation, err);
}

/* --- parameters of a strategy ---------------------------------------------------------------- */

int fl_simulate_parameter(const char *text, struct fl_strategy_spec *spec, struct fl_error *err)
{
    const struct {
        const char *name;
        double *real;
        int64_t *whole;
    } parameters[] = {
        {"serverLearningRate", &spec->server_learning_rate, NULL},
        {"serverMomentum", &spec->server_momentum, NULL},
        {"beta1", &spec->beta1, NULL},
        {"beta2", &spec->beta2, NULL},
        {"tau", &spec->tau, NULL},
        {"q", &spec->q, NULL},
        {"trimFraction", &spec->trim_fraction, NULL},
        {"normBound", &spec->norm_bound, NULL},
        {"byzantineLearners", NULL, &spec->byzantine_learners},
        {"selectUpdates", NULL, &spec->select_updates},
        {"maxIterations", NULL, &spec->max_iterations},
        {"bufferSize", NULL, &spec->buffer_size},
    };
    const char *value = strchr(text, '='), *end = text + strlen(text);

    if (!value)
        return fl_error_set(err, FL_E_INVALID, "--set %s: must be NAME=VALUE", text);
    for (size_t i = 0; i < FL_COUNT_OF(parameters); i++) {
        size_t len = strlen(parameters[i].name);

        if (len != (size_t)(value - text) || memcmp(text, parameters[i].name, len) != 0)
            continue;
        if (parameters[i].real ? fl_number_read(value + 1, end, parameters[i].real) == end
                               : fl_str_to_int64(value + 1, 0, 1000000, parameters[i].whole))
            return 0;
        return fl_error_set(err, FL_E_INVALID, "--set %s: that is no value of it", text);
    }
    return fl_error_set(err, FL_E_INVALID, "--set %s: strategies have no such parameter", text);
}
