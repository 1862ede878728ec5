/* What the fuzzers of request readers share: a small signature, and what every reader promises. */
#ifndef FL_WORKLOADS_SERVE_REQUEST_TESTING_H
#define FL_WORKLOADS_SERVE_REQUEST_TESTING_H

#include "workloads/serve/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_ROWS_MAX 8

static const struct fl_signature fuzz_signature = {
    .input = "x", .output = "y", .shape = {2, 2}, .rank = 2, .width = 4, .classes = 3};

/* Either rows of finite numbers, within the bound, or an error that says something. */
static inline void fuzz_check(int r, const struct fl_ask *ask, const struct fl_error *err)
{
    if (r < 0) {
        if (r != err->code || !*err->msg)
            abort();
        return;
    }
    if (ask->count < 1 || ask->count > FUZZ_ROWS_MAX ||
        ask->rows.count != ask->count * fuzz_signature.width)
        abort();
    for (size_t i = 0; i < ask->rows.count; i++)
        if (!isfinite(ask->rows.items[i]))
            abort();
}

#endif
