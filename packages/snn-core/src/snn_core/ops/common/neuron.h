/* What the neurons in C share: the fields of a call, number types and surrogate gradients. Every function processes a
 * tile of neurons in one loop without branches, which compilers vectorize.
 */
#ifndef SNN_SURROGATES_H
#define SNN_SURROGATES_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#define TILE 1024 /* neurons processed at once */
#define LARGE (1 << 20) /* elements from which on results bypass the caches */
#define LOOP _Pragma("omp simd") for (int i = 0; i < n; i++)

enum type { F32, BF16, F16 };
enum surrogate { SIGMOID, ATAN, TRIANGLE, RECTANGLE, FAST_SIGMOID, ERF }; /* in the order of snn_core.SURROGATES */
enum save { D32, D16, X, U8 };

/* The fields that the job of every neuron begins with; `NeuronJob` of cpu.py. */
#define NEURON_JOB                                                                                                     \
    int64_t T, N;           /* time steps, neurons */                                                                  \
    int64_t start, stop;    /* the neurons to process */                                                               \
    const int32_t *lengths; /* [samples] or NULL: steps of each sample */                                              \
    int64_t samples;        /* neuron n is of sample n / (N / samples) */                                              \
    float slope;                                                                                                       \
    int32_t soft_reset, detach_reset, detach_membrane, surrogate, save;                                                \
    int32_t type; /* of currents, spikes and gradients */

/* ---- conversions -------------------------------------------------------------------------------------------- */

static inline uint32_t bits_of(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float float_of(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

static inline float from_bf16(uint16_t h) { return float_of((uint32_t)h << 16); }

static inline uint16_t to_bf16(float f) { /* round to nearest, ties to even; NaN stays NaN */
    uint32_t u = bits_of(f);
    uint16_t rounded = (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    return f != f ? (uint16_t)0x7fc0 : rounded;
}

static void load(const void *source, int64_t at, int type, int n, float *restrict to) {
    if (type == BF16) {
        const uint16_t *restrict x = (const uint16_t *)source + at;
        LOOP to[i] = from_bf16(x[i]);
    } else {
        const _Float16 *restrict x = (const _Float16 *)source + at;
        LOOP to[i] = (float)x[i];
    }
}

static void store(const float *restrict from, int n, int type, void *target, int64_t at) {
    if (type == BF16) {
        uint16_t *restrict y = (uint16_t *)target + at;
        LOOP y[i] = to_bf16(from[i]);
    } else {
        _Float16 *restrict y = (_Float16 *)target + at;
        LOOP y[i] = (_Float16)from[i];
    }
}

/* Store floats bypassing the caches, which saves reading the memory first; for arrays too large to stay in a cache. */
static void stream(const float *restrict from, int n, float *restrict to) {
    int i = 0;
#if defined(__AVX__)
    if (((uintptr_t)to & 31u) == 0)
        for (; i + 8 <= n; i += 8) _mm256_stream_ps(to + i, _mm256_load_ps(from + i));
#endif
    for (; i < n; i++) to[i] = from[i];
}

/* Return values at `at` as floats: the memory itself, or its conversion in `space`. */
static const float *read_floats(const void *source, int64_t at, int type, int n, float *space) {
    if (type == F32) return (const float *)source + at;
    load(source, at, type, n, space);
    return space;
}

/* ---- surrogate gradients of the gap (all are even, so the gap's sign does not matter) ------------------------- */

/* exp(y) for y <= 0, relative error below 2e-7, 0 below -87. exp(y) = 2^k exp(r) with |r| <= ln(2) / 2; the polynomial's
 * coefficients are fitted to (exp(r) - 1 - r) / r^2 there (iteratively reweighted least squares, error 3e-9). */
static inline float exp_of_negative(float y) {
    float z = y < -87.0f ? -87.0f : y;
    float t = z * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer, in the low bits of t */
    float k = t - 12582912.0f;
    float r = (z - k * 0.693359375f) + k * 2.12194440e-4f; /* ln(2) in two parts, the first exact times k */
    float p = 1.381446685e-3f;
    p = p * r + 8.368780548e-3f;
    p = p * r + 4.166839422e-2f;
    p = p * r + 1.666652011e-1f;
    p = p * r + 4.999999341e-1f;
    p = p * (r * r) + r + 1.0f;
    float scaled = float_of(bits_of(p) + (bits_of(t) << 23));
    return y < -87.0f ? 0.0f : scaled;
}

static inline float magnitude(float x) { return float_of(bits_of(x) & 0x7fffffffu); }

static void bump(const float *restrict gap, int n, int kind, float slope, float *restrict to) {
    switch (kind) {
    case SIGMOID:
        LOOP {
            float z = exp_of_negative(-slope * magnitude(gap[i]));
            float w = 1.0f + z;
            to[i] = slope * z / (w * w);
        }
        break;
    case ATAN: {
        float a = 1.57079632679f * slope, half = 0.5f * slope;
        LOOP {
            float u = a * gap[i];
            to[i] = half / (1.0f + u * u);
        }
        break;
    }
    case TRIANGLE:
        LOOP {
            float u = 1.0f - slope * magnitude(gap[i]);
            to[i] = u > 0.0f ? slope * u : 0.0f;
        }
        break;
    case RECTANGLE: {
        float half = 0.5f / slope;
        LOOP to[i] = magnitude(gap[i]) < half ? slope : 0.0f;
        break;
    }
    case FAST_SIGMOID: {
        float half = 0.5f * slope;
        LOOP {
            float u = 1.0f + slope * magnitude(gap[i]);
            to[i] = half / (u * u);
        }
        break;
    }
    default: { /* ERF */
        float top = slope * 0.56418958354775628f;
        LOOP {
            float u = slope * gap[i];
            to[i] = top * exp_of_negative(-u * u);
        }
    }
    }
}

#endif
