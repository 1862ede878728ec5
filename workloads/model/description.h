/* What a model is, said in its own file, so that it can be used by whoever has nothing but the
 * file.
 *
 * The notes of a safetensors file (its "__metadata__"):
 *
 *   flops.format   "1"
 *   flops.trainer  "SoftmaxRegression", "MLP" or "CNN"
 *   flops.options  all of the trainer's options with their values, canonical JSON:
 *                  {"activation":"ReLU","hiddenUnits":[200,200]}
 *   flops.input    {"dtype":"F32","name":"input","shape":[28,28]}: of one example
 *   flops.output   {"classes":10,"name":"probabilities","names":["T-shirt", …]}: names where known
 *
 * A trainer writes them into the model that it makes; strategies hand a round's base model's notes
 * on to the next, so a model has them however many rounds it went through. A learner's update needs
 * none. A model without them was made by a foreign trainer: it can be trained, and not served.
 *
 * A description is read into an arena and lives as long. Any thread. */
#ifndef FL_WORKLOADS_MODEL_DESCRIPTION_H
#define FL_WORKLOADS_MODEL_DESCRIPTION_H

#include "lib/json.h"
#include "workloads/data/dataset.h"
#include "workloads/tensor/tensor.h"

struct fl_description {
    const char *trainer;
    const json_t *options; /* an object; lent */
    const char *input_name, *output_name;
    enum fl_dtype input_dtype; /* F32 always, in this version */
    int64_t shape[FL_DATASET_RANK_MAX];
    unsigned rank; /* of an example */
    int64_t classes;
    const char *const *class_names; /* `classes` of them; NULL: not known */
};

size_t fl_description_width(const struct fl_description *description); /* floats of an example */

/* Into the notes of a model that one owns alone. Names that would need more than a header should
 * hold are left out. */
void fl_description_write(const struct fl_description *description, struct fl_model *model);
/* NOT_FOUND where the model says nothing of itself, INVALID where what it says is wrong or more
 * than this version knows. Whether options and tensors fit the trainer is predictor.h's to say. */
int fl_description_read(const struct fl_model *model, struct fl_arena *arena,
                        struct fl_description *ret_description, struct fl_error *err);

#endif
