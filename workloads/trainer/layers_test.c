/* Each fast path beside a plain one that says what is meant. */
#include "workloads/trainer/layers.h"

#include "lib/mem.h"
#include "workloads/data/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static struct fl_random chance;

static float *noise(size_t n)
{
    float *values = fl_calloc(n + 1, sizeof(*values));

    for (size_t i = 0; i < n; i++)
        values[i] = (float)(2 * fl_random_uniform(&chance) - 1);
    return values;
}

static void assert_near(size_t n, const float *fast, const float *plain)
{
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(fast[i] - plain[i]) <= 1e-5f * (1 + fabsf(plain[i])));
}

static const struct fl_window windows[] = {
    {1, 28, 28, 5}, {3, 7, 5, 3}, {2, 4, 17, 4}, {2, 1, 1, 15}, {4, 16, 16, 1}, {1, 3, 33, 2},
};

/* The image's pixel, or 0 outside. */
static float pixel(const struct fl_window *w, const float *image, size_t c, long y, long x)
{
    if (y < 0 || x < 0 || y >= (long)w->height || x >= (long)w->width)
        return 0;
    return image[(c * w->height + (size_t)y) * w->width + (size_t)x];
}

static void columns_of_images(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(windows); i++) {
        const struct fl_window *w = &windows[i];
        long before = ((long)w->kernel - 1) / 2;
        size_t area = w->height * w->width;
        FL_CLEANUP(fl_freep) float *image = noise(w->channels * area);
        FL_CLEANUP(fl_freep) float *padded = fl_calloc(fl_window_padded_size(w), sizeof(float));
        FL_CLEANUP(fl_freep) float *cols = fl_calloc(fl_window_cols_size(w), sizeof(float));
        const float *at = cols;

        fl_im2col(w, image, padded, cols);
        fl_im2col(w, image, padded, cols); /* its frame stayed zero */
        for (size_t c = 0; c < w->channels; c++)
            for (size_t ky = 0; ky < w->kernel; ky++)
                for (size_t kx = 0; kx < w->kernel; kx++)
                    for (size_t p = 0; p < area; p++)
                        assert_true(*at++ == pixel(w, image, c, (long)(p / w->width + ky) - before,
                                                   (long)(p % w->width + kx) - before));
    }
}

/* col2im is im2col's transpose: <im2col(x), c> = <x, col2im(c)> for any x and c. */
static void images_of_columns(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(windows); i++) {
        const struct fl_window *w = &windows[i];
        size_t size = w->channels * w->height * w->width, cols_size = size * w->kernel * w->kernel;
        FL_CLEANUP(fl_freep) float *image = noise(size), *back = noise(size);
        FL_CLEANUP(fl_freep) float *padded = fl_calloc(fl_window_padded_size(w), sizeof(float));
        FL_CLEANUP(fl_freep) float *cols = fl_calloc(fl_window_cols_size(w), sizeof(float));
        FL_CLEANUP(fl_freep) float *other = noise(cols_size);
        double left = 0, right = 0;

        fl_im2col(w, image, padded, cols);
        fl_col2im(w, other, padded, back);
        for (size_t k = 0; k < cols_size; k++)
            left += (double)cols[k] * (double)other[k];
        for (size_t k = 0; k < size; k++)
            right += (double)image[k] * (double)back[k];
        assert_true(fabs(left - right) < 1e-4 * (1 + fabs(left)));
    }
}

static void pools(void **state)
{
    static const size_t sizes[][3] = {{3, 8, 8}, {2, 7, 9}, {1, 1, 1},
                                      {2, 1, 6}, {2, 6, 1}, {1, 5, 70}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(sizes); i++) {
        size_t channels = sizes[i][0], h = sizes[i][1], w = sizes[i][2];
        size_t oh = (h + 1) / 2, ow = (w + 1) / 2, n = channels * oh * ow;
        const struct fl_window window = {channels, h, w, 1};
        FL_CLEANUP(fl_freep) float *x = noise(channels * h * w), *y = noise(n), *dy = noise(n);
        FL_CLEANUP(fl_freep) float *dx = noise(channels * h * w);
        FL_CLEANUP(fl_freep) uint8_t *which = fl_calloc(n, 1);
        double sum_dx = 0, sum_dy = 0;

        fl_pool(channels, h, w, x, y, which);
        fl_pool_back(channels, h, w, dy, which, dx);
        for (size_t k = 0; k < n; k++) {
            size_t c = k / (oh * ow), py = k / ow % oh * 2, px = k % ow * 2;
            float best = -2;

            for (size_t q = 0; q < 4; q++)
                if (py + q / 2 < h && px + q % 2 < w)
                    best =
                        fmaxf(best, pixel(&window, x, c, (long)(py + q / 2), (long)(px + q % 2)));
            assert_true(y[k] == best);
            assert_true(
                pixel(&window, x, c, (long)(py + which[k] / 2), (long)(px + which[k] % 2)) == best);
            assert_true(dx[(c * h + py + which[k] / 2) * w + px + which[k] % 2] == dy[k]);
            sum_dy += (double)fabsf(dy[k]);
        }
        for (size_t k = 0; k < channels * h * w; k++)
            sum_dx += (double)fabsf(dx[k]);
        assert_true(fabs(sum_dx - sum_dy) < 1e-9 * (1 + sum_dy)); /* and nothing anywhere else */
    }
}

static float apply(enum fl_activation f, float x)
{
    return f == FL_RELU      ? fmaxf(x, 0)
           : f == FL_TANH    ? tanhf(x)
           : f == FL_SIGMOID ? 1 / (1 + expf(-x))
                             : x;
}

static void activations(void **state)
{
    enum { ROWS = 3, COLS = 37, N = ROWS * COLS };

    (void)state;
    for (enum fl_activation f = FL_IDENTITY; f <= FL_SIGMOID; f++) {
        FL_CLEANUP(fl_freep) float *x = noise(N), *bias = noise(COLS), *y = noise(N);
        FL_CLEANUP(fl_freep) float *image = noise(N), *plain = noise(N), *delta = noise(N);

        memcpy(y, x, N * sizeof(float));
        memcpy(image, x, N * sizeof(float));
        fl_activate(f, ROWS, COLS, bias, y);
        for (size_t i = 0; i < N; i++)
            plain[i] = apply(f, x[i] + bias[i % COLS]);
        assert_near(N, y, plain);
        fl_activate_image(f, ROWS, COLS, bias, image);
        for (size_t i = 0; i < N; i++)
            plain[i] = apply(f, x[i] + bias[i / COLS]);
        assert_near(N, image, plain);
        for (size_t i = 0; i < N; i++) {
            float at = x[i] + bias[i % COLS], h = 1e-2f;

            delta[i] = 1;
            plain[i] = (apply(f, at + h) - apply(f, at - h)) / (2 * h);
            if (f == FL_RELU && fabsf(at) < h) /* the kink */
                plain[i] = y[i] > 0;
        }
        fl_activate_back(f, N, y, delta);
        for (size_t i = 0; i < N; i++)
            assert_true(fabsf(delta[i] - plain[i]) < 1e-3f);
    }
}

static void sums(void **state)
{
    enum { COUNT = 5, CHANNELS = 3, AREA = 37, N = COUNT * CHANNELS * AREA };
    FL_CLEANUP(fl_freep) float *x = noise(N), *fast = noise(AREA), *plain = noise(AREA);

    (void)state;
    memcpy(plain, fast, AREA * sizeof(float));
    fl_sum_rows(COUNT, AREA, x, 0.5f, 2, fast);
    for (size_t c = 0; c < AREA; c++) {
        plain[c] *= 2;
        for (size_t r = 0; r < COUNT; r++)
            plain[c] += 0.5f * x[r * AREA + c];
    }
    assert_near(AREA, fast, plain);
    fast[0] = fast[1] = fast[2] = NAN; /* beta 0 forgets what was there */
    fl_sum_images(COUNT, CHANNELS, AREA, x, -1, 0, fast);
    for (size_t c = 0; c < CHANNELS; c++) {
        plain[c] = 0;
        for (size_t i = 0; i < COUNT * AREA; i++)
            plain[c] -= x[(i / AREA * CHANNELS + c) * AREA + i % AREA];
    }
    assert_near(CHANNELS, fast, plain);
}

static void the_loss_is_stable(void **state)
{
    static const struct {
        float logits[3];
        int32_t label;
        double loss;
        size_t hits;
    } cases[] = {
        {{0, 0, 0}, 0, 1.0986122886681098, 1},
        {{0, 0, 0}, 2, 1.0986122886681098, 0}, /* the first of equals */
        {{1000, 0, 0}, 0, 0, 1},
        {{1000, 0, 0}, 1, 1000, 0},
        {{-1000, -1000, -1000}, 1, 1.0986122886681098, 0},
        {{1, 2, 3}, 2, 0.40760596444438, 1},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        float logits[3], sum = 0;
        size_t hits = 0;
        double loss;

        memcpy(logits, cases[i].logits, sizeof(logits));
        loss = fl_softmax_loss(1, 3, 0, &cases[i].label, logits, &hits);
        assert_true(fabs(loss - cases[i].loss) < 1e-6 * (1 + cases[i].loss));
        assert_int_equal(hits, cases[i].hits);
        assert_memory_equal(logits, cases[i].logits, sizeof(logits));
        (void)fl_softmax_loss(1, 3, 2, &cases[i].label, logits, &hits);
        for (size_t k = 0; k < 3; k++) {
            assert_true((logits[k] < 0) <= (k == (size_t)cases[i].label));
            sum += logits[k];
        }
        assert_true(fabsf(sum) < 1e-5f);
        assert_true(fabs((double)logits[cases[i].label] - 2 * (exp(-cases[i].loss) - 1)) < 1e-5);
    }
}

static void a_nan_is_not_lost(void **state)
{
    static const int32_t label = 0;

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        float logits[3] = {1, 2, 3};
        size_t hits = 0;

        logits[k] = NAN;
        assert_true(isnan(fl_softmax_loss(1, 3, 1, &label, logits, &hits)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_of_images),
        cmocka_unit_test(images_of_columns),
        cmocka_unit_test(pools),
        cmocka_unit_test(activations),
        cmocka_unit_test(sums),
        cmocka_unit_test(the_loss_is_stable),
        cmocka_unit_test(a_nan_is_not_lost),
    };

    chance = fl_random_from(7, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
