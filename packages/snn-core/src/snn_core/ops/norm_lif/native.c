/* Sums of batch norm over a batch, and its backward in place, on a CPU; x is [M, C, inner], of 32 or 16 bits, and all
 * arithmetic is in float32 or wider. Called from native.py. Plain C, as ops/lif/native.c.
 */
#include <math.h>
#include <stdint.h>

#include "../common/neuron.h"

#define AT_ONCE 4096 /* elements summed in float before they are added to a double */
#define ROWS 128     /* the same for rows of single elements */

/* `type`, of x and grad, is a constant. */
INLINE void sum_channels(int type, const void *x, const void *grad, const float *center, int64_t start, int64_t stop,
                         int64_t C, int64_t inner, double *restrict sums) {
    for (int64_t m = start; m < stop; m++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t from = 0; from < inner; from += AT_ONCE) {
                const int n = (int)(inner - from < AT_ONCE ? inner - from : AT_ONCE);
                const int64_t at = (m * C + c) * inner + from;
                const void *restrict xs = address(x, type, at), *restrict ws = grad ? address(grad, type, at) : xs;
                float first = 0.0f, second = 0.0f, middle = center[c], shift = grad ? 0.0f : middle;
                _Pragma("omp simd reduction(+ : first, second)") for (int i = 0; i < n; i++) {
                    float w = element(ws, type, i) - shift;
                    first += w;
                    second += w * (element(xs, type, i) - middle);
                }
                sums[c] += first;
                sums[C + c] += second;
            }
}

INLINE void sum_rows(int type, const void *x, const void *grad, const float *restrict center, int64_t start,
                     int64_t stop, int n, float *restrict space, double *restrict sums) {
    float *restrict first = space, *restrict second = space + n;
    for (int64_t m = start; m < stop;) {
        int64_t end = m + ROWS < stop ? m + ROWS : stop;
        memset(space, 0, sizeof(float) * 2 * (size_t)n);
        for (; m < end; m++) {
            const void *restrict xs = address(x, type, m * n);
            if (grad) {
                const void *restrict gs = address(grad, type, m * n);
                LOOP {
                    float g = element(gs, type, i);
                    first[i] += g;
                    second[i] += g * (element(xs, type, i) - center[i]);
                }
            } else
                LOOP {
                    float d = element(xs, type, i) - center[i];
                    first[i] += d;
                    second[i] += d * d;
                }
        }
        for (int i = 0; i < 2 * n; i++) sums[i] += space[i];
    }
}

/* For each channel the sums of w and w * d over rows start ... stop-1, where d = x - center[c] and w is the gradient, or
 * d if there is none. `space` [2, C] is a buffer, `sums` [2, C] the result. */
void snn_norm_sums(const void *x, const void *grad, const float *center, int64_t start, int64_t stop, int64_t C,
                   int64_t inner, int32_t type, float *space, double *sums) {
    for (int64_t i = 0; i < 2 * C; i++) sums[i] = 0.0;
#define CASE(TYPE)                                                                                                     \
    case TYPE:                                                                                                         \
        if (inner > 1)                                                                                                 \
            sum_channels(TYPE, x, grad, center, start, stop, C, inner, sums);                                          \
        else                                                                                                           \
            sum_rows(TYPE, x, grad, center, start, stop, (int)C, space, sums);                                         \
        break;
    switch (type) { CASE(F32) CASE(BF16) CASE(F16) }
#undef CASE
}

static double total(const double *parts, int64_t n_parts, int64_t at, int64_t C) {
    double sum = 0.0;
    for (int64_t p = 0; p < n_parts; p++) sum += parts[p * 2 * C + at];
    return sum;
}

/* Mean and biased variance [C] of n values per channel from partial sums [n_parts, 2, C] without a gradient. */
void snn_norm_moments(const double *parts, int64_t n_parts, const float *center, int64_t C, int64_t n,
                      float *restrict mean, float *restrict var) {
    for (int64_t c = 0; c < C; c++) {
        double first = total(parts, n_parts, c, C) / (double)n, second = total(parts, n_parts, C + c, C) / (double)n;
        double v = second - first * first;
        mean[c] = (float)((double)center[c] + first);
        var[c] = (float)(v > 0.0 ? v : 0.0);
    }
}

/* The coefficients [3, C] of snn_norm_combine and the gradients [2, C] of weight and bias, from sums with a gradient. */
void snn_norm_coefficients(const double *parts, int64_t n_parts, int64_t C, int64_t n, int32_t of_batch, double eps,
                           const float *weight, const float *var, float *restrict coefficients,
                           float *restrict gradients) {
    for (int64_t c = 0; c < C; c++) {
        double sum = total(parts, n_parts, c, C), with_distance = total(parts, n_parts, C + c, C);
        double invstd = 1.0 / sqrt((double)var[c] + eps), scale = (double)weight[c] * invstd;
        coefficients[c] = (float)scale;
        coefficients[C + c] = of_batch ? (float)(-scale * invstd * invstd * with_distance / (double)n) : 0.0f;
        coefficients[2 * C + c] = of_batch ? (float)(-scale * sum / (double)n) : 0.0f;
        gradients[c] = (float)(with_distance * invstd);
        gradients[C + c] = (float)sum;
    }
}

INLINE void combine(int type, void *grad, const void *x, const float *restrict center,
                    const float *restrict coefficients, int64_t start, int64_t stop, int64_t C, int64_t inner) {
    const float *restrict a = coefficients, *restrict b = coefficients + C, *restrict offset = coefficients + 2 * C;
    for (int64_t m = start; m < stop; m++) {
        if (inner == 1) {
            void *restrict gs = address(grad, type, m * C);
            const void *restrict xs = address(x, type, m * C);
            const int n = (int)C;
            LOOP set_element(gs, type, i,
                             a[i] * element(gs, type, i) + b[i] * (element(xs, type, i) - center[i]) + offset[i]);
        } else {
            const int n = (int)inner;
            for (int64_t c = 0; c < C; c++) {
                void *restrict gs = address(grad, type, (m * C + c) * inner);
                const void *restrict xs = address(x, type, (m * C + c) * inner);
                float scale = a[c], slope = b[c], middle = center[c], constant = offset[c];
                LOOP set_element(gs, type, i,
                                 scale * element(gs, type, i) + slope * (element(xs, type, i) - middle) + constant);
            }
        }
    }
}

/* grad = a[c] * grad + b[c] * (x - center[c]) + offset[c] on rows start ... stop-1, in place; coefficients are a, b and
 * offset [3, C]. */
void snn_norm_combine(void *grad, const void *x, const float *center, const float *coefficients, int64_t start,
                      int64_t stop, int64_t C, int64_t inner, int32_t type) {
#define CASE(TYPE)                                                                                                     \
    case TYPE: combine(TYPE, grad, x, center, coefficients, start, stop, C, inner); break;
    switch (type) { CASE(F32) CASE(BF16) CASE(F16) }
#undef CASE
}
