#include "workloads/trainer/messages.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>

#define METRICS_MAX     64
#define METRIC_NAME_MAX 128

/* Writing */

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static void set_seed(json_t *head, uint64_t seed)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, seed);
    fl_json_set_str(head, "seed", text);
}

json_t *fl_seed_to_head(uint64_t seed)
{
    json_t *head = json_object();

    set_seed(head, seed);
    return head;
}

json_t *fl_fit_to_head(const struct fl_fit_options *options)
{
    json_t *head = fl_seed_to_head(options->seed);

    (void)json_object_set_new(head, "epochs", json_integer(options->epochs));
    (void)json_object_set_new(head, "batchSize", json_integer(options->batch_size));
    (void)json_object_set_new(head, "learningRate", number(options->learning_rate));
    (void)json_object_set_new(head, "momentum", number(options->momentum));
    (void)json_object_set_new(head, "proximalMu", number(options->proximal_mu));
    (void)json_object_set_new(head, "weightDecay", number(options->weight_decay));
    (void)json_object_set_new(head, "lossBefore", json_boolean(!options->without_loss_before));
    if (options->config)
        (void)json_object_set(head, "config", (json_t *)options->config);
    return head;
}

static void set_metrics(json_t *head, json_t *metrics)
{
    if (metrics)
        (void)json_object_set(head, "metrics", metrics);
}

json_t *fl_fit_result_to_head(const struct fl_fit_result *result)
{
    json_t *head = json_object();

    (void)json_object_set_new(head, "examples", json_integer(result->examples));
    (void)json_object_set_new(head, "steps", json_integer(result->steps));
    (void)json_object_set_new(head, "lossBefore", number(result->loss_before));
    (void)json_object_set_new(head, "loss", number(result->loss));
    set_metrics(head, result->metrics);
    return head;
}

json_t *fl_evaluation_to_head(const struct fl_evaluation *evaluation)
{
    json_t *head = json_object();

    (void)json_object_set_new(head, "examples", json_integer(evaluation->examples));
    (void)json_object_set_new(head, "loss", number(evaluation->loss));
    (void)json_object_set_new(head, "accuracy", number(evaluation->accuracy));
    set_metrics(head, evaluation->metrics);
    return head;
}

/* Reading */

static int read_count(const json_t *head, const char *name, int64_t *ret_count,
                      struct fl_error *err)
{
    const json_t *value = json_object_get(head, name);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return fl_error_set(err, FL_E_INVALID, "%s must be an integer that is not negative", name);
    *ret_count = json_integer_value(value);
    return 0;
}

/* null, or nothing: NAN */
static int read_number(const json_t *head, const char *name, double *ret_number,
                       struct fl_error *err)
{
    const json_t *value = json_object_get(head, name);

    if (value && !json_is_null(value) && !json_is_number(value))
        return fl_error_set(err, FL_E_INVALID, "%s must be a number or null, not %s", name,
                            fl_json_type_name(value));
    *ret_number = json_is_number(value) ? json_number_value(value) : (double)NAN;
    return 0;
}

/* nothing: 0 */
static int read_setting(const json_t *head, const char *name, double *ret_number,
                        struct fl_error *err)
{
    int r = read_number(head, name, ret_number, err);

    if (r == 0 && isnan(*ret_number))
        *ret_number = 0;
    return r;
}

int fl_seed_from_head(const json_t *head, uint64_t *ret_seed, struct fl_error *err)
{
    const char *text = json_string_value(json_object_get(head, "seed"));

    if (!text || !fl_str_to_uint64(text, UINT64_MAX, ret_seed))
        return fl_error_set(err, FL_E_INVALID, "seed must be a text of decimal digits");
    return 0;
}

int fl_fit_from_head(const json_t *head, struct fl_fit_options *ret_options, struct fl_error *err)
{
    struct fl_fit_options options = {.config = json_object_get(head, "config")};
    int r;

    r = read_count(head, "epochs", &options.epochs, err);
    if (r == 0)
        r = read_count(head, "batchSize", &options.batch_size, err);
    if (r == 0)
        r = read_setting(head, "learningRate", &options.learning_rate, err);
    if (r == 0)
        r = read_setting(head, "momentum", &options.momentum, err);
    if (r == 0)
        r = read_setting(head, "proximalMu", &options.proximal_mu, err);
    if (r == 0)
        r = read_setting(head, "weightDecay", &options.weight_decay, err);
    if (r == 0)
        r = fl_seed_from_head(head, &options.seed, err);
    if (r < 0)
        return r;
    options.without_loss_before = !fl_json_bool(head, "lossBefore", true);
    *ret_options = options;
    return 0;
}

/* Few, and each a number: they end in status and in the tracker. */
static int read_metrics(const json_t *head, json_t **ret_metrics, struct fl_error *err)
{
    json_t *metrics = json_object_get(head, "metrics"), *value;
    const char *name;

    *ret_metrics = NULL;
    if (!metrics || json_is_null(metrics))
        return 0;
    if (!json_is_object(metrics) || json_object_size(metrics) > METRICS_MAX)
        return fl_error_set(err, FL_E_INVALID, "metrics must be an object of at most %d numbers",
                            METRICS_MAX);
    json_object_foreach(metrics, name, value) {
        if (strlen(name) > METRIC_NAME_MAX || !(json_is_number(value) || json_is_null(value)))
            return fl_error_set(err, FL_E_INVALID,
                                "metrics: \"%.*s\" must be a number or null, its name short",
                                METRIC_NAME_MAX, name);
    }
    *ret_metrics = json_incref(metrics);
    return 0;
}

int fl_fit_result_from_head(const json_t *head, struct fl_fit_result *ret_result,
                            struct fl_error *err)
{
    struct fl_fit_result result = {0};
    int r;

    r = read_count(head, "examples", &result.examples, err);
    if (r == 0 && result.examples == 0)
        return fl_error_set(err, FL_E_INVALID, "examples must be above 0");
    if (r == 0)
        r = read_count(head, "steps", &result.steps, err);
    if (r == 0)
        r = read_number(head, "lossBefore", &result.loss_before, err);
    if (r == 0)
        r = read_number(head, "loss", &result.loss, err);
    if (r == 0)
        r = read_metrics(head, &result.metrics, err);
    if (r < 0)
        return r;
    *ret_result = result;
    return 0;
}

int fl_evaluation_from_head(const json_t *head, struct fl_evaluation *ret_evaluation,
                            struct fl_error *err)
{
    struct fl_evaluation evaluation = {0};
    int r;

    r = read_count(head, "examples", &evaluation.examples, err);
    if (r == 0)
        r = read_number(head, "loss", &evaluation.loss, err);
    if (r == 0)
        r = read_number(head, "accuracy", &evaluation.accuracy, err);
    if (r == 0)
        r = read_metrics(head, &evaluation.metrics, err);
    if (r < 0)
        return r;
    *ret_evaluation = evaluation;
    return 0;
}
