#include "workloads/trainer/trainer_testing.h"

#include "workloads/data/random.h"

static float *noise(uint64_t seed, size_t count, float amount)
{
    float *values = fl_calloc(count, sizeof(*values));
    struct fl_random random = fl_random_from(seed, 0);

    for (size_t i = 0; i < count; i++)
        values[i] = amount * (float)(2 * fl_random_uniform(&random) - 1);
    return values;
}

void fl_patterns_make(const struct fl_patterns *patterns, struct fl_dataset *ret_data)
{
    size_t channels = patterns->channels > 0 ? patterns->channels : 1;
    size_t width = patterns->height * patterns->width * channels;
    FL_CLEANUP(fl_freep)
    float *means = noise(patterns->pattern_seed, width * (size_t)patterns->classes, 1);
    float *features = noise(patterns->seed, width * patterns->count, patterns->noise);
    int32_t *labels = fl_calloc(patterns->count, sizeof(*labels));

    for (size_t i = 0; i < patterns->count; i++) {
        labels[i] = (int32_t)(i % (size_t)patterns->classes);
        for (size_t k = 0; k < width; k++)
            features[i * width + k] += means[(size_t)labels[i] * width + k];
    }
    *ret_data = (struct fl_dataset){
        .refs = 1,
        .count = patterns->count,
        .width = width,
        .shape = {(int64_t)patterns->height, (int64_t)patterns->width, (int64_t)channels},
        .rank = patterns->channels > 0 ? 3 : 2,
        .classes = patterns->classes,
        .features = features,
        .labels = labels};
}

void fl_patterns_finish(struct fl_dataset *data)
{
    free((void *)data->features);
    free((void *)data->labels);
}
