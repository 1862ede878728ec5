/* Using a model: from its file alone to a network that answers.
 *
 * A predictor owns the space to compute in and a reference to the model, which it does not change:
 * threads that answer at the same time have a predictor each and share the model. Made once and
 * used often; predicting allocates nothing and cannot fail. One thread at a time. */
#ifndef FL_WORKLOADS_MODEL_PREDICTOR_H
#define FL_WORKLOADS_MODEL_PREDICTOR_H

#include "workloads/model/description.h"
#include "workloads/trainer/network.h"

struct fl_predictor;

/* `batch`: examples computed at once, at most (0: some); more may be asked for. NOT_FOUND where the
 * model does not say what it is; INVALID where its tensors are not what it says, or not finite. */
int fl_predictor_create(struct fl_model *model, size_t batch, struct fl_predictor **ret_predictor,
                        struct fl_error *err);
void fl_predictor_destroy(struct fl_predictor *predictor);
FL_DEFINE_CLEANUP(struct fl_predictor, fl_predictor_destroy)

/* Lent, as long as the predictor is there. */
const struct fl_description *fl_predictor_description(const struct fl_predictor *predictor);
const struct fl_network_shape *fl_predictor_shape(const struct fl_predictor *predictor);
const struct fl_model *fl_predictor_model(const struct fl_predictor *predictor);

/* `count` examples of fl_description_width floats each, one behind the other; `classes` answers for
 * each. */
void fl_predictor_predict(struct fl_predictor *predictor, enum fl_network_answer answer,
                          const float *examples, size_t count, float *ret_answers);

#endif
