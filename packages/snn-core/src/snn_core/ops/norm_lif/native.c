/* Sums of batch norm over a batch, and its backward in place, for float32 on a CPU; x is [M, C, inner]. Called from
 * native.py. Plain C, as ops/lif/native.c.
 */
#include <math.h>
#include <stdint.h>

#define AT_ONCE 4096 /* elements summed in float before they are added to a double */
#define ROWS 128     /* the same for rows of single elements */

/* For each channel the sums of w and w * d over rows start ... stop-1, where d = x - center[c] and w is the gradient, or
 * d if there is none. `space` [2, C] is a buffer, `sums` [2, C] the result. */
void snn_norm_sums(const float *x, const float *grad, const float *center, int64_t start, int64_t stop, int64_t C,
                   int64_t inner, float *restrict space, double *restrict sums) {
    for (int64_t i = 0; i < 2 * C; i++) sums[i] = 0.0;
    if (inner > 1) {
        for (int64_t m = start; m < stop; m++)
            for (int64_t c = 0; c < C; c++)
                for (int64_t from = 0; from < inner; from += AT_ONCE) {
                    int n = (int)(inner - from < AT_ONCE ? inner - from : AT_ONCE);
                    const float *restrict xs = x + (m * C + c) * inner + from;
                    const float *restrict ws = grad ? grad + (m * C + c) * inner + from : xs;
                    float first = 0.0f, second = 0.0f, middle = center[c], shift = grad ? 0.0f : middle;
                    _Pragma("omp simd reduction(+ : first, second)") for (int i = 0; i < n; i++) {
                        float w = ws[i] - shift;
                        first += w;
                        second += w * (xs[i] - middle);
                    }
                    sums[c] += first;
                    sums[C + c] += second;
                }
        return;
    }
    float *restrict first = space, *restrict second = space + C;
    for (int64_t m = start; m < stop;) {
        int64_t end = m + ROWS < stop ? m + ROWS : stop;
        for (int64_t i = 0; i < 2 * C; i++) space[i] = 0.0f;
        for (; m < end; m++) {
            const float *restrict xs = x + m * C, *restrict gs = grad ? grad + m * C : xs;
            if (grad)
                _Pragma("omp simd") for (int64_t c = 0; c < C; c++) {
                    first[c] += gs[c];
                    second[c] += gs[c] * (xs[c] - center[c]);
                }
            else
                _Pragma("omp simd") for (int64_t c = 0; c < C; c++) {
                    float d = xs[c] - center[c];
                    first[c] += d;
                    second[c] += d * d;
                }
        }
        for (int64_t i = 0; i < 2 * C; i++) sums[i] += space[i];
    }
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

/* grad = a[c] * grad + b[c] * (x - center[c]) + offset[c] on rows start ... stop-1, in place; coefficients are a, b and
 * offset [3, C]. */
void snn_norm_combine(float *restrict grad, const float *restrict x, const float *restrict center,
                      const float *restrict coefficients, int64_t start, int64_t stop, int64_t C, int64_t inner) {
    const float *restrict a = coefficients, *restrict b = coefficients + C, *restrict offset = coefficients + 2 * C;
    for (int64_t m = start; m < stop; m++) {
        if (inner == 1) {
            float *restrict gs = grad + m * C;
            const float *restrict xs = x + m * C;
            _Pragma("omp simd") for (int64_t c = 0; c < C; c++)
                gs[c] = a[c] * gs[c] + b[c] * (xs[c] - center[c]) + offset[c];
        } else {
            for (int64_t c = 0; c < C; c++) {
                float *restrict gs = grad + (m * C + c) * inner;
                const float *restrict xs = x + (m * C + c) * inner;
                float scale = a[c], slope = b[c], middle = center[c], constant = offset[c];
                _Pragma("omp simd") for (int64_t i = 0; i < inner; i++)
                    gs[i] = scale * gs[i] + slope * (xs[i] - middle) + constant;
            }
        }
    }
}
