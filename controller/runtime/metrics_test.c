#include "controller/runtime/metrics.h"

#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants them above */
#include <cmocka.h>

static const double bounds[] = {0.005, 0.1, 1, 2.5};
static const struct fl_metric_about requests = {
    .name = "test_requests_total", .help = "Requests", .type = FL_METRIC_COUNTER};
static const struct fl_metric_about level = {
    .name = "test_level", .help = "Back\\slash and\nnew line", .type = FL_METRIC_GAUGE};
static const struct fl_metric_about duration = {.name = "test_duration_seconds",
                                                .help = "Durations",
                                                .type = FL_METRIC_HISTOGRAM,
                                                .buckets = bounds,
                                                .bucket_count = FL_COUNT_OF(bounds)};

/* A strict reader of the text format, version 0.0.4. It fails the test where the text is not as the
 * format's description wants it, and keeps each sample's value under its name and labels. */
struct reader {
    const char *at;
    struct fl_map *samples;  /* "name{labels}" as written → double */
    struct fl_map *families; /* name → its type's text; each may come once */
    char family[80], type[16];
    double bucket_bound, bucket_count; /* of the histogram series being read */
    char bucket_series[256];
};

static void expect(struct reader *reader, const char *text)
{
    if (!fl_str_has_prefix(reader->at, text))
        fail_msg("expected \"%s\" at \"%.60s\"", text, reader->at);
    reader->at += strlen(text);
}

static void read_name(struct reader *reader, char *out, size_t size)
{
    size_t len = 0;

    assert_true(isalpha((unsigned char)*reader->at) || *reader->at == '_' || *reader->at == ':');
    while (isalnum((unsigned char)*reader->at) || *reader->at == '_' || *reader->at == ':') {
        assert_true(len + 1 < size);
        out[len++] = *reader->at++;
    }
    out[len] = '\0';
}

static void read_header(struct reader *reader)
{
    char name[80];

    expect(reader, "# HELP ");
    read_name(reader, reader->family, sizeof(reader->family));
    expect(reader, " ");
    for (; *reader->at != '\n'; reader->at++) {
        assert_int_not_equal(*reader->at, '\0');
        if (*reader->at == '\\') {
            reader->at++;
            assert_true(*reader->at == '\\' || *reader->at == 'n');
        }
    }
    expect(reader, "\n# TYPE ");
    read_name(reader, name, sizeof(name));
    assert_string_equal(name, reader->family);
    expect(reader, " ");
    read_name(reader, reader->type, sizeof(reader->type));
    expect(reader, "\n");
    assert_null(fl_map_get(reader->families, name));
    fl_map_put(reader->families, name, fl_strdup(reader->type));
}

/* Labels without "le" are appended to `out`; the bound is NAN without it. */
static double read_labels(struct reader *reader, char *out, size_t size)
{
    double bound = NAN;

    if (*reader->at != '{')
        return bound;
    do {
        const char *start = ++reader->at;
        char name[80];

        read_name(reader, name, sizeof(name));
        expect(reader, "=\"");
        if (strcmp(name, "le") == 0)
            bound = strtod(reader->at, NULL);
        for (; *reader->at != '"'; reader->at++) {
            assert_true(*reader->at != '\0' && *reader->at != '\n');
            if (*reader->at == '\\')
                assert_non_null(strchr("\\\"n", *++reader->at));
        }
        reader->at++;
        if (strcmp(name, "le") != 0)
            (void)snprintf(out + strlen(out), size - strlen(out), "%.*s;",
                           (int)(reader->at - start), start);
    } while (*reader->at == ',');
    expect(reader, "}");
    return bound;
}

static double read_value(struct reader *reader)
{
    char *end;
    double value = strtod(reader->at, &end);

    assert_true(end > reader->at && !isspace((unsigned char)*reader->at));
    reader->at = end;
    expect(reader, "\n");
    return value;
}

/* Buckets of a series come together, their bounds and counts ascend, +Inf is the last and is what
 * _count says. */
static void check_histogram(struct reader *reader, const char *suffix, const char *labels,
                            double bound, double value)
{
    if (strcmp(suffix, "_bucket") == 0) {
        assert_false(isnan(bound));
        if (reader->bucket_series[0] != '\0') {
            assert_string_equal(reader->bucket_series, labels);
            assert_true(bound > reader->bucket_bound && value >= reader->bucket_count);
        }
        (void)snprintf(reader->bucket_series, sizeof(reader->bucket_series), "%s", labels);
        reader->bucket_bound = bound;
        reader->bucket_count = value;
        return;
    }
    assert_string_equal(reader->bucket_series, labels);
    assert_true(isinf(reader->bucket_bound));
    if (strcmp(suffix, "_sum") == 0)
        return;
    assert_string_equal(suffix, "_count");
    assert_true(value == reader->bucket_count);
    reader->bucket_series[0] = '\0';
}

static void read_sample(struct reader *reader)
{
    const char *start = reader->at;
    char name[80], labels[256] = "#"; /* never empty */
    double *value = fl_malloc(sizeof(*value)), bound;
    FL_CLEANUP(fl_freep) char *series = NULL;

    read_name(reader, name, sizeof(name));
    assert_true(fl_str_has_prefix(name, reader->family));
    bound = read_labels(reader, labels, sizeof(labels));
    series = fl_strndup(start, (size_t)(reader->at - start));
    expect(reader, " ");
    *value = read_value(reader);
    if (strcmp(reader->type, "histogram") == 0)
        check_histogram(reader, name + strlen(reader->family), labels, bound, *value);
    else
        assert_string_equal(name, reader->family);
    assert_null(fl_map_get(reader->samples, series));
    fl_map_put(reader->samples, series, value);
}

/* series → double; the caller's. */
static struct fl_map *read_registry(struct fl_metric_registry *registry)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text;
    struct reader reader = {.samples = fl_map_create(free), .families = fl_map_create(free)};

    fl_buf_init(&text, 0);
    fl_metrics_registry_write(registry, &text);
    for (reader.at = fl_buf_text(&text); *reader.at;) {
        if (*reader.at == '#')
            read_header(&reader);
        else
            read_sample(&reader);
    }
    assert_string_equal(reader.bucket_series, "");
    fl_map_destroy(reader.families);
    return reader.samples;
}

static void assert_sample(const struct fl_map *samples, const char *series, double expected)
{
    const double *value = fl_map_get(samples, series);

    if (!value)
        fail_msg("no sample %s", series);
    else if (!(*value == expected) && !(isnan(*value) && isnan(expected)))
        fail_msg("%s is %g, not %g", series, *value, expected);
}

static void counts_and_measures(void **state)
{
    struct fl_metric_registry *registry = fl_metrics_registry_create();
    FL_CLEANUP(fl_map_destroyp) struct fl_map *samples = NULL;

    (void)state;
    fl_metric_add(registry, &requests, "code=\"200\"", 1);
    fl_metric_add(registry, &requests, "code=\"200\"", 2);
    fl_metric_add(registry, &requests, "code=\"a\\\"b\\\\c\\n\"", 1e15);
    fl_metric_add(registry, &requests, "", 0.1);
    fl_metric_set(registry, &level, "", 5);
    fl_metric_add(registry, &level, "", -7.5);
    fl_metric_set(registry, &level, "x=\"1\"", NAN);
    fl_metric_set(registry, &level, "x=\"2\"", -INFINITY);
    fl_metric_set(registry, &level, "x=\"3\"", INFINITY);
    samples = read_registry(registry);
    assert_sample(samples, "test_requests_total{code=\"200\"}", 3);
    assert_sample(samples, "test_requests_total{code=\"a\\\"b\\\\c\\n\"}", 1e15);
    assert_sample(samples, "test_requests_total", 0.1);
    assert_sample(samples, "test_level", -2.5);
    assert_sample(samples, "test_level{x=\"1\"}", NAN);
    assert_sample(samples, "test_level{x=\"2\"}", -INFINITY);
    assert_sample(samples, "test_level{x=\"3\"}", INFINITY);
    assert_sample(samples, "flops_metrics_dropped_total", 0);
    assert_int_equal(fl_map_count(samples), 8);
    fl_metrics_registry_destroy(registry);
}

static void histograms_count_up(void **state)
{
    static const double values[] = {0.001, 0.005, 0.0051, 1, 3, 3};
    struct fl_metric_registry *registry = fl_metrics_registry_create();
    FL_CLEANUP(fl_map_destroyp) struct fl_map *samples = NULL;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(values); i++)
        fl_metric_observe(registry, &duration, "verb=\"get\"", values[i]);
    fl_metric_observe(registry, &duration, "", 2);
    samples = read_registry(registry);
    assert_sample(samples, "test_duration_seconds_bucket{verb=\"get\",le=\"0.005\"}", 2);
    assert_sample(samples, "test_duration_seconds_bucket{verb=\"get\",le=\"0.1\"}", 3);
    assert_sample(samples, "test_duration_seconds_bucket{verb=\"get\",le=\"1\"}", 4);
    assert_sample(samples, "test_duration_seconds_bucket{verb=\"get\",le=\"2.5\"}", 4);
    assert_sample(samples, "test_duration_seconds_bucket{verb=\"get\",le=\"+Inf\"}", 6);
    assert_sample(samples, "test_duration_seconds_sum{verb=\"get\"}",
                  0.001 + 0.005 + 0.0051 + 1 + 3 + 3);
    assert_sample(samples, "test_duration_seconds_count{verb=\"get\"}", 6);
    assert_sample(samples, "test_duration_seconds_bucket{le=\"2.5\"}", 1);
    assert_sample(samples, "test_duration_seconds_count", 1);
    fl_metrics_registry_destroy(registry);
}

static void text_is_in_order_and_escaped(void **state)
{
    struct fl_metric_registry *registry = fl_metrics_registry_create();
    struct fl_buf text;

    (void)state;
    fl_metric_add(registry, &requests, "b=\"1\"", 1);
    fl_metric_add(registry, &requests, "a=\"1\"", 1);
    fl_metric_set(registry, &level, "", 1e-8);
    fl_buf_init(&text, 0);
    fl_metrics_registry_write(registry, &text);
    assert_string_equal(fl_buf_text(&text),
                        "# HELP flops_metrics_dropped_total Values that were not taken because the "
                        "registry has no room for another series\n"
                        "# TYPE flops_metrics_dropped_total counter\n"
                        "flops_metrics_dropped_total 0\n"
                        "# HELP test_level Back\\\\slash and\\nnew line\n"
                        "# TYPE test_level gauge\n"
                        "test_level 1e-08\n"
                        "# HELP test_requests_total Requests\n"
                        "# TYPE test_requests_total counter\n"
                        "test_requests_total{a=\"1\"} 1\n"
                        "test_requests_total{b=\"1\"} 1\n");
    fl_buf_finish(&text);
    fl_metrics_registry_destroy(registry);
}

static double answer(void *user)
{
    return *(double *)user;
}

static void computes_when_asked(void **state)
{
    struct fl_metric_registry *registry = fl_metrics_registry_create();
    struct fl_map *samples;
    double first = 1, second = 2;

    (void)state;
    fl_metric_compute(registry, &level, "", answer, &first);
    fl_metric_compute(registry, &requests, "", answer, &second);
    first = 11;
    samples = read_registry(registry);
    assert_sample(samples, "test_level", 11);
    assert_sample(samples, "test_requests_total", 2);
    fl_map_destroy(samples);
    fl_metric_compute(registry, &level, "", answer, &second);
    fl_metric_compute_end(registry, &requests, "");
    fl_metric_compute_end(registry, &requests, "");
    samples = read_registry(registry);
    assert_sample(samples, "test_level", 2);
    assert_int_equal(fl_map_count(samples), 2);
    fl_map_destroy(samples);
    fl_metrics_registry_destroy(registry);
}

static void has_room_for_so_many(void **state)
{
    struct fl_metric_registry *registry = fl_metrics_registry_create();
    struct fl_map *samples;
    char labels[32];
    double value = 1;

    (void)state;
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(labels, sizeof(labels), "i=\"%d\"", i);
        fl_metric_set(registry, &level, labels, i);
    }
    fl_metric_observe(registry, &duration, "", 1);
    fl_metric_compute(registry, &requests, "", answer, &value);
    fl_metric_set(registry, &level, "i=\"7\"", 70); /* known ones go on */
    samples = read_registry(registry);
    assert_int_equal(fl_map_count(samples), 4096);
    assert_sample(samples, "flops_metrics_dropped_total", 5000 - 4095 + 2);
    assert_sample(samples, "test_level{i=\"7\"}", 70);
    fl_map_destroy(samples);
    fl_metric_compute_end(registry, &level, "i=\"7\""); /* makes room */
    fl_metric_compute(registry, &requests, "", answer, &value);
    samples = read_registry(registry);
    assert_sample(samples, "test_requests_total", 1);
    fl_map_destroy(samples);
    fl_metrics_registry_destroy(registry);
}

static void nothing_happens_without_a_registry(void **state)
{
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    fl_metric_add(NULL, &requests, "", 1);
    fl_metric_set(NULL, &level, "", 1);
    fl_metric_observe(NULL, &duration, "", 1);
    fl_metric_compute(NULL, &level, "", answer, NULL);
    fl_metric_compute_end(NULL, &level, "");
    fl_metrics_registry_write(NULL, &text);
    assert_int_equal(text.len, 0);
    fl_metrics_registry_destroy(NULL);
}

static void count_many(void *user)
{
    for (int i = 0; i < 5000; i++) {
        fl_metric_add(user, &requests, i % 2 ? "odd=\"yes\"" : "", 1);
        fl_metric_observe(user, &duration, "", 0.5);
    }
}

static void threads_count_together(void **state)
{
    struct fl_metric_registry *registry = fl_metrics_registry_create();
    struct fl_thread *threads[4];
    struct fl_map *samples;
    struct fl_error err;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(threads); i++)
        assert_int_equal(fl_thread_start("count", count_many, registry, &threads[i], &err), 0);
    fl_map_destroy(read_registry(registry));
    for (size_t i = 0; i < FL_COUNT_OF(threads); i++)
        fl_thread_join(threads[i]);
    samples = read_registry(registry);
    assert_sample(samples, "test_requests_total", 10000);
    assert_sample(samples, "test_requests_total{odd=\"yes\"}", 10000);
    assert_sample(samples, "test_duration_seconds_count", 20000);
    assert_sample(samples, "test_duration_seconds_sum", 10000);
    fl_map_destroy(samples);
    fl_metrics_registry_destroy(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_measures),
        cmocka_unit_test(histograms_count_up),
        cmocka_unit_test(text_is_in_order_and_escaped),
        cmocka_unit_test(computes_when_asked),
        cmocka_unit_test(has_room_for_so_many),
        cmocka_unit_test(nothing_happens_without_a_registry),
        cmocka_unit_test(threads_count_together),
    };

    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
