#include "cmd/simulate_report.h"

#include "cmd/output.h"
#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define BAR_WIDTH      30
#define REDRAW_MS      100
#define MODEL_SHOWN    12 /* digits of a digest, in the table */
#define FAILURES_SHOWN 5  /* of a round, in the table */

bool fl_report_form_find(const char *text, enum fl_report_form *ret_form)
{
    static const char *const names[] = {"table", "json", "csv"};

    *ret_form = FL_REPORT_TABLE;
    for (size_t i = 0; text && i < FL_COUNT_OF(names); i++) {
        if (strcasecmp(text, names[i]) != 0)
            continue;
        *ret_form = (enum fl_report_form)i;
        return true;
    }
    return text == NULL;
}

/* --- how far it is -------------------------------------------------------------------------- */

static void clear_bar(struct fl_report *report)
{
    if (report->drawn)
        (void)fputs("\r\033[K", stderr);
    report->drawn = false;
}

static void draw_bar(struct fl_report *report, double done)
{
    int64_t now_ms = fl_monotonic_ms(report->env), rounds = report->simulation->rounds;
    double took = (double)(now_ms - report->start_ms) / 1000;
    int filled = (int)(BAR_WIDTH * done / (double)rounds);

    if (report->drawn && now_ms - report->drawn_ms < REDRAW_MS)
        return;
    report->drawn = true;
    report->drawn_ms = now_ms;
    (void)fprintf(stderr, "\r\033[K[%.*s%*s] round %" PRId64 "/%" PRId64, filled,
                  "##############################", BAR_WIDTH - filled, "", report->done, rounds);
    if (report->last.evaluated)
        (void)fprintf(stderr, "  accuracy %.4f", report->last.accuracy);
    if (done > 0)
        (void)fprintf(stderr, "  %.0f s left at most", took / done * ((double)rounds - done));
    (void)fflush(stderr);
}

bool fl_report_interrupted(void *user)
{
    const struct fl_report *report = user;

    return fl_interrupt_has_come(report->interrupt);
}

void fl_report_update(void *user, int64_t round, int64_t done, int64_t all)
{
    struct fl_report *report = user;

    (void)round;
    if (report->bar)
        draw_bar(report, (double)report->done + (double)done / (double)(all > 0 ? all : 1));
}

static void tell_progress(struct fl_report *report, const struct fl_simulated_round *round)
{
    if (report->quiet)
        return;
    if (report->bar)
        draw_bar(report, (double)report->done);
    else if (round->evaluated)
        (void)fprintf(stderr, "round %" PRId64 " of %" PRId64 ": accuracy %.4f, loss %.4f\n",
                      round->round, report->simulation->rounds, round->accuracy, round->loss);
}

/* --- rows ----------------------------------------------------------------------------------- */

static const char csv_header[] = "round,selected,reported,late,dropped,rejected,examples,"
                                 "train_loss,loss,accuracy,virtual_ms,model,failures";

static void print_csv_number(double value)
{
    char text[FL_DOUBLE_TEXT_SIZE] = "";

    if (isfinite(value))
        fl_str_from_double(value, text);
    (void)printf("%s,", text);
}

/* All in one field: whoever reads tables by program takes JSON for more. */
static void print_csv_failures(const struct fl_simulated_round *round)
{
    if (round->failure_count > 0)
        (void)putchar('"');
    for (size_t i = 0; i < round->failure_count; i++) {
        (void)printf("%s%s: ", i > 0 ? "; " : "", round->failures[i].learner);
        for (const char *at = round->failures[i].error; *at; at++)
            (void)printf(*at == '"' ? "\"\"" : "%c", *at == '\n' ? ' ' : *at);
    }
    (void)puts(round->failure_count > 0 ? "\"" : "");
}

static void print_csv(const struct fl_simulated_round *round)
{
    (void)printf("%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
                 ",",
                 round->round, round->selected, round->reported, round->late, round->dropped,
                 round->rejected, round->examples);
    print_csv_number(round->train_loss);
    print_csv_number(round->loss);
    print_csv_number(round->accuracy);
    (void)printf("%" PRId64 ",%s,", round->virtual_ms, round->model);
    print_csv_failures(round);
}

static const char table_header[] =
    "ROUND   UPDATES  LATE  DROPPED  REJECTED  TRAIN-LOSS  LOSS      ACCURACY  TIME          MODEL";

static const char *shown(double value, char out[32])
{
    (void)snprintf(out, 32, isfinite(value) ? "%.4f" : "-", value);
    return out;
}

static void print_row(const struct fl_simulated_round *round)
{
    char updates[32], time[32], train_loss[32], loss[32], accuracy[32];

    (void)snprintf(updates, sizeof(updates), "%" PRId64 "/%" PRId64, round->reported,
                   round->selected);
    (void)snprintf(time, sizeof(time), "%.3fs", (double)round->virtual_ms / 1000);
    (void)printf("%-6" PRId64 "  %-7s  %-4" PRId64 "  %-7" PRId64 "  %-8" PRId64
                 "  %-10s  %-8s  %-8s  %-12s  %.*s\n",
                 round->round, updates, round->late, round->dropped, round->rejected,
                 shown(round->train_loss, train_loss), shown(round->loss, loss),
                 shown(round->accuracy, accuracy), time, MODEL_SHOWN,
                 round->model + strlen("sha256:"));
}

static void print_failures(const struct fl_simulated_round *round)
{
    size_t count = round->failure_count;

    for (size_t i = 0; i < count && i < FAILURES_SHOWN; i++)
        (void)printf("        round %" PRId64 ", %s: %s\n", round->round,
                     round->failures[i].learner, round->failures[i].error);
    if (count > FAILURES_SHOWN)
        (void)printf("        round %" PRId64 ": %zu more (all of them: -o json)\n", round->round,
                     count - FAILURES_SHOWN);
}

static void set_number(json_t *object, const char *key, double value)
{
    if (isfinite(value))
        json_object_set_new(object, key, json_real(value));
}

static json_t *failures_array(const struct fl_simulated_round *round)
{
    json_t *array = json_array();

    for (size_t i = 0; i < round->failure_count; i++) {
        json_t *failure = json_object();

        fl_json_set_str(failure, "learner", round->failures[i].learner);
        fl_json_set_str(failure, "error", round->failures[i].error);
        json_array_append_new(array, failure);
    }
    return array;
}

static json_t *row_object(const struct fl_simulated_round *round)
{
    json_t *row = json_object();

#define COUNT(key, member) json_object_set_new(row, key, json_integer(round->member))
    COUNT("round", round);
    COUNT("selected", selected);
    COUNT("reported", reported);
    COUNT("late", late);
    COUNT("dropped", dropped);
    COUNT("rejected", rejected);
    COUNT("examples", examples);
    COUNT("virtualMs", virtual_ms);
#undef COUNT
    set_number(row, "trainLoss", round->train_loss);
    set_number(row, "loss", round->loss);
    set_number(row, "accuracy", round->accuracy);
    json_object_set_new(row, "model", json_string(round->model));
    if (round->failure_count > 0)
        json_object_set_new(row, "failures", failures_array(round));
    return row;
}

/* The table shows the rounds that were evaluated, the other forms all. */
void fl_report_round(void *user, const struct fl_simulated_round *round)
{
    struct fl_report *report = user;

    report->done = round->round;
    (void)snprintf(report->model, sizeof(report->model), "%s", round->model);
    if (round->evaluated) {
        report->last = *round;
        if (!report->best.evaluated || round->accuracy > report->best.accuracy)
            report->best = *round;
        if (round->accuracy >= report->simulation->target_accuracy && report->target_round == 0)
            report->target_round = round->round;
    }
    if (report->form == FL_REPORT_JSON)
        json_array_append_new(report->rounds, row_object(round));
    clear_bar(report);
    if (report->form == FL_REPORT_CSV)
        print_csv(round);
    if (report->form == FL_REPORT_TABLE && round->evaluated)
        print_row(round);
    if (report->form == FL_REPORT_TABLE)
        print_failures(round);
    (void)fflush(stdout);
    tell_progress(report, round);
}

/* --- the end -------------------------------------------------------------------------------- */

void fl_report_begin(struct fl_report *report)
{
    report->bar = !report->quiet && fl_output_has_colors(STDERR_FILENO);
    report->start_ms = fl_monotonic_ms(report->env);
    report->rounds = json_array();
    if (report->form == FL_REPORT_CSV)
        (void)puts(csv_header);
    if (report->form == FL_REPORT_TABLE)
        (void)puts(table_header);
    (void)fflush(stdout);
}

static json_t *options_object(const struct fl_simulation *simulation)
{
    struct fl_round_order spec = simulation->spec;
    const struct fl_partition partition = fl_partition_with_defaults(&simulation->partition);
    json_t *object, *part;

    spec.project = spec.model = NULL; /* each round's own */
    spec.round = 0;
    object = fl_message_to_json(&fl_form_round_order, &spec);
    part = json_pack("{s:s, s:I, s:I, s:f, s:I}", "kind", fl_partition_kind_name(partition.kind),
                     "learners", (json_int_t)partition.learners, "perLearner",
                     (json_int_t)partition.per_learner, "alpha", partition.alpha, "seed",
                     (json_int_t)partition.seed);
    json_object_set_new(
        object, simulation->code ? "code" : "trainer",
        json_string(simulation->code ? simulation->code->name : simulation->trainer->name));
    json_object_set_new(object, "partition", part);
    json_object_set_new(object, "rounds", json_integer(simulation->rounds));
    if (simulation->trainer_options)
        json_object_set(object, "options", (json_t *)simulation->trainer_options);
    if (simulation->attack.kind != FL_ATTACK_NONE)
        json_object_set_new(object, "attack",
                            json_pack("{s:s, s:I, s:f}", "kind",
                                      fl_attack_name(simulation->attack.kind), "learners",
                                      (json_int_t)simulation->attack.learners, "scale",
                                      simulation->attack.scale));
    return object;
}

static void print_document(const struct fl_report *report, const struct fl_error *err)
{
    FL_JSON document = json_object();
    json_t *result = json_object();
    struct fl_buf text;

    json_object_set_new(result, "rounds", json_integer(report->done));
    json_object_set_new(result, "model", json_string(report->model));
    if (report->last.evaluated) {
        set_number(result, "accuracy", report->last.accuracy);
        set_number(result, "loss", report->last.loss);
        set_number(result, "bestAccuracy", report->best.accuracy);
        json_object_set_new(result, "bestRound", json_integer(report->best.round));
    }
    if (report->target_round > 0)
        json_object_set_new(result, "targetReachedInRound", json_integer(report->target_round));
    if (err)
        json_object_set_new(result, "error", json_string(err->msg));
    json_object_set_new(document, "options", options_object(report->simulation));
    json_object_set(document, "rounds", report->rounds);
    json_object_set_new(document, "result", result);
    fl_buf_init(&text, 0);
    fl_json_write_pretty(&text, document);
    (void)fputs(fl_buf_text(&text), stdout);
    fl_buf_finish(&text);
}

static void print_summary(const struct fl_report *report)
{
    double target = report->simulation->target_accuracy;

    if (!report->last.evaluated)
        return;
    (void)printf("\naccuracy %.4f after %" PRId64 " rounds; best %.4f, after round %" PRId64 "\n",
                 report->last.accuracy, report->done, report->best.accuracy, report->best.round);
    if (report->target_round > 0)
        (void)printf("target %g reached in round %" PRId64 "\n", target, report->target_round);
    else if (!isnan(target))
        (void)printf("target %g not reached\n", target);
    (void)printf("model %s\n", report->model);
}

void fl_report_finish(struct fl_report *report, const struct fl_error *err)
{
    double took = (double)(fl_monotonic_ms(report->env) - report->start_ms) / 1000;

    clear_bar(report);
    if (report->form == FL_REPORT_JSON)
        print_document(report, err);
    if (report->form == FL_REPORT_TABLE)
        print_summary(report);
    (void)fflush(stdout);
    if (!report->quiet && report->done > 0)
        (void)fprintf(stderr, "%" PRId64 " rounds took %.1f s, %.3f s each\n", report->done, took,
                      took / (double)report->done);
    json_decref(FL_TAKE(report->rounds));
}
