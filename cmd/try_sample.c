#include "cmd/try_sample.h"

#include "lib/str.h"
#include "workloads/data/random.h"

#define SEED  7
#define NOISE 0.2

bool fl_sample_read_shape(const char *text, struct fl_sample *sample)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    size_t width = 1;

    sample->rank = 0;
    for (const char *rest = text; rest; sample->rank++) {
        int64_t size;

        if (sample->rank == FL_DATASET_RANK_MAX ||
            !fl_str_to_int64(fl_str_next(arena, &rest, 'x'), 1, FL_DATASET_WIDTH_MAX, &size) ||
            width > FL_DATASET_WIDTH_MAX / (size_t)size)
            return false;
        sample->shape[sample->rank] = size;
        width *= (size_t)size;
    }
    return true;
}

/* An example is its class's pattern, between 0 and 1, and noise. */
static void draw(const struct fl_dataset *form, float *features, int32_t *labels)
{
    struct fl_random chance = fl_random_from(SEED, 0);
    FL_CLEANUP(fl_freep)
    float *patterns = fl_calloc((size_t)form->classes * form->width, sizeof(*patterns));

    for (size_t i = 0; i < (size_t)form->classes * form->width; i++)
        patterns[i] = (float)fl_random_uniform(&chance);
    for (size_t i = 0; i < form->count; i++) {
        labels[i] = (int32_t)(i % (size_t)form->classes);
        for (size_t k = 0; k < form->width; k++)
            features[i * form->width + k] = patterns[(size_t)labels[i] * form->width + k] +
                                            (float)(NOISE * (fl_random_uniform(&chance) - 0.5));
    }
}

int fl_sample_make(const struct fl_sample *sample, struct fl_dataset **ret_dataset,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_freep) float *features = NULL;
    FL_CLEANUP(fl_freep) int32_t *labels = NULL;
    struct fl_dataset form = {.count = (size_t)sample->examples,
                              .width = 1,
                              .rank = sample->rank,
                              .classes = sample->classes};

    for (unsigned i = 0; i < sample->rank; i++) {
        form.shape[i] = sample->shape[i];
        form.width *= (size_t)sample->shape[i];
    }
    if (sample->classes < 1)
        return fl_error_set(err, FL_E_INVALID, "a sample has a class at least");
    if (form.count > FL_DATASET_WIDTH_MAX * 16 / form.width)
        return fl_error_set(err, FL_E_INVALID, "a sample of this shape would be too large");
    features = fl_calloc(form.count * form.width, sizeof(*features));
    labels = fl_calloc(form.count, sizeof(*labels));
    draw(&form, features, labels);
    form.features = features;
    form.labels = labels;
    return fl_dataset_create(&form, ret_dataset, err);
}

int fl_sample_push(const struct fl_sample *sample, const struct fl_data_store *store,
                   const char *tag, size_t learners, struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    const struct fl_data_info info = {.format = "sample"};
    const struct fl_partition partition = {.learners = learners, .seed = SEED};
    int r = fl_sample_make(sample, &dataset, err);

    if (r == 0)
        r = fl_data_store_push(store, tag, dataset, &info, true, err);
    return r < 0 ? r : fl_data_store_partition(store, tag, NULL, &partition, true, err);
}
