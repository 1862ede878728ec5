/* What layers do to numbers, apart from the matrix products (workloads/tensor/kernels.h).
 *
 * Arrays are the caller's, row-major, and do not overlap; an image is channels x height x width.
 * Nothing allocates, nothing fails, any thread. The same input gives the same bits. */
#ifndef FL_WORKLOADS_TRAINER_LAYERS_H
#define FL_WORKLOADS_TRAINER_LAYERS_H

#include <stddef.h>
#include <stdint.h>

enum fl_activation { FL_IDENTITY, FL_RELU, FL_TANH, FL_SIGMOID };

/* y = f(y + bias), each of `rows` rows having `cols` columns; and for images, where the bias is the
 * channel's and each has `area` pixels. */
void fl_activate(enum fl_activation f, size_t rows, size_t cols, const float *bias, float *y);
void fl_activate_image(enum fl_activation f, size_t channels, size_t area, const float *bias,
                       float *y);
/* delta *= f'(x), told from y = f(x). */
void fl_activate_back(enum fl_activation f, size_t n, const float *y, float *delta);

/* out = beta * out + alpha * (sum of the rows), and of each channel's pixels. */
void fl_sum_rows(size_t rows, size_t cols, const float *x, float alpha, float beta, float *out);
void fl_sum_images(size_t count, size_t channels, size_t area, const float *x, float alpha,
                   float beta, float *out);

/* Softmax and cross entropy of each row against its label: returns the sum of losses, adds to
 * *hits the rows whose largest logit (the first of equals) is the label's, and turns the logits
 * into scale * (probability - [is the label]). `scale` 0 leaves them. Stable: the largest logit is
 * subtracted first. */
double fl_softmax_loss(size_t rows, size_t classes, float scale, const int32_t *labels,
                       float *logits, size_t *hits);

/* Logits become probabilities, each row by itself; stable in the same way. */
void fl_softmax(size_t rows, size_t classes, float *logits);

/* A square filter slid over an image with same padding: (kernel - 1) / 2 zeros before, the rest
 * behind. */
struct fl_window {
    size_t channels, height, width;
    size_t kernel;
};
/* Floats of the padded copy of an image, with what may be read behind it. */
size_t fl_window_padded_size(const struct fl_window *window);
/* Floats of the columns: channels * kernel^2 rows, height * width columns, and a margin. */
size_t fl_window_cols_size(const struct fl_window *window);
/* Row (c, y, x) of `cols` is the image shifted so that the filter's element (c, y, x) meets it.
 * `padded` must be zero at first, and is used for one form of window only: its frame stays zero. */
void fl_im2col(const struct fl_window *window, const float *image, float *padded, float *cols);
/* The other way: what the columns say is added up where it came from. `padded` is scratch. */
void fl_col2im(const struct fl_window *window, const float *cols, float *padded, float *image);

/* The largest of each 2 x 2 square (the first of equals; cut at the lower and right edge), and
 * where in its square it stood: 0 … 3. The result has ceil(height / 2) x ceil(width / 2) pixels. */
void fl_pool(size_t channels, size_t height, size_t width, const float *x, float *y,
             uint8_t *which);
void fl_pool_back(size_t channels, size_t height, size_t width, const float *delta_y,
                  const uint8_t *which, float *delta_x);

#endif
