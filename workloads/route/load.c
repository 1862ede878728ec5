#include "workloads/route/load.h"

#include "lib/str.h"

#include <assert.h>
#include <string.h>

#define PANIC_PART   10 /* of the window */
#define SHORTEST_MS  1000
#define SECOND_US    1e6
#define LONGEST_MS   (INT64_C(1000) * 3600 * 24 * 365)
#define MIN_WIDTH_US 1000

/* Maxima */

static void peaks_begin(struct fl_load_peaks *peaks, int64_t span_ms)
{
    *peaks = (struct fl_load_peaks){.width_us = span_ms * 1000 / FL_LOAD_BUCKETS};
    if (peaks->width_us < MIN_WIDTH_US)
        peaks->width_us = MIN_WIDTH_US;
    memset(peaks->stretch, 0xff, sizeof(peaks->stretch)); /* none: -1 */
}

static void peaks_note(struct fl_load_peaks *peaks, int64_t at_us, double value)
{
    const int64_t stretch = at_us / peaks->width_us;
    const int64_t i = stretch % FL_LOAD_BUCKETS;

    if (peaks->stretch[i] != stretch || value > peaks->most[i])
        peaks->most[i] = value;
    peaks->stretch[i] = stretch;
}

static double peaks_most(const struct fl_load_peaks *peaks, int64_t now_us, double now)
{
    const int64_t stretch = now_us / peaks->width_us;
    double most = now;

    for (int64_t i = 0; i < FL_LOAD_BUCKETS; i++)
        if (peaks->stretch[i] > stretch - FL_LOAD_BUCKETS && peaks->stretch[i] <= stretch &&
            peaks->stretch[i] >= 0 && peaks->most[i] > most)
            most = peaks->most[i];
    return most;
}

/* Averages */

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* Of the last `buckets`, the one being filled among them. Soon after the start it is of less time,
 * but not of so little that one request looks like a rush. */
static double average(const struct fl_load *load, int64_t buckets)
{
    const int64_t into_us = load->until_us - load->bucket * load->width_us;
    const int64_t covered_us = load->until_us - load->began_us;
    const int64_t least_us = load->terms.window_ms * 1000 / PANIC_PART;
    int64_t span_us = (buckets - 1) * load->width_us + into_us;
    double sum = 0;

    for (int64_t i = 0; i < buckets && i <= load->bucket; i++)
        sum += load->sums[(load->bucket - i) % FL_LOAD_BUCKETS];
    if (span_us > covered_us)
        span_us = covered_us;
    if (span_us < least_us)
        span_us = least_us;
    return sum / ((double)span_us / SECOND_US);
}

static double panic_average(const struct fl_load *load)
{
    return average(load, FL_LOAD_BUCKETS / PANIC_PART + 1);
}

static void note_peaks(struct fl_load *load)
{
    peaks_note(&load->peaks, load->until_us, average(load, FL_LOAD_BUCKETS));
    peaks_note(&load->rushes, load->until_us, panic_average(load));
}

/* As far as the end of a bucket at most. */
static void fill(struct fl_load *load, int64_t until_us)
{
    if (load->terms.metric == FL_LOAD_CONCURRENCY)
        load->sums[load->bucket % FL_LOAD_BUCKETS] +=
            (double)load->under_way * (double)(until_us - load->until_us) / SECOND_US;
    load->until_us = until_us;
}

static void next_bucket(struct fl_load *load)
{
    load->bucket++;
    load->sums[load->bucket % FL_LOAD_BUCKETS] = 0;
}

/* A gap longer than any window leaves the same behind, however long it was. */
static void skip(struct fl_load *load, int64_t now_us)
{
    const int64_t ahead = now_us / load->width_us - load->bucket;

    if (ahead <= 2 * FL_LOAD_BUCKETS)
        return;
    load->bucket += ahead - 2 * FL_LOAD_BUCKETS;
    load->until_us = load->bucket * load->width_us;
    memset(load->sums, 0, sizeof(load->sums));
}

static void advance(struct fl_load *load, int64_t now_us)
{
    if (load->terms.metric == FL_LOAD_NONE)
        return;
    skip(load, now_us);
    while (now_us >= (load->bucket + 1) * load->width_us) {
        fill(load, (load->bucket + 1) * load->width_us);
        note_peaks(load);
        next_bucket(load);
    }
    if (now_us > load->until_us)
        fill(load, now_us);
}

static bool is_same(const struct fl_load_terms *a, const struct fl_load_terms *b)
{
    return a->metric == b->metric && a->window_ms == b->window_ms && a->delay_ms == b->delay_ms;
}

void fl_load_set(struct fl_load *load, const struct fl_load_terms *terms, int64_t now_us)
{
    const struct fl_load_terms own = {.metric = terms->metric,
                                      .window_ms = clamp(terms->window_ms, SHORTEST_MS, LONGEST_MS),
                                      .delay_ms = clamp(terms->delay_ms, 0, LONGEST_MS)};

    if (is_same(&own, &load->terms))
        return;
    *load = (struct fl_load){.terms = own, .under_way = load->under_way};
    load->began_us = load->until_us = now_us;
    load->width_us = own.window_ms * 1000 / FL_LOAD_BUCKETS;
    load->bucket = now_us / load->width_us;
    peaks_begin(&load->peaks, own.delay_ms);
    peaks_begin(&load->rushes, own.window_ms);
}

void fl_load_began(struct fl_load *load, int64_t now_us)
{
    advance(load, now_us);
    load->under_way++;
    if (load->terms.metric == FL_LOAD_REQUEST_RATE)
        load->sums[load->bucket % FL_LOAD_BUCKETS] += 1;
}

void fl_load_ended(struct fl_load *load, int64_t now_us)
{
    assert(load->under_way > 0);
    advance(load, now_us);
    load->under_way--;
}

struct fl_load_view fl_load_look(struct fl_load *load, int64_t now_us)
{
    struct fl_load_view view = {0};

    if (load->terms.metric == FL_LOAD_NONE)
        return view;
    advance(load, now_us);
    view.average = average(load, FL_LOAD_BUCKETS);
    view.panic = panic_average(load);
    view.peak = load->terms.delay_ms > 0 ? peaks_most(&load->peaks, load->until_us, view.average)
                                         : view.average;
    view.panic_peak = peaks_most(&load->rushes, load->until_us, view.panic);
    view.covered_ms = (load->until_us - load->began_us) / 1000;
    return view;
}

/* In words */

static const char *const metrics[] = {
    [FL_LOAD_CONCURRENCY] = "Concurrency",
    [FL_LOAD_REQUEST_RATE] = "RequestRate",
};

int fl_load_read_terms(const json_t *terms, struct fl_load_terms *ret_terms, struct fl_error *err)
{
    struct fl_load_terms read = {.window_ms = fl_json_int(terms, "windowMs", -1),
                                 .delay_ms = fl_json_int(terms, "delayMs", -1)};

    if (!terms) {
        *ret_terms = (struct fl_load_terms){0};
        return 0;
    }
    for (size_t i = FL_LOAD_CONCURRENCY; i < FL_COUNT_OF(metrics); i++)
        if (fl_streq(fl_json_str(terms, "metric"), metrics[i]))
            read.metric = (enum fl_load_metric)i;
    if (read.metric == FL_LOAD_NONE)
        return fl_error_set(err, FL_E_INVALID, "load.metric: must be Concurrency or RequestRate");
    if (read.window_ms < SHORTEST_MS || read.window_ms > LONGEST_MS)
        return fl_error_set(err, FL_E_INVALID, "load.windowMs: must be from %d on", SHORTEST_MS);
    if (read.delay_ms < 0 || read.delay_ms > LONGEST_MS)
        return fl_error_set(err, FL_E_INVALID, "load.delayMs: must be from 0 on");
    *ret_terms = read;
    return 0;
}

json_t *fl_load_show(struct fl_load *load, int64_t now_us)
{
    const struct fl_load_view view = fl_load_look(load, now_us);

    if (load->terms.metric == FL_LOAD_NONE)
        return NULL;
    return json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:I}", "metric",
                     metrics[load->terms.metric], "windowMs", (json_int_t)load->terms.window_ms,
                     "delayMs", (json_int_t)load->terms.delay_ms, "average", view.average, "panic",
                     view.panic, "peak", view.peak, "panicPeak", view.panic_peak, "coveredMs",
                     (json_int_t)view.covered_ms);
}
