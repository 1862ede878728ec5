#include "workloads/trainer/layers.h"

#include <math.h>
#include <string.h>

/* As in the kernels: several machines' code, the same bits. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) &&                 \
    !defined(__SANITIZE_ADDRESS__)
#define MACHINES __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define MACHINES
#endif

#define STEP 16 /* floats copied at once: rows of images are short */

/* Activations */

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

MACHINES static void add_relu(size_t n, const float *restrict bias, float *restrict y)
{
    for (size_t i = 0; i < n; i++) {
        float x = y[i] + bias[i];

        y[i] = x < 0 ? 0 : x; /* a NaN stays one */
    }
}

static void add_and_activate(enum fl_activation f, size_t n, const float *bias, float *y)
{
    if (f == FL_RELU) {
        add_relu(n, bias, y);
        return;
    }
    for (size_t i = 0; i < n; i++)
        y[i] += bias[i];
    for (size_t i = 0; i < n && f != FL_IDENTITY; i++)
        y[i] = f == FL_TANH ? tanhf(y[i]) : sigmoid(y[i]);
}

void fl_activate(enum fl_activation f, size_t rows, size_t cols, const float *bias, float *y)
{
    for (size_t r = 0; r < rows; r++)
        add_and_activate(f, cols, bias, y + r * cols);
}

MACHINES static void add_one_relu(size_t n, float bias, float *y)
{
    for (size_t i = 0; i < n; i++) {
        float x = y[i] + bias;

        y[i] = x < 0 ? 0 : x;
    }
}

void fl_activate_image(enum fl_activation f, size_t channels, size_t area, const float *bias,
                       float *y)
{
    for (size_t c = 0; c < channels; c++, y += area) {
        if (f == FL_RELU) {
            add_one_relu(area, bias[c], y);
            continue;
        }
        for (size_t i = 0; i < area; i++) {
            float x = y[i] + bias[c];

            y[i] = f == FL_IDENTITY ? x : f == FL_TANH ? tanhf(x) : sigmoid(x);
        }
    }
}

MACHINES static void relu_back(size_t n, const float *restrict y, float *restrict delta)
{
    for (size_t i = 0; i < n; i++)
        delta[i] = y[i] > 0 ? delta[i] : 0;
}

void fl_activate_back(enum fl_activation f, size_t n, const float *y, float *delta)
{
    switch (f) {
    case FL_IDENTITY:
        break;
    case FL_RELU:
        relu_back(n, y, delta);
        break;
    case FL_TANH:
        for (size_t i = 0; i < n; i++)
            delta[i] *= 1 - y[i] * y[i];
        break;
    case FL_SIGMOID:
        for (size_t i = 0; i < n; i++)
            delta[i] *= y[i] * (1 - y[i]);
        break;
    }
}

/* Sums */

MACHINES static void scale_into(size_t n, float beta, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = beta == 0 ? 0 : beta * out[i];
}

MACHINES static void add_scaled(size_t n, float alpha, const float *restrict x, float *restrict out)
{
    for (size_t i = 0; i < n; i++)
        out[i] += alpha * x[i];
}

void fl_sum_rows(size_t rows, size_t cols, const float *x, float alpha, float beta, float *out)
{
    scale_into(cols, beta, out);
    for (size_t r = 0; r < rows; r++)
        add_scaled(cols, alpha, x + r * cols, out);
}

/* In a fixed number of lanes, so that all machines add alike. */
MACHINES static float sum(size_t n, const float *x)
{
    float lanes[STEP] = {0}, total = 0;
    size_t i = 0;

    for (; i + STEP <= n; i += STEP)
        for (size_t l = 0; l < STEP; l++)
            lanes[l] += x[i + l];
    for (; i < n; i++)
        lanes[i % STEP] += x[i];
    for (size_t l = 0; l < STEP; l++)
        total += lanes[l];
    return total;
}

void fl_sum_images(size_t count, size_t channels, size_t area, const float *x, float alpha,
                   float beta, float *out)
{
    scale_into(channels, beta, out);
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < channels; c++, x += area)
            out[c] += alpha * sum(area, x);
}

/* Loss */

static size_t largest(size_t n, const float *x)
{
    size_t at = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[at])
            at = i;
    return at;
}

static void to_gradient(size_t classes, float scale, float max, double total, size_t label,
                        float *logits)
{
    float factor = (float)(scale / total);

    for (size_t i = 0; i < classes; i++)
        logits[i] = factor * expf(logits[i] - max);
    logits[label] -= scale;
}

/* At least 1: the largest is its own. */
static double sum_of_powers(size_t classes, float max, const float *logits)
{
    double total = 0;

    for (size_t i = 0; i < classes; i++)
        total += (double)expf(logits[i] - max);
    return total;
}

double fl_softmax_loss(size_t rows, size_t classes, float scale, const int32_t *labels,
                       float *logits, size_t *hits)
{
    double loss = 0;

    for (size_t r = 0; r < rows; r++, logits += classes) {
        size_t label = (size_t)labels[r], best = largest(classes, logits);
        float max = logits[best];
        double total = sum_of_powers(classes, max, logits);

        loss += log(total) - ((double)logits[label] - (double)max);
        *hits += best == label;
        if (scale != 0)
            to_gradient(classes, scale, max, total, label, logits);
    }
    return loss;
}

void fl_softmax(size_t rows, size_t classes, float *logits)
{
    for (size_t r = 0; r < rows; r++, logits += classes) {
        float max = logits[largest(classes, logits)];
        double total = sum_of_powers(classes, max, logits);

        for (size_t i = 0; i < classes; i++)
            logits[i] = (float)((double)expf(logits[i] - max) / total);
    }
}

/* Windows */

static size_t padded_width(const struct fl_window *window)
{
    return window->width + window->kernel - 1;
}

static size_t padded_area(const struct fl_window *window)
{
    return (window->height + window->kernel - 1) * padded_width(window);
}

size_t fl_window_padded_size(const struct fl_window *window)
{
    return window->channels * padded_area(window) + STEP;
}

size_t fl_window_cols_size(const struct fl_window *window)
{
    return window->channels * window->kernel * window->kernel * window->height * window->width +
           STEP;
}

/* Where the image begins in its padded copy. */
static size_t padded_origin(const struct fl_window *window)
{
    size_t before = (window->kernel - 1) / 2;

    return before * padded_width(window) + before;
}

static void pad(const struct fl_window *window, const float *image, float *padded)
{
    float *at = padded + padded_origin(window);

    for (size_t c = 0; c < window->channels; c++, at += padded_area(window))
        for (size_t y = 0; y < window->height; y++, image += window->width)
            memcpy(at + y * padded_width(window), image, window->width * sizeof(float));
}

/* `height` rows of `width` out of rows of `stride`. Each is copied in whole steps: what is too much
 * is overwritten by the row after it, or lies in the margin. */
MACHINES static void copy_rows(size_t height, size_t width, size_t stride, const float *from,
                               float *to)
{
    for (size_t y = 0; y < height; y++, from += stride, to += width)
        for (size_t x = 0; x < width; x += STEP)
            memcpy(to + x, from + x, STEP * sizeof(float));
}

MACHINES static void add_rows(size_t height, size_t width, size_t stride,
                              const float *restrict from, float *restrict to)
{
    for (size_t y = 0; y < height; y++, from += width, to += stride)
        for (size_t x = 0; x < width; x++)
            to[x] += from[x];
}

void fl_im2col(const struct fl_window *window, const float *image, float *padded, float *cols)
{
    size_t stride = padded_width(window), area = window->height * window->width;

    pad(window, image, padded);
    for (size_t c = 0; c < window->channels; c++, padded += padded_area(window))
        for (size_t y = 0; y < window->kernel; y++)
            for (size_t x = 0; x < window->kernel; x++, cols += area)
                copy_rows(window->height, window->width, stride, padded + y * stride + x, cols);
}

void fl_col2im(const struct fl_window *window, const float *cols, float *padded, float *image)
{
    size_t stride = padded_width(window), area = window->height * window->width;
    const float *from = padded + padded_origin(window);

    memset(padded, 0, window->channels * padded_area(window) * sizeof(float));
    for (size_t c = 0; c < window->channels; c++, padded += padded_area(window))
        for (size_t y = 0; y < window->kernel; y++)
            for (size_t x = 0; x < window->kernel; x++, cols += area)
                add_rows(window->height, window->width, stride, cols, padded + y * stride + x);
    for (size_t c = 0; c < window->channels; c++, from += padded_area(window))
        for (size_t y = 0; y < window->height; y++, image += window->width)
            memcpy(image, from + y * stride, window->width * sizeof(float));
}

/* Pools */

static void take_largest(const float *x, size_t width, size_t rows, size_t cols, float *y,
                         uint8_t *which)
{
    *y = x[0];
    *which = 0;
    for (size_t i = 1; i < 4; i++) {
        size_t row = i / 2, col = i % 2;

        if (row < rows && col < cols && !(x[row * width + col] <= *y)) {
            *y = x[row * width + col];
            *which = (uint8_t)i;
        }
    }
}

/* Two rows of the input into one of the output, where all squares are whole. */
MACHINES static void pool_pair(size_t count, const float *restrict upper,
                               const float *restrict lower, float *restrict y,
                               uint8_t *restrict which)
{
    for (size_t i = 0; i < count; i++) {
        float best = upper[2 * i];
        uint8_t at = 0;

        at = upper[2 * i + 1] <= best ? at : 1;
        best = upper[2 * i + 1] <= best ? best : upper[2 * i + 1];
        at = lower[2 * i] <= best ? at : 2;
        best = lower[2 * i] <= best ? best : lower[2 * i];
        at = lower[2 * i + 1] <= best ? at : 3;
        best = lower[2 * i + 1] <= best ? best : lower[2 * i + 1];
        y[i] = best;
        which[i] = at;
    }
}

void fl_pool(size_t channels, size_t height, size_t width, const float *x, float *y, uint8_t *which)
{
    size_t whole = width / 2;

    for (size_t row = 0; row < channels * ((height + 1) / 2); row++) {
        size_t in_y = row % ((height + 1) / 2) * 2, rows = height - in_y;

        if (rows > 1)
            pool_pair(whole, x, x + width, y, which);
        else
            for (size_t i = 0; i < whole; i++)
                take_largest(x + 2 * i, width, 1, 2, y + i, which + i);
        if (width % 2)
            take_largest(x + 2 * whole, width, rows, 1, y + whole, which + whole);
        x += rows > 1 ? 2 * width : width;
        y += (width + 1) / 2;
        which += (width + 1) / 2;
    }
}

void fl_pool_back(size_t channels, size_t height, size_t width, const float *delta_y,
                  const uint8_t *which, float *delta_x)
{
    size_t out_height = (height + 1) / 2, out_width = (width + 1) / 2;

    memset(delta_x, 0, channels * height * width * sizeof(float));
    for (size_t c = 0; c < channels; c++, delta_x += height * width)
        for (size_t y = 0; y < out_height; y++)
            for (size_t x = 0; x < out_width; x++, delta_y++, which++)
                delta_x[(2 * y + *which / 2) * width + 2 * x + *which % 2] = *delta_y;
}
