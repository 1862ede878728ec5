#include "workloads/serve/servable.h"

#include "lib/env.h"
#include "lib/str.h"
#include "workloads/model/predictor.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WARM_ROWS 20

struct fl_servable {
    int refs;
    char digest[FL_DIGEST_SIZE], platform[64];
    struct fl_model *model;
    struct fl_predictor *seats[2];
    struct fl_signature signature; /* its texts are the predictor's */
    double row_us;
};

static void read_signature(struct fl_servable *served)
{
    const struct fl_description *description = fl_predictor_description(served->seats[0]);
    struct fl_signature *signature = &served->signature;

    *signature = (struct fl_signature){.input = description->input_name,
                                       .output = description->output_name,
                                       .rank = description->rank,
                                       .width = fl_description_width(description),
                                       .classes = (size_t)description->classes};
    memcpy(signature->shape, description->shape, description->rank * sizeof(*signature->shape));
    (void)snprintf(served->platform, sizeof(served->platform), "flops_%s", description->trainer);
    for (char *at = served->platform; *at; at++)
        *at = (char)tolower((unsigned char)*at);
}

/* Pages are touched and caches filled; the fastest row counts, whatever else the machine did. */
static void warm(struct fl_servable *served)
{
    const struct fl_signature *signature = &served->signature;
    float *row = fl_calloc(signature->width, sizeof(float)),
          *answer = fl_calloc(signature->classes, sizeof(float));

    served->row_us = 1e9;
    for (int i = 0; i < WARM_ROWS; i++) {
        const int64_t begin_us = fl_machine_monotonic_us();
        double took;

        fl_servable_predict(served, i % 2 ? FL_SEAT_WORKER : FL_SEAT_LOOP, row, 1, answer);
        took = (double)(fl_machine_monotonic_us() - begin_us);
        if (took < served->row_us)
            served->row_us = took;
    }
    free(row);
    free(answer);
}

int fl_servable_load(const void *data, size_t len, struct fl_servable **ret_servable,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_servable_unrefp) struct fl_servable *served = fl_calloc(1, sizeof(*served));
    int r = fl_kernels_init(err);

    served->refs = 1;
    fl_digest_of(data, len, served->digest);
    if (r == 0)
        r = fl_safetensors_read(data, len, NULL, &served->model, err);
    for (size_t i = 0; i < FL_COUNT_OF(served->seats) && r == 0; i++)
        r = fl_predictor_create(served->model, 0, &served->seats[i], err);
    if (r < 0)
        return fl_error_wrap(err, "the model cannot be served");
    read_signature(served);
    warm(served);
    *ret_servable = FL_TAKE(served);
    return 0;
}

struct fl_servable *fl_servable_ref(struct fl_servable *served)
{
    served->refs++;
    return served;
}

void fl_servable_unref(struct fl_servable *served)
{
    if (!served || --served->refs > 0)
        return;
    for (size_t i = 0; i < FL_COUNT_OF(served->seats); i++)
        fl_predictor_destroy(served->seats[i]);
    fl_model_unref(served->model);
    free(served);
}

const struct fl_signature *fl_servable_signature(const struct fl_servable *served)
{
    return &served->signature;
}

const char *fl_servable_digest(const struct fl_servable *served)
{
    return served->digest;
}

const char *fl_servable_platform(const struct fl_servable *served)
{
    return served->platform;
}

double fl_servable_row_us(const struct fl_servable *served)
{
    return served->row_us;
}

void fl_servable_predict(struct fl_servable *served, enum fl_servable_seat seat, const float *rows,
                         size_t count, float *ret_answers)
{
    fl_predictor_predict(served->seats[seat], FL_PROBABILITIES, rows, count, ret_answers);
}
