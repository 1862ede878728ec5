/* What `flops simulate` prints: rows as they come or one document, and how far it is.
 *
 * Results go to standard output and depend on the options alone; how far it is, and how long it
 * took, goes to standard error: a bar on a terminal, plain lines elsewhere. */
#ifndef FL_CMD_SIMULATE_REPORT_H
#define FL_CMD_SIMULATE_REPORT_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/interrupt.h"
#include "workloads/simulate/simulate.h"

enum fl_report_form { FL_REPORT_TABLE, FL_REPORT_JSON, FL_REPORT_CSV };
bool fl_report_form_find(const char *text, enum fl_report_form *ret_form); /* NULL: the table */

struct fl_report {
    enum fl_report_form form;
    bool quiet;
    struct fl_interrupt *interrupt;         /* lent */
    const struct fl_simulation *simulation; /* lent */
    const struct fl_env *env;

    bool bar, drawn;
    int64_t start_ms, drawn_ms;
    json_t *rounds;
    struct fl_simulated_round last, best; /* evaluated ones */
    char model[FL_DIGEST_SIZE];
    int64_t done, target_round; /* 0: not reached */
};
void fl_report_begin(struct fl_report *report);
/* The callbacks of a simulation whose user is the report. */
bool fl_report_interrupted(void *user);
void fl_report_update(void *user, int64_t round, int64_t done, int64_t all);
void fl_report_round(void *user, const struct fl_simulated_round *round);
/* What it came to; `err` NULL: to the end. Frees. */
void fl_report_finish(struct fl_report *report, const struct fl_error *err);

#endif
