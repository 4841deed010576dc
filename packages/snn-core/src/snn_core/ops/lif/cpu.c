/* The multi-step leaky integrate-and-fire neuron on a CPU: equations in reference.py, buffers in few_pass.py. Plain C
 * without headers of PyTorch or Python, so that one build works for all versions.
 *
 * Neurons are processed in tiles whose potentials stay in the first-level cache over all time steps. Every stage is one
 * loop over a tile without branches, which compilers vectorize; results for the next stage stay in that cache. Where no
 * conversion is needed, a stage is skipped and its pointer set to the memory itself.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../common/neuron.h"

#define LEVELS 127 /* steps of the one-byte code of the surrogate gradient */

typedef struct {
    NEURON_JOB
    float decay, gain, threshold;
    const float *scale, *shift; /* [channels] or NULL: the neuron receives scale * x + shift */
    int64_t channels, inner;    /* neuron n is of channel n / inner % channels */
} job;

static float highest(int kind, float slope) {
    float zero = 0.0f, top;
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

/* One time step: update potentials v, write gap and spikes. */
static void step(const job *j, const float *restrict current, int n, float *restrict v, float *restrict gap,
                 float *restrict spikes) {
    const float decay = j->decay, gain = j->gain, threshold = j->threshold;
    if (j->soft_reset)
        LOOP {
            float h = gain * current[i] + decay * v[i], e = threshold - h;
            gap[i] = e;
            spikes[i] = e <= 0.0f ? 1.0f : 0.0f;
            v[i] = e <= 0.0f ? h - threshold : h;
        }
    else
        LOOP {
            float h = gain * current[i] + decay * v[i], e = threshold - h;
            gap[i] = e;
            spikes[i] = e <= 0.0f ? 1.0f : 0.0f;
            v[i] = e <= 0.0f ? 0.0f : h;
        }
}

/* The same without writing the gap. */
static void step_only(const job *j, const float *restrict current, int n, float *restrict v, float *restrict spikes) {
    const float decay = j->decay, gain = j->gain, threshold = j->threshold;
    if (j->soft_reset)
        LOOP {
            float h = gain * current[i] + decay * v[i], e = threshold - h;
            spikes[i] = e <= 0.0f ? 1.0f : 0.0f;
            v[i] = e <= 0.0f ? h - threshold : h;
        }
    else
        LOOP {
            float h = gain * current[i] + decay * v[i], e = threshold - h;
            spikes[i] = e <= 0.0f ? 1.0f : 0.0f;
            v[i] = e <= 0.0f ? 0.0f : h;
        }
}

/* The current of one time step as floats, after the affine. */
static const float *current_of(const job *j, const void *x, int64_t at, int n, const tile_constants *tile, float *space) {
    const float *raw = read_floats(x, at, j->type, n, space);
    if (!j->scale) return raw;
    LOOP {
        float scaled = tile->scale[i] * raw[i];
        space[i] = scaled + tile->shift[i];
    }
    return space;
}

/* Samples that have ended keep their potential, do not spike, and have an infinite gap. */
static void hold_ended(const tile_constants *tile, int64_t t, int n, const float *restrict before, float *restrict v,
                       float *restrict gap, float *restrict spikes) {
    LOOP {
        int ended = has_ended(tile, i, t);
        v[i] = ended ? before[i] : v[i];
        gap[i] = ended ? float_of(0x7f800000u) : gap[i];
        spikes[i] = ended ? 0.0f : spikes[i];
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
    _Alignas(64) float v[TILE], gap_space[TILE], spike_space[TILE], x_space[TILE], before[TILE];
    tile_constants tile;
    float top = j->save == U8 ? highest(j->surrogate, j->slope) : 0.0f;
    int large = j->T * j->N >= LARGE;
    for (int64_t at = j->start; at < j->stop; at += TILE) {
        int n = (int)(j->stop - at < TILE ? j->stop - at : TILE);
        start_at(v_init, v_stride, at, n, v);
        if (j->scale || j->lengths) load_constants(j, at, n, &tile);
        for (int64_t t = 0; t < j->T; t++) {
            const float *current = current_of(j, x, t * x_stride + at, n, &tile, x_space);
            float *saved_gap = saved && j->save == D32 ? (float *)saved + t * j->N + at : NULL;
            float *gap = saved_gap && !large ? saved_gap : gap_space;
            float *fired = j->type == F32 && !large ? (float *)spikes + t * j->N + at : spike_space;
            if (j->lengths) memcpy(before, v, sizeof(float) * (size_t)n);
            if (saved || j->lengths)
                step(j, current, n, v, gap, fired);
            else
                step_only(j, current, n, v, fired);
            if (j->lengths) hold_ended(&tile, t, n, before, v, gap, fired);
            if (j->type != F32)
                store(fired, n, j->type, spikes, t * j->N + at);
            else if (large)
                stream(fired, n, (float *)spikes + t * j->N + at);
            if (saved_gap && large) stream(gap, n, saved_gap);
            if (saved && j->save != D32) encode(j, gap, n, top, x_space, saved, t * j->N + at);
        }
        memcpy(v_last + at, v, sizeof(float) * (size_t)n);
    }
}

/* ---- backward ------------------------------------------------------------------------------------------------ */

/* One time step back: `carry` is the gradient of the potential after the step and becomes that of the one before. */
static void step_back(const job *j, const float *restrict upstream, const float *restrict gap,
                      const float *restrict slopes, int n, float *restrict carry, float *restrict out) {
    const float decay = j->detach_membrane ? 0.0f : j->decay, gain = j->gain, threshold = j->threshold;
    if (j->soft_reset && j->detach_reset)
        LOOP {
            float g = upstream[i] * slopes[i] + carry[i];
            carry[i] = decay * g;
            out[i] = gain * g;
        }
    else if (j->soft_reset)
        LOOP {
            float g = (upstream[i] - threshold * carry[i]) * slopes[i] + carry[i];
            carry[i] = decay * g;
            out[i] = gain * g;
        }
    else if (j->detach_reset)
        LOOP {
            float g = upstream[i] * slopes[i] + (gap[i] > 0.0f ? carry[i] : 0.0f);
            carry[i] = decay * g;
            out[i] = gain * g;
        }
    else
        LOOP {
            float h = threshold - gap[i];
            float g = (upstream[i] - h * carry[i]) * slopes[i] + (gap[i] > 0.0f ? carry[i] : 0.0f);
            carry[i] = decay * g;
            out[i] = gain * g;
        }
}

/* A detached membrane has no recurrence: only the gradient through the spike of each step. */
static void step_alone(const job *j, const float *restrict upstream, const float *restrict slopes, int n,
                       float *restrict out) {
    const float gain = j->gain;
    LOOP out[i] = gain * (upstream[i] * slopes[i]);
}

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
                      int64_t v_stride, const tile_constants *tile, float *space, float *gaps) {
    _Alignas(64) float v[TILE], fired[TILE], before[TILE];
    start_at(v_init, v_stride, at, n, v);
    for (int64_t t = 0; t < j->T; t++) {
        const float *current = current_of(j, x, t * x_stride + at, n, tile, space);
        float *gap = gaps + t * TILE;
        if (j->lengths) memcpy(before, v, sizeof(float) * (size_t)n);
        step(j, current, n, v, gap, fired);
        if (j->lengths) hold_ended(tile, t, n, before, v, gap, fired);
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
    float top = j->save == U8 ? highest(j->surrogate, j->slope) : 0.0f;
    int large = j->T * j->N >= LARGE;
    for (int64_t at = j->start; at < j->stop; at += TILE) {
        int n = (int)(j->stop - at < TILE ? j->stop - at : TILE);
        sums total = {0.0, 0.0, 0.0};
        if (j->scale || j->lengths) load_constants(j, at, n, &tile);
        if (j->save == X) recompute(j, saved, saved_stride, at, n, v_init, v_stride, &tile, up_space, gaps);
        if (grad_v_last)
            memcpy(carry, grad_v_last + at, sizeof(float) * (size_t)n);
        else
            memset(carry, 0, sizeof carry);
        if (!grad_spikes) memset(up_space, 0, sizeof up_space);
        for (int i = 0; i < n; i++) active[i] = 1.0f;
        for (int64_t t = j->T - 1; t >= 0; t--) {
            const float *upstream =
                grad_spikes ? read_floats(grad_spikes, t * grad_stride + at, j->type, n, up_space) : up_space;
            const float *gap = j->save == X ? gaps + t * TILE
                                            : decode(j, saved, t * j->N + at, n, top, gap_space, slope_space);
            if (j->save != U8) bump(gap, n, j->surrogate, j->slope, slope_space);
            float *out = j->type == F32 && !large ? (float *)grad_x + t * j->N + at : out_space;
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
                if (t < j->T - 1) {
                    LOOP {
                        float h = j->threshold - gap[i];
                        before[i] = gap[i] <= 0.0f ? (j->soft_reset ? h - j->threshold : 0.0f) : h;
                    }
                    add_leak(j, before, h_after, grad_after, n, &total);
                }
            }
            if (j->detach_membrane && t < j->T - 1 && !j->lengths)
                step_alone(j, upstream, slope_space, n, out);
            else
                step_back(j, upstream, gap, slope_space, n, carry, out);
            if (j->lengths) LOOP {
                carry[i] = active[i] > 0.0f ? carry[i] : after_end[i];
                out[i] = active[i] > 0.0f ? out[i] : 0.0f;
            }
            if (constants) LOOP {
                h_after[i] = j->threshold - gap[i];
                grad_after[i] = out[i] / j->gain;
            }
            if (j->type != F32)
                store(out, n, j->type, grad_x, t * j->N + at);
            else if (large)
                stream(out, n, (float *)grad_x + t * j->N + at);
        }
        if (constants) {
            start_at(v_init, v_stride, at, n, before);
            add_leak(j, before, h_after, grad_after, n, &total);
            double *sum = constants + 3 * (at / TILE);
            sum[0] = total.decay;
            sum[1] = total.gain;
            sum[2] = total.threshold;
        }
        memcpy(grad_v + at, carry, sizeof(float) * (size_t)n);
    }
}

int64_t snn_lif_tile(void) { return TILE; }
