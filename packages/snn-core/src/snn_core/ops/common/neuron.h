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

#define TILE 256 /* neurons processed at once */
#define LARGE (1 << 20) /* elements from which on results bypass the caches */
#define LOOP _Pragma("omp simd") for (int i = 0; i < n; i++)
/* A function whose constant arguments are to disappear: one loop is compiled for each combination of them. */
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

enum type { F32, BF16, F16, BYTE };
/* In the order of snn_core.SURROGATES; GIVEN: an array has the values of the surrogate gradient. */
enum surrogate { SIGMOID, ATAN, TRIANGLE, RECTANGLE, FAST_SIGMOID, ERF, GIVEN };
enum save { D32, D16, X, U8 };

/* The fields that the job of every neuron begins with; `JOB_FIELDS` of native.py. */
#define NEURON_JOB                                                                                                     \
    int64_t T, N;           /* time steps, neurons */                                                                  \
    int64_t start, stop;    /* the neurons to process */                                                               \
    const int32_t *lengths; /* [samples] or NULL: steps of each sample */                                              \
    int64_t samples;        /* neuron n is of sample n / (N / samples) */                                              \
    const float *scale, *shift; /* [channels] or NULL: the neuron receives scale * x + shift */                        \
    int64_t channels, inner;    /* neuron n is of channel n / inner % channels */                                      \
    float slope;                                                                                                       \
    int32_t soft_reset, detach_reset, detach_membrane, surrogate, save;                                                \
    int32_t type; /* of currents, spikes and gradients */

/* ---- conversions -------------------------------------------------------------------------------------------- */

INLINE uint32_t bits_of(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
INLINE float float_of(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

INLINE float from_bf16(uint16_t h) { return float_of((uint32_t)h << 16); }

INLINE uint16_t to_bf16(float f) { /* round to nearest, ties to even; NaN stays NaN */
    uint32_t u = bits_of(f);
    uint16_t rounded = (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    return f != f ? (uint16_t)0x7fc0 : rounded;
}

/* Element i of an array as a float. `type` is a constant where this is used. */
INLINE float element(const void *restrict from, int type, int64_t i) {
    if (type == F32) return ((const float *)from)[i];
    if (type == BF16) return from_bf16(((const uint16_t *)from)[i]);
    return (float)((const _Float16 *)from)[i];
}

INLINE void set_element(void *restrict to, int type, int64_t i, float value) {
    if (type == F32) ((float *)to)[i] = value;
    else if (type == BF16) ((uint16_t *)to)[i] = to_bf16(value);
    else if (type == F16) ((_Float16 *)to)[i] = (_Float16)value;
    else ((uint8_t *)to)[i] = value > 0.0f ? 1 : 0;
}

/* The address of element `at`. */
static inline void *address(const void *array, int type, int64_t at) {
    return (char *)array + at * (type == F32 ? 4 : type == BYTE ? 1 : 2);
}

static void load(const void *source, int64_t at, int type, int n, float *restrict to) {
    const void *from = address(source, type, at);
    if (type == BF16)
        LOOP to[i] = element(from, BF16, i);
    else
        LOOP to[i] = element(from, F16, i);
}

static void store(const float *restrict from, int n, int type, void *target, int64_t at) {
    void *to = address(target, type, at);
    if (type == BF16)
        LOOP set_element(to, BF16, i, from[i]);
    else
        LOOP set_element(to, F16, i, from[i]);
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

/* 2^y for y <= 0, relative error below 2e-7, 0 below -126. y = k + f with |f| <= 1/2; the polynomial's coefficients are
 * fitted to (2^f - 1) / f there (iteratively reweighted least squares, error 9e-8). */
INLINE float exp2_of_negative(float y) {
    float z = y < -126.0f ? -126.0f : y;
    float t = z + 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer, in the low bits of t */
    float f = z - (t - 12582912.0f);
    float p = 1.326472716e-3f;
    p = p * f + 9.671512838e-3f;
    p = p * f + 5.550733745e-2f;
    p = p * f + 2.402224208e-1f;
    p = p * f + 6.931469776e-1f;
    p = p * f + 1.0f;
    float scaled = float_of(bits_of(p) + (bits_of(t) << 23));
    return y < -126.0f ? 0.0f : scaled;
}

INLINE float magnitude(float x) { return float_of(bits_of(x) & 0x7fffffffu); }

#define LOG2_E 1.44269504088896341f

/* The surrogate gradient of one gap. `kind` is a constant where this is used, so that one case remains. */
INLINE float bump_of(float gap, int kind, float slope) {
    switch (kind) {
    case SIGMOID: {
        float z = exp2_of_negative(magnitude(gap) * (-slope * LOG2_E)), w = 1.0f + z;
        return slope * z / (w * w);
    }
    case ATAN: {
        float u = 1.57079632679f * slope * gap;
        return 0.5f * slope / (1.0f + u * u);
    }
    case TRIANGLE: {
        float u = 1.0f - slope * magnitude(gap);
        return u > 0.0f ? slope * u : 0.0f;
    }
    case RECTANGLE: return magnitude(gap) < 0.5f / slope ? slope : 0.0f;
    case FAST_SIGMOID: {
        float u = 1.0f + slope * magnitude(gap);
        return 0.5f * slope / (u * u);
    }
    default: { /* ERF */
        float u = slope * gap;
        return slope * 0.56418958354775628f * exp2_of_negative(u * u * -LOG2_E);
    }
    }
}

#define FOR_EACH_SURROGATE(DO) DO(SIGMOID) DO(ATAN) DO(TRIANGLE) DO(RECTANGLE) DO(FAST_SIGMOID) DO(ERF)

static void bump(const float *restrict gap, int n, int kind, float slope, float *restrict to) {
#define CASE(KIND)                                                                                                     \
    case KIND: LOOP to[i] = bump_of(gap[i], KIND, slope); break;
    switch (kind) { FOR_EACH_SURROGATE(CASE) }
#undef CASE
}

#endif
