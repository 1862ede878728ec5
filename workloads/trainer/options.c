#include "workloads/trainer/native.h"

#include "lib/str.h"

#include <inttypes.h>
#include <math.h>

#define UNITS_MAX   65536
#define FILTERS_MAX 4096
#define KERNEL_MAX  15
#define BATCH_MAX   1000000
#define EPOCHS_MAX  10000

static int read_size(const json_t *value, const char *name, int64_t max, size_t *ret_size,
                     struct fl_error *err)
{
    if (!json_is_integer(value))
        return fl_error_set(err, FL_E_INVALID, "%s: must be an integer, not %s", name,
                            fl_json_type_name(value));
    if (json_integer_value(value) < 1 || json_integer_value(value) > max)
        return fl_error_set(err, FL_E_INVALID, "%s: %" PRId64 " is not from 1 to %" PRId64, name,
                            (int64_t)json_integer_value(value), max);
    *ret_size = (size_t)json_integer_value(value);
    return 0;
}

struct size_list {
    size_t *sizes, *count;
    size_t max_count;
    int64_t max;
};

static int read_sizes(const json_t *value, const char *name, const struct size_list *list,
                      struct fl_error *err)
{
    size_t count = json_array_size(value);

    if (!json_is_array(value))
        return fl_error_set(err, FL_E_INVALID, "%s: must be a list of integers, not %s", name,
                            fl_json_type_name(value));
    if (count < 1 || count > list->max_count)
        return fl_error_set(err, FL_E_INVALID, "%s: must have 1 to %zu entries, not %zu", name,
                            list->max_count, count);
    for (size_t i = 0; i < count; i++) {
        char item[48];
        int r;

        (void)snprintf(item, sizeof(item), "%s[%zu]", name, i);
        r = read_size(json_array_get(value, i), item, list->max, &list->sizes[i], err);
        if (r < 0)
            return r;
    }
    *list->count = count;
    return 0;
}

static const struct {
    const char *name;
    enum fl_activation activation;
} activations[] = {{"ReLU", FL_RELU}, {"Tanh", FL_TANH}, {"Sigmoid", FL_SIGMOID}};

static int read_activation(const json_t *value, enum fl_activation *ret_activation,
                           struct fl_error *err)
{
    for (size_t i = 0; i < FL_COUNT_OF(activations); i++) {
        if (fl_streq(json_string_value(value), activations[i].name)) {
            *ret_activation = activations[i].activation;
            return 0;
        }
    }
    return fl_error_set(err, FL_E_INVALID, "activation: must be ReLU, Tanh or Sigmoid");
}

static int read_option(const char *name, const json_t *value, bool has_hidden, bool has_filters,
                       struct fl_network_shape *shape, struct fl_error *err)
{
    const struct size_list hidden = {shape->hidden, &shape->hidden_count, FL_NETWORK_HIDDEN_MAX,
                                     UNITS_MAX};
    const struct size_list filters = {shape->filters, &shape->filters_count, FL_NETWORK_CONVS_MAX,
                                      FILTERS_MAX};

    if (strcmp(name, "hiddenUnits") == 0 && has_hidden)
        return read_sizes(value, name, &hidden, err);
    if (strcmp(name, "activation") == 0 && has_hidden)
        return read_activation(value, &shape->activation, err);
    if (strcmp(name, "filters") == 0 && has_filters)
        return read_sizes(value, name, &filters, err);
    if (strcmp(name, "kernelSize") == 0 && has_filters)
        return read_size(value, name, KERNEL_MAX, &shape->kernel, err);
    return fl_error_set(err, FL_E_INVALID, "%.64s: this trainer has no such option", name);
}

/* As in McMahan et al. 2017. */
static const struct fl_network_shape two_layers = {
    .hidden = {200, 200}, .hidden_count = 2, .activation = FL_RELU};
static const struct fl_network_shape two_convs = {.hidden = {512},
                                                  .hidden_count = 1,
                                                  .filters = {32, 64},
                                                  .filters_count = 2,
                                                  .kernel = 5,
                                                  .activation = FL_RELU};

int fl_native_shape(const char *trainer, const json_t *options, struct fl_network_shape *ret_shape,
                    struct fl_error *err)
{
    bool has_filters = strcmp(trainer, "CNN") == 0, has_hidden = has_filters;
    struct fl_network_shape shape = {.activation = FL_IDENTITY};
    const char *name;
    json_t *value;

    if (has_filters)
        shape = two_convs;
    if (strcmp(trainer, "MLP") == 0) {
        has_hidden = true;
        shape = two_layers;
    }
    if (options && !json_is_object(options) && !json_is_null(options))
        return fl_error_set(err, FL_E_INVALID, "options: must be an object, not %s",
                            fl_json_type_name(options));
    json_object_foreach((json_t *)options, name, value) {
        int r = read_option(name, value, has_hidden, has_filters, &shape, err);

        if (r < 0)
            return fl_error_wrap(err, "options");
    }
    *ret_shape = shape;
    return 0;
}

static json_t *write_sizes(const size_t *sizes, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_integer((json_int_t)sizes[i]));
    return list;
}

json_t *fl_native_options(const struct fl_network_shape *shape)
{
    json_t *options = json_object();

    for (size_t i = 0; i < FL_COUNT_OF(activations); i++)
        if (shape->activation == activations[i].activation)
            (void)json_object_set_new(options, "activation", json_string(activations[i].name));
    if (shape->hidden_count > 0)
        (void)json_object_set_new(options, "hiddenUnits",
                                  write_sizes(shape->hidden, shape->hidden_count));
    if (shape->filters_count > 0) {
        (void)json_object_set_new(options, "filters",
                                  write_sizes(shape->filters, shape->filters_count));
        (void)json_object_set_new(options, "kernelSize", json_integer((json_int_t)shape->kernel));
    }
    return options;
}

static int check_number(const char *name, double value, double low, double below,
                        struct fl_error *err)
{
    if (value >= low && value < below)
        return 0;
    return fl_error_set(err, FL_E_INVALID, "%s: %g is not at least %g and below %g", name, value,
                        low, below);
}

int fl_fit_options_check(const struct fl_fit_options *options, struct fl_error *err)
{
    int r;

    if (options->epochs < 1 || options->epochs > EPOCHS_MAX)
        return fl_error_set(err, FL_E_INVALID, "epochs: %" PRId64 " is not from 1 to %d",
                            options->epochs, EPOCHS_MAX);
    if (options->batch_size < 0 || options->batch_size > BATCH_MAX)
        return fl_error_set(err, FL_E_INVALID, "batchSize: %" PRId64 " is not from 0 to %d",
                            options->batch_size, BATCH_MAX);
    if (!(options->learning_rate > 0) || !isfinite(options->learning_rate))
        return fl_error_set(err, FL_E_INVALID, "learningRate: %g is not above 0",
                            options->learning_rate);
    r = check_number("momentum", options->momentum, 0, 1, err);
    if (r == 0)
        r = check_number("weightDecay", options->weight_decay, 0, INFINITY, err);
    if (r == 0)
        r = check_number("proximalMu", options->proximal_mu, 0, INFINITY, err);
    return r;
}
