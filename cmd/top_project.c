/* A project in the live view: how far it is, its round, its metric, who works for it. */
#include "cmd/chart.h"
#include "cmd/top_layout_internal.h"
#include "lib/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAR_MAX   40
#define SPARK_MAX 60
#define LABEL     10 /* columns of a tier's name */
#define NAME_MIN  8
#define TEXT_SIZE 64

/* "3 s", "12 min", "5 h": how long something takes. */
static const char *span_of(double seconds, char text[TEXT_SIZE])
{
    const double s = seconds < 0 ? 0 : seconds;

    if (s < 100)
        (void)snprintf(text, TEXT_SIZE, "%.0f s", s);
    else if (s < 100 * 60)
        (void)snprintf(text, TEXT_SIZE, "%.0f min", s / 60);
    else if (s < 100 * 3600)
        (void)snprintf(text, TEXT_SIZE, "%.0f h", s / 3600);
    else
        (void)snprintf(text, TEXT_SIZE, "%.0f days", s / 86400);
    return text;
}

static int64_t total_of(const json_t *project)
{
    return fl_json_int(project, "status.rounds.total",
                       fl_json_int(project, "spec.training.rounds", 0));
}

/* Where there is no room for all, the name gives way. */
static void show_title(struct layout *layout, const json_t *project)
{
    struct fl_paint *paint = &layout->paint;
    const char *name = name_of(layout, project), *reason = reason_of(project);
    const size_t left = fl_paint_left(paint);
    size_t columns = fl_text_columns(name), others;
    char progress[TEXT_SIZE];

    (void)snprintf(progress, sizeof(progress), "  round %" PRId64 "/%" PRId64,
                   fl_json_int(project, "status.rounds.completed", 0), total_of(project));
    others = strlen(progress) + strlen(reason) + 2;
    if (left < columns + others)
        columns = left > others + NAME_MIN ? left - others : NAME_MIN;
    fl_paint_cell(paint, FL_PAINT_BOLD, columns, name);
    fl_paint_text(paint, FL_PAINT_PLAIN, "%s", progress);
    fl_paint_right(paint, style_of(project), reason);
    fl_paint_end_line(paint);
}

static void show_progress(struct layout *layout, const json_t *project, const json_t **rounds,
                          size_t count)
{
    struct fl_paint *paint = &layout->paint;
    const int64_t total = total_of(project);
    const int64_t done = fl_json_int(project, "status.rounds.completed", 0);
    const double part = total > 0 ? (double)done / (double)total : 0;
    const double rate =
        fl_condition_is_true(project, "Complete") ? NAN : fl_top_rate(rounds, count);
    size_t width = paint->width > 0 && paint->width / 2 < BAR_MAX ? paint->width / 2 : BAR_MAX;
    const size_t filled = (size_t)lround((part > 1 ? 1 : part) * (double)width);
    char text[TEXT_SIZE];

    fl_paint_text(paint, FL_PAINT_PLAIN, "  ");
    fl_paint_repeat(paint, FL_PAINT_GOOD, "█", "#", filled);
    fl_paint_repeat(paint, FL_PAINT_DIM, "░", ".", width - filled);
    fl_paint_text(paint, FL_PAINT_PLAIN, " %.0f %%", 100 * part);
    if (!isnan(rate)) {
        fl_paint_text(paint, FL_PAINT_DIM, "  %.3g rounds/min", 60 * rate);
        if (done < total)
            fl_paint_text(paint, FL_PAINT_DIM, ", %s left",
                          span_of((double)(total - done) / rate, text));
    }
    fl_paint_end_line(paint);
}

/* The round that is under way, if one is. */
static void show_round(struct layout *layout, const json_t *round)
{
    struct fl_paint *paint = &layout->paint;
    const char *summary = fl_json_str(round, "status.participants.summary");
    const char *start = fl_json_str(round, "status.startTime");
    const int64_t attempt = fl_json_int(round, "status.attempt", 0);
    int64_t start_us;
    char text[TEXT_SIZE];

    fl_paint_text(paint, FL_PAINT_PLAIN, "  round %" PRId64 ": ", fl_top_number(round));
    fl_paint_text(paint, style_of(round), "%s", reason_of(round));
    if (summary)
        fl_paint_text(paint, FL_PAINT_PLAIN, ", %s updates", summary);
    if (start && fl_time_parse(start, &start_us))
        fl_paint_text(paint, FL_PAINT_DIM, ", for %s",
                      span_of((double)(layout->view->now_us - start_us) / 1e6, text));
    if (attempt > 1)
        fl_paint_text(paint, FL_PAINT_BUSY, ", attempt %" PRId64, attempt);
    if (fl_condition_is_true(round, "Stalled"))
        fl_paint_text(paint, FL_PAINT_BAD, ": %s",
                      fl_str_or(fl_condition(round, "Ready", "message"), ""));
    fl_paint_end_line(paint);
}

static void show_spark(struct layout *layout, const char *metric, const json_t **rounds,
                       size_t count)
{
    struct fl_paint *paint = &layout->paint;
    double *values = fl_new_array(layout->arena, double, count + 1);
    size_t left = fl_paint_left(paint), known = 0;

    for (size_t i = 0; i < count; i++) {
        const char *value = value_of(rounds[i], "status.metrics.evaluation", metric);

        if (value)
            values[known++] = strtod(value, NULL);
    }
    if (left < 4 || known < 2)
        return;
    left = left - 2 < SPARK_MAX ? left - 2 : SPARK_MAX;
    fl_paint_text(paint, FL_PAINT_PLAIN, "  ");
    paint->used += fl_chart_spark(paint->out, values, known, left, paint->utf8);
}

static void show_metric(struct layout *layout, const json_t *project, const json_t **rounds,
                        size_t count)
{
    struct fl_paint *paint = &layout->paint;
    const char *metric = metric_of(project);
    const char *last = value_of(project, "status.metrics.last.values", metric);
    const char *best = value_of(project, "status.metrics.best.values", metric);

    if (!last)
        return;
    fl_paint_text(paint, FL_PAINT_PLAIN, "  %s ", metric);
    fl_paint_text(paint, FL_PAINT_BOLD, "%s", last);
    if (best)
        fl_paint_text(paint, FL_PAINT_PLAIN, ", best %s (round %" PRId64 ")", best,
                      fl_json_int(project, "status.metrics.best.round", 0));
    show_spark(layout, metric, rounds, count);
    fl_paint_end_line(paint);
}

static void show_tier(struct layout *layout, const char *name, int64_t ready, int64_t desired)
{
    char numbers[TEXT_SIZE];

    (void)snprintf(numbers, sizeof(numbers), " %" PRId64 "/%" PRId64, ready, desired);
    fl_paint_text(&layout->paint, FL_PAINT_PLAIN, "  ");
    fl_paint_cell(&layout->paint, FL_PAINT_PLAIN, LABEL, name);
    fl_paint_text(&layout->paint, ready < desired ? FL_PAINT_BUSY : FL_PAINT_PLAIN, "%s", numbers);
    show_dots(layout, ready, desired);
    fl_paint_end_line(&layout->paint);
}

/* Once training is over there are none, which need not be said. */
static void show_tiers(struct layout *layout, const json_t *project)
{
    const int64_t desired = fl_json_int(project, "status.learners.desired", 0);
    json_t *tier;
    size_t i;

    json_array_foreach(fl_json_path(project, "status.tiers"), i, tier)
        if (fl_json_int(tier, "desired", 0) > 0)
            show_tier(layout, text_of(tier, "name"), fl_json_int(tier, "ready", 0),
                      fl_json_int(tier, "desired", 0));
    if (desired > 0)
        show_tier(layout, "learners", fl_json_int(project, "status.learners.ready", 0), desired);
}

void show_project(struct layout *layout, const json_t *project)
{
    size_t count;
    const json_t **rounds = fl_top_group(layout->of[FL_TOP_ROUNDS], layout->count[FL_TOP_ROUNDS],
                                         text_of(project, "metadata.namespace"),
                                         text_of(project, "metadata.name"), &count);
    const json_t *last = count > 0 ? rounds[count - 1] : NULL;

    show_title(layout, project);
    show_progress(layout, project, rounds, count);
    if (fl_condition_is_true(project, "Stalled")) {
        fl_paint_text(&layout->paint, FL_PAINT_BAD, "  ! %s",
                      fl_str_or(fl_condition(project, "Ready", "message"), ""));
        fl_paint_end_line(&layout->paint);
    }
    if (last && !fl_condition_is_true(last, "Ready"))
        show_round(layout, last);
    show_metric(layout, project, rounds, count);
    show_tiers(layout, project);
    show_workloads_of(layout, project);
    fl_paint_end_line(&layout->paint);
}
