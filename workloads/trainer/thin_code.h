/* The code of thin.c, for the machine that is chosen where this is included; THIN(x) is x's name
 * there. Several times in one file: so there is no guard. */
#ifndef THIN
#error "this is included by thin.c only"
#endif

/* `n` of them (WIDE at most); the others are 0. */
BLOCK_CODE void THIN(load)(wide *to, const float *from, size_t n)
{
    if (n >= WIDE) {
        __builtin_memcpy(to, from, sizeof(*to));
        return;
    }
    *to = (wide){0};
    __builtin_memcpy(to, from, n * sizeof(float));
}

BLOCK_CODE void THIN(store)(float *to, const wide *from, size_t n)
{
    __builtin_memcpy(to, from, (n >= WIDE ? WIDE : n) * sizeof(float));
}

/* In a fixed order. */
BLOCK_CODE float THIN(total)(const wide *sum)
{
    float lanes[WIDE];

    __builtin_memcpy(lanes, sum, sizeof(lanes));
    for (size_t width = WIDE / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

/* Forward: dot products */

BLOCK_CODE void THIN(forward_step)(size_t rows, size_t units, size_t inputs, const float *x,
                                   const float *w, size_t n, wide sums[F_ROWS][F_UNITS])
{
    wide weights[F_UNITS];

    UNROLL for (size_t u = 0; u < units; u++) THIN(load)(&weights[u], w + u * inputs, n);
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        wide value;

        THIN(load)(&value, x + r * inputs, n);
        UNROLL for (size_t u = 0; u < units; u++) sums[r][u] += value * weights[u];
    }
}

BLOCK_CODE void THIN(forward_block)(size_t rows, size_t units, const struct fl_thin *size,
                                    const float *x, const float *w, float *y)
{
    wide sums[F_ROWS][F_UNITS] = {{{0}}};
    size_t j = 0;

    for (; j + WIDE <= size->inputs; j += WIDE)
        THIN(forward_step)(rows, units, size->inputs, x + j, w + j, WIDE, sums);
    if (j < size->inputs)
        THIN(forward_step)(rows, units, size->inputs, x + j, w + j, size->inputs - j, sums);
    UNROLL for (size_t r = 0; r < rows; r++) UNROLL for (size_t u = 0; u < units; u++)
        y[r * size->units + u] = THIN(total)(&sums[r][u]);
}

static void THIN(forward)(const struct fl_thin *size, const float *x, const float *w, float *y)
{
    size_t u = 0, r;

    for (; u + F_UNITS <= size->units; u += F_UNITS, w += F_UNITS * size->inputs) {
        for (r = 0; r + F_ROWS <= size->rows; r += F_ROWS)
            THIN(forward_block)
        (F_ROWS, F_UNITS, size, x + r * size->inputs, w, y + r * size->units + u);
        for (; r < size->rows; r++)
            THIN(forward_block)(1, F_UNITS, size, x + r * size->inputs, w, y + r * size->units + u);
    }
    for (; u < size->units; u++, w += size->inputs)
        for (r = 0; r < size->rows; r++)
            THIN(forward_block)(1, 1, size, x + r * size->inputs, w, y + r * size->units + u);
}

/* Backward: sums of the weights' rows */

BLOCK_CODE void THIN(backward_block)(size_t rows, size_t count, const struct fl_thin *size,
                                     size_t n, const float *delta, const float *w, float *below)
{
    wide sums[B_ROWS][B_WIDE] = {{{0}}};

    for (size_t u = 0; u < size->units; u++, w += size->inputs) {
        wide weights[B_WIDE];

        UNROLL for (size_t k = 0; k < count; k++)
            THIN(load)(&weights[k], w + k * WIDE, n - k * WIDE);
        UNROLL for (size_t r = 0; r < rows; r++) UNROLL for (size_t k = 0; k < count; k++)
            sums[r][k] += delta[r * size->units + u] * weights[k];
    }
    UNROLL for (size_t r = 0; r < rows; r++) UNROLL for (size_t k = 0; k < count; k++)
        THIN(store)(below + r * size->inputs + k * WIDE, &sums[r][k], n - k * WIDE);
}

BLOCK_CODE void THIN(backward_rows)(size_t rows, const struct fl_thin *size, const float *delta,
                                    const float *w, float *below)
{
    size_t j = 0;

    for (; j + B_WIDE * WIDE <= size->inputs; j += B_WIDE * WIDE)
        THIN(backward_block)(rows, B_WIDE, size, B_WIDE * WIDE, delta, w + j, below + j);
    for (; j + WIDE <= size->inputs; j += WIDE)
        THIN(backward_block)(rows, 1, size, WIDE, delta, w + j, below + j);
    if (j < size->inputs)
        THIN(backward_block)(rows, 1, size, size->inputs - j, delta, w + j, below + j);
}

static void THIN(backward)(const struct fl_thin *size, const float *delta, const float *w,
                           float *below)
{
    size_t r = 0;

    for (; r + B_ROWS <= size->rows; r += B_ROWS)
        THIN(backward_rows)(B_ROWS, size, delta + r * size->units, w, below + r * size->inputs);
    for (; r + 2 <= size->rows; r += 2)
        THIN(backward_rows)(2, size, delta + r * size->units, w, below + r * size->inputs);
    for (; r < size->rows; r++)
        THIN(backward_rows)(1, size, delta + r * size->units, w, below + r * size->inputs);
}
