/* The multi-step leaky integrate-and-fire neuron on a CPU: equations in reference.py, buffers in torch_kernels.py. Plain C
 * without headers of PyTorch or Python, so that one build works for all versions.
 *
 * Neurons are processed in tiles whose potentials stay in the first-level cache over all time steps. One time step of a
 * tile is one loop without branches, which compilers vectorize: it reads the inputs, converts them, computes, and writes
 * the results. `step.h` has these loops. Samples
 * of different lengths, coarse saves and learned constants add loops over the tile before and after it.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "step.h"

#define LEVELS 127 /* steps of the one-byte code of the surrogate gradient */

static float highest(int kind, float slope) {
    float zero = 0.0f, top = 0.0f;
    bump(&zero, 1, kind, slope, &top);
    return top;
}

/* ---- forward ------------------------------------------------------------------------------------------------- */

/* Constants of the neurons of one tile. */
typedef struct {
    float scale[TILE], shift[TILE];
    int32_t steps[TILE];
} tile_constants;

static void load_constants(const job *j, int64_t at, int n, tile_constants *tile) {
    if (j->scale) {
        int64_t channel = at / j->inner % j->channels, left = j->inner - at % j->inner;
        if (j->inner == 1) /* one division per neuron would cost more than its time steps */
            for (int i = 0; i < n; channel = 0) {
                int run = (int)(j->channels - channel < n - i ? j->channels - channel : n - i);
                memcpy(tile->scale + i, j->scale + channel, sizeof(float) * (size_t)run);
                memcpy(tile->shift + i, j->shift + channel, sizeof(float) * (size_t)run);
                i += run;
            }
        else
            for (int i = 0; i < n; channel = channel + 1 == j->channels ? 0 : channel + 1, left = j->inner)
                for (; i < n && left > 0; i++, left--) {
                    tile->scale[i] = j->scale[channel];
                    tile->shift[i] = j->shift[channel];
                }
    }
    if (j->lengths) {
        int64_t each = j->N / j->samples;
        for (int i = 0; i < n; i++) tile->steps[i] = j->lengths[(at + i) / each];
    }
}

static inline int has_ended(const tile_constants *tile, int i, int64_t t) { return tile->steps[i] <= (int32_t)t; }

/* Potentials before the first step; with a stride of 0 one value is shared by all. */
static void start_at(const float *v_init, int64_t v_stride, int64_t at, int n, float *restrict v) {
    if (v_stride) {
        memcpy(v, v_init + at, sizeof(float) * (size_t)n);
    } else {
        float rest = v_init[0];
        LOOP v[i] = rest;
    }
}

/* A function for each combination, small enough to be compiled fast, and their table. */
typedef void forward_step(const job *, const void *, int, const float *, const float *, float *, float *, void *);
#define STEP(TYPE, AFFINE, OUTPUT)                                                                                     \
    static NOINLINE void step_##TYPE##_##AFFINE##_##OUTPUT(const job *j, const void *x, int n, const float *scale,     \
                                                           const float *shift, float *v, float *gap, void *spikes) {   \
        forward_loop(TYPE, TYPE, AFFINE, OUTPUT, j, x, n, scale, shift, v, gap, spikes);                               \
    }
#define STEPS(TYPE)                                                                                                    \
    STEP(TYPE, 0, SPIKES) STEP(TYPE, 0, SPIKES_AND_GAP) STEP(TYPE, 0, GAP)                                             \
    STEP(TYPE, 1, SPIKES) STEP(TYPE, 1, SPIKES_AND_GAP) STEP(TYPE, 1, GAP)
STEPS(F32) STEPS(BF16) STEPS(F16)
#define ROW(TYPE, AFFINE) {step_##TYPE##_##AFFINE##_SPIKES, step_##TYPE##_##AFFINE##_SPIKES_AND_GAP, step_##TYPE##_##AFFINE##_GAP}
#define ROWS(TYPE) {ROW(TYPE, 0), ROW(TYPE, 1)}
static forward_step *const steps[3][2][3] = {ROWS(F32), ROWS(BF16), ROWS(F16)}; /* by type, affine and output */
#undef ROWS
#undef ROW

/* Samples that have ended keep their potential and have an infinite gap. */
static void hold_ended(const tile_constants *tile, int64_t t, int n, const float *restrict before, float *restrict v,
                       float *restrict gap) {
    LOOP {
        int ended = has_ended(tile, i, t);
        v[i] = ended ? before[i] : v[i];
        gap[i] = ended ? float_of(0x7f800000u) : gap[i];
    }
}

/* Samples that have ended do not spike. */
static void silence_ended(const tile_constants *tile, int64_t t, int n, void *spikes, int type) {
    if (type == F32) {
        float *restrict s = spikes;
        LOOP s[i] = has_ended(tile, i, t) ? 0.0f : s[i];
    } else {
        uint16_t *restrict s = spikes;
        LOOP s[i] = has_ended(tile, i, t) ? 0 : s[i];
    }
}

static void encode(const job *j, const float *restrict gap, int n, float top, float *restrict space, void *saved,
                   int64_t at) {
    if (j->save == D16) { /* the sign bit is the spike: a distance that rounds to 0 from below is -0, one of exactly 0 is +0 */
        _Float16 *restrict to = (_Float16 *)saved + at;
        LOOP to[i] = (_Float16)(0.0f - gap[i]);
    } else {
        uint8_t *restrict to = (uint8_t *)saved + at;
        float levels = LEVELS / top;
        bump(gap, n, j->surrogate, j->slope, space);
        LOOP {
            uint32_t level = bits_of(space[i] * levels + 12582912.0f) & 0xffu;
            to[i] = (uint8_t)(level + (gap[i] <= 0.0f ? LEVELS + 1 : 0));
        }
    }
}

void snn_lif_forward(const job *j, const void *x, int64_t x_stride, const float *v_init, int64_t v_stride, void *spikes,
                     void *saved, float *v_last) {
    _Alignas(64) float v[TILE], gap_space[TILE], spike_space[TILE], before[TILE];
    tile_constants tile;
    const int type = j->type, large = j->T * j->N >= LARGE, streamed = large && type == F32;
    const float top = j->save == U8 ? highest(j->surrogate, j->slope) : 0.0f;
    forward_step *run = steps[type][j->scale != NULL][saved || j->lengths ? SPIKES_AND_GAP : SPIKES];
    for (int64_t at = j->start; at < j->stop; at += TILE) {
        int n = (int)(j->stop - at < TILE ? j->stop - at : TILE);
        start_at(v_init, v_stride, at, n, v);
        if (j->scale || j->lengths) load_constants(j, at, n, &tile);
        for (int64_t t = 0; t < j->T; t++) {
            const int64_t here = t * j->N + at;
            float *saved_gap = saved && j->save == D32 ? (float *)saved + here : NULL;
            float *gap = saved_gap && !large ? saved_gap : gap_space;
            void *fired = streamed ? spike_space : address(spikes, type, here);
            if (j->lengths) memcpy(before, v, sizeof(float) * (size_t)n);
            run(j, address(x, type, t * x_stride + at), n, tile.scale, tile.shift, v, gap, fired);
            if (j->lengths) {
                hold_ended(&tile, t, n, before, v, gap);
                silence_ended(&tile, t, n, fired, type);
            }
            if (streamed) stream(spike_space, n, (float *)spikes + here);
            if (saved_gap && large) stream(gap, n, saved_gap);
            if (saved && !saved_gap) encode(j, gap, n, top, before, saved, here);
        }
        if (v_last) memcpy(v_last + at, v, sizeof(float) * (size_t)n);
    }
}

/* ---- backward ------------------------------------------------------------------------------------------------ */

typedef void backward_step(const job *, const void *, const float *, const float *, int, float *, void *);
#define STEP_BACK(KIND, PATH, TYPE)                                                                                    \
    static NOINLINE void back_##KIND##_##PATH##_##TYPE(const job *j, const void *upstream, const float *gap,           \
                                                       const float *slopes, int n, float *carry, void *out) {          \
        backward_loop(KIND, PATH, TYPE, j, upstream, gap, slopes, n, carry, out);                                      \
    }
#define STEPS_BACK(KIND)                                                                                               \
    STEP_BACK(KIND, NO_PATH, F32) STEP_BACK(KIND, PAST_RESET, F32) STEP_BACK(KIND, THROUGH_RESET, F32)                 \
    STEP_BACK(KIND, NO_PATH, BF16) STEP_BACK(KIND, PAST_RESET, BF16) STEP_BACK(KIND, THROUGH_RESET, BF16)
FOR_EACH_SURROGATE(STEPS_BACK) STEPS_BACK(GIVEN)
#define ROW(KIND, TYPE) {back_##KIND##_NO_PATH_##TYPE, back_##KIND##_PAST_RESET_##TYPE, back_##KIND##_THROUGH_RESET_##TYPE}
#define ROWS(KIND) {ROW(KIND, F32), ROW(KIND, BF16)},
/* by kind, type and path */
static backward_step *const steps_back[GIVEN + 1][2][3] = {FOR_EACH_SURROGATE(ROWS) ROWS(GIVEN)};
#undef ROWS
#undef ROW

/* The gap of one step from the saved tensor; where surrogate values were saved, those, and only the sign of the gap. */
static const float *decode(const job *j, const void *saved, int64_t at, int n, float top, float *restrict space,
                           float *restrict slopes) {
    if (j->save == D32) return (const float *)saved + at;
    if (j->save == D16) { /* 1e-30 replaces a distance that was rounded to 0, with its sign */
        const _Float16 *restrict from = (const _Float16 *)saved + at;
        LOOP {
            float d = (float)from[i];
            uint32_t sign = bits_of(d) & 0x80000000u;
            space[i] = -d + float_of(bits_of(1e-30f) | (sign ^ 0x80000000u));
        }
    } else {
        const uint8_t *restrict from = (const uint8_t *)saved + at;
        float level = top / LEVELS;
        LOOP {
            int code = from[i];
            space[i] = code > LEVELS ? -0.5f : 0.5f;
            slopes[i] = (float)(code & LEVELS) * level;
        }
    }
    return space;
}

/* Sums for the gradients of decay, gain and threshold. */
typedef struct { double decay, gain, threshold; } sums;

static void add_threshold(const job *j, const float *restrict upstream, const float *restrict gap,
                          const float *restrict slopes, const float *restrict carry, const float *restrict active,
                          int n, sums *total) {
    double sum = 0.0;
    const float threshold = j->threshold, through = j->detach_reset ? 0.0f : 1.0f;
    const float subtracted = j->soft_reset ? 1.0f : 0.0f, soft = subtracted;
    _Pragma("omp simd reduction(+ : sum)") for (int i = 0; i < n; i++) {
        /* With a soft reset a spike changes v by -threshold, with a hard one by -h. */
        float jump = soft > 0.0f ? threshold : threshold - gap[i];
        float reach = through * carry[i] * slopes[i] * jump - (gap[i] <= 0.0f ? subtracted * carry[i] : 0.0f);
        sum += active[i] > 0.0f ? (double)reach - (double)(upstream[i] * slopes[i]) : 0.0;
    }
    total->threshold += sum;
}

/* dh/ddecay = v before the step, dh/dgain = its current; grad and h are those of the step after `gap`'s. */
static void add_leak(const job *j, const float *restrict before, const float *restrict h, const float *restrict grad,
                     int n, sums *total) {
    double decay_sum = 0.0, gain_sum = 0.0;
    const float decay = j->decay;
    _Pragma("omp simd reduction(+ : decay_sum, gain_sum)") for (int i = 0; i < n; i++) {
        decay_sum += (double)grad[i] * before[i];
        gain_sum += (double)grad[i] * (h[i] - decay * before[i]);
    }
    total->decay += decay_sum;
    total->gain += gain_sum / j->gain;
}

/* Recompute the gaps of all steps of a tile [T, TILE] from its currents. */
static void recompute(const job *j, const void *x, int64_t x_stride, int64_t at, int n, const float *v_init,
                      int64_t v_stride, const tile_constants *tile, float *gaps) {
    _Alignas(64) float v[TILE], before[TILE];
    start_at(v_init, v_stride, at, n, v);
    for (int64_t t = 0; t < j->T; t++) {
        float *gap = gaps + t * TILE;
        if (j->lengths) memcpy(before, v, sizeof(float) * (size_t)n);
        steps[j->type][j->scale != NULL][GAP](j, address(x, j->type, t * x_stride + at), n, tile->scale, tile->shift, v,
                                              gap, NULL);
        if (j->lengths) hold_ended(tile, t, n, before, v, gap);
    }
}

/* `gaps` is a buffer of [T, TILE] floats where the input was saved (save X); `constants` [tiles, 3] or NULL receives each
 * tile's sums of the gradients of decay, gain and threshold. */
void snn_lif_backward(const job *j, const void *grad_spikes, int64_t grad_stride, const float *grad_v_last,
                      const void *saved, int64_t saved_stride, const float *v_init, int64_t v_stride, void *grad_x,
                      float *grad_v, float *gaps, double *constants) {
    _Alignas(64) float carry[TILE], slope_space[TILE], gap_space[TILE], up_space[TILE], out_space[TILE], after_end[TILE];
    _Alignas(64) float active[TILE], before[TILE], h_after[TILE], grad_after[TILE];
    tile_constants tile;
    const float top = j->save == U8 ? highest(j->surrogate, j->slope) : 0.0f;
    const int large = j->T * j->N >= LARGE, last = (int)j->T - 1;
    const int path = j->detach_reset ? PAST_RESET : THROUGH_RESET;
    /* What the loop of one step does not do needs the gradients as floats and the surrogate's values in an array. */
    const int staged = constants || j->lengths || j->type == F16, type = staged ? F32 : j->type;
    const int kind = staged || j->save == U8 ? GIVEN : j->surrogate;
    for (int64_t at = j->start; at < j->stop; at += TILE) {
        int n = (int)(j->stop - at < TILE ? j->stop - at : TILE);
        sums total = {0.0, 0.0, 0.0};
        if (j->scale || j->lengths) load_constants(j, at, n, &tile);
        if (j->save == X) recompute(j, saved, saved_stride, at, n, v_init, v_stride, &tile, gaps);
        if (grad_v_last)
            memcpy(carry, grad_v_last + at, sizeof(float) * (size_t)n);
        else
            memset(carry, 0, sizeof carry);
        if (!grad_spikes) memset(up_space, 0, sizeof up_space);
        if (constants)
            for (int i = 0; i < n; i++) active[i] = 1.0f;
        for (int64_t t = last; t >= 0; t--) {
            const int64_t here = t * j->N + at, from = t * grad_stride + at;
            const void *upstream = !grad_spikes ? up_space
                                   : staged     ? read_floats(grad_spikes, from, j->type, n, up_space)
                                                : address(grad_spikes, type, from);
            const float *gap = j->save == X ? gaps + t * TILE
                                            : decode(j, saved, here, n, top, gap_space, slope_space);
            void *out = type == F32 && (large || j->type != F32) ? out_space : address(grad_x, type, here);
            if (staged && j->save != U8) bump(gap, n, j->surrogate, j->slope, slope_space);
            if (j->lengths) {
                LOOP {
                    int ended = has_ended(&tile, i, t);
                    active[i] = ended ? 0.0f : 1.0f;
                    slope_space[i] = ended ? 0.0f : slope_space[i];
                    /* the slope is computed; any finite gap above 0 avoids inf * 0 = NaN */
                    gap_space[i] = ended ? j->threshold : gap[i];
                    after_end[i] = carry[i];
                }
                gap = gap_space;
            }
            if (constants) {
                add_threshold(j, upstream, gap, slope_space, carry, active, n, &total);
                if (t < last) {
                    LOOP {
                        float h = j->threshold - gap[i];
                        before[i] = gap[i] <= 0.0f ? (j->soft_reset ? h - j->threshold : 0.0f) : h;
                    }
                    add_leak(j, before, h_after, grad_after, n, &total);
                }
            }
            /* Nothing passes between the steps of a detached membrane, except after the end of a sample. */
            steps_back[kind][type][j->detach_membrane && t < last && !j->lengths ? NO_PATH : path](
                j, upstream, gap, slope_space, n, carry, out);
            if (staged) {
                float *floats = out;
                if (j->lengths) LOOP {
                    carry[i] = active[i] > 0.0f ? carry[i] : after_end[i];
                    floats[i] = active[i] > 0.0f ? floats[i] : 0.0f;
                }
                if (constants) LOOP {
                    h_after[i] = j->threshold - gap[i];
                    grad_after[i] = floats[i] / j->gain;
                }
            }
            if (j->type != type)
                store(out_space, n, j->type, grad_x, here);
            else if (large && type == F32)
                stream(out_space, n, (float *)grad_x + here);
        }
        if (constants) {
            start_at(v_init, v_stride, at, n, before);
            add_leak(j, before, h_after, grad_after, n, &total);
            double *sum = constants + 3 * (at / TILE);
            sum[0] = total.decay;
            sum[1] = total.gain;
            sum[2] = total.threshold;
        }
        if (grad_v) memcpy(grad_v + at, carry, sizeof(float) * (size_t)n);
    }
}

int64_t snn_lif_tile(void) { return TILE; }
