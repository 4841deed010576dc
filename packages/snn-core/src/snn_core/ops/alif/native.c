/* The adaptive-threshold neuron on a CPU: equations in reference.py, buffers in torch_kernels.py. Structured like
 * ops/lif/native.c: tiles of neurons whose states stay in the first-level cache, and stages of one loop over a tile.
 */
#include <stdint.h>
#include <string.h>

#include "../common/neuron.h"

typedef struct {
    NEURON_JOB
    float decay, gain, threshold, beta, rho;
} job;

/* The number of steps of the sample of each neuron of a tile. */
static void load_steps(const job *j, int64_t at, int n, int32_t *steps) {
    int64_t each = j->N / j->samples;
    for (int i = 0; i < n; i++) steps[i] = j->lengths[(at + i) / each];
}

/* A tile of states; with a stride of 0 one value is shared by all. */
static void gather(const float *restrict from, int64_t at, int64_t stride, int n, float *restrict to) {
    const float first = from[at * stride];
    if (stride == 0)
        LOOP to[i] = first;
    else
        LOOP to[i] = from[(at + i) * stride];
}

/* ---- forward ------------------------------------------------------------------------------------------------- */

/* One time step: update potentials v and adaptations b, write gap and spikes. */
static void step(const job *j, const float *restrict current, int n, float *restrict v, float *restrict b,
                 float *restrict gap, float *restrict spikes) {
    const float decay = j->decay, gain = j->gain, threshold = j->threshold, beta = j->beta, rho = j->rho;
    if (j->soft_reset)
        LOOP {
            float h = gain * current[i] + decay * v[i], e = (threshold + beta * b[i]) - h;
            float s = e <= 0.0f ? 1.0f : 0.0f;
            gap[i] = e;
            spikes[i] = s;
            v[i] = e <= 0.0f ? h - threshold : h;
            b[i] = rho * b[i] + s;
        }
    else
        LOOP {
            float h = gain * current[i] + decay * v[i], e = (threshold + beta * b[i]) - h;
            float s = e <= 0.0f ? 1.0f : 0.0f;
            gap[i] = e;
            spikes[i] = s;
            v[i] = e <= 0.0f ? 0.0f : h;
            b[i] = rho * b[i] + s;
        }
}

/* `gaps` [T, N], or NULL, is saved for the backward. */
void snn_alif_forward(const job *j, const void *x, int64_t x_stride, const float *v_init, int64_t v_stride,
                      const float *b_init, int64_t b_stride, void *spikes, float *gaps, float *v_last, float *b_last) {
    _Alignas(64) float v[TILE], b[TILE], gap_space[TILE], spike_space[TILE], x_space[TILE], v_before[TILE], b_before[TILE];
    int32_t steps[TILE];
    int large = j->T * j->N >= LARGE;
    for (int64_t at = j->start; at < j->stop; at += TILE) {
        int n = (int)(j->stop - at < TILE ? j->stop - at : TILE);
        gather(v_init, at, v_stride, n, v);
        gather(b_init, at, b_stride, n, b);
        if (j->lengths) load_steps(j, at, n, steps);
        for (int64_t t = 0; t < j->T; t++) {
            const float *current = read_floats(x, t * x_stride + at, j->type, n, x_space);
            float *gap = gaps && !large ? gaps + t * j->N + at : gap_space;
            float *fired = j->type == F32 && !large ? (float *)spikes + t * j->N + at : spike_space;
            if (j->lengths) {
                memcpy(v_before, v, sizeof(float) * (size_t)n);
                memcpy(b_before, b, sizeof(float) * (size_t)n);
            }
            step(j, current, n, v, b, gap, fired);
            /* Samples that have ended keep their states, do not spike, and have an infinite gap. */
            if (j->lengths) LOOP {
                int ended = steps[i] <= (int32_t)t;
                v[i] = ended ? v_before[i] : v[i];
                b[i] = ended ? b_before[i] : b[i];
                gap[i] = ended ? float_of(0x7f800000u) : gap[i];
                fired[i] = ended ? 0.0f : fired[i];
            }
            if (j->type != F32)
                store(fired, n, j->type, spikes, t * j->N + at);
            else if (large)
                stream(fired, n, (float *)spikes + t * j->N + at);
            if (gaps && large) stream(gap, n, gaps + t * j->N + at);
        }
        if (v_last) memcpy(v_last + at, v, sizeof(float) * (size_t)n);
        if (b_last) memcpy(b_last + at, b, sizeof(float) * (size_t)n);
    }
}

/* ---- backward ------------------------------------------------------------------------------------------------ */

/* The adaptation before every step of a tile [T, TILE], from the spikes in the signs of the gaps. After the end of a
 * sample it keeps decaying, which nothing reads. */
static void recall_adaptation(const job *j, const float *gaps, int64_t gaps_stride, int64_t at, int n, const float *b_init, int64_t b_stride,
                              float *adaptation) {
    gather(b_init, at, b_stride, n, adaptation);
    const float rho = j->rho;
    for (int64_t t = 0; t + 1 < j->T; t++) {
        const float *restrict gap = gaps + t * gaps_stride + at, *restrict b = adaptation + t * TILE;
        float *restrict after = adaptation + (t + 1) * TILE;
        LOOP after[i] = rho * b[i] + (gap[i] <= 0.0f ? 1.0f : 0.0f);
    }
}

/* The potential h before the reset. */
static void potential(const job *j, const float *restrict gap, const float *restrict b, int n, float *restrict h) {
    const float threshold = j->threshold, beta = j->beta;
    LOOP h[i] = (threshold + beta * b[i]) - gap[i];
}

/* The gradient that reaches h - A through the spike: it changes the output, the adaptation and, unless detached, v.
 * `slopes`, the surrogate's values, becomes it. `h` is read only where a hard reset is not detached. */
static void through_spike(const job *j, const float *restrict upstream, const float *restrict h,
                          const float *restrict carry_v, const float *restrict carry_b, int n,
                          float *restrict slopes) {
    const float threshold = j->threshold;
    if (j->detach_reset)
        LOOP slopes[i] *= upstream[i] + carry_b[i];
    else if (j->soft_reset)
        LOOP slopes[i] *= (upstream[i] - threshold * carry_v[i]) + carry_b[i];
    else
        LOOP slopes[i] *= (upstream[i] - h[i] * carry_v[i]) + carry_b[i];
}

/* One time step back: carry_v and carry_b are the gradients of potential and adaptation after the step and become those
 * before it. */
static void step_back(const job *j, const float *restrict reach, const float *restrict gap, int n,
                      float *restrict carry_v, float *restrict carry_b, float *restrict out) {
    const float decay = j->detach_membrane ? 0.0f : j->decay, gain = j->gain, beta = j->beta, rho = j->rho;
    if (j->soft_reset)
        LOOP {
            float g = reach[i] + carry_v[i];
            carry_v[i] = decay * g;
            carry_b[i] = rho * carry_b[i] - beta * reach[i];
            out[i] = gain * g;
        }
    else
        LOOP {
            float g = reach[i] + (gap[i] > 0.0f ? carry_v[i] : 0.0f);
            carry_v[i] = decay * g;
            carry_b[i] = rho * carry_b[i] - beta * reach[i];
            out[i] = gain * g;
        }
}

/* Sums for the gradients of decay, gain, threshold, beta and rho. */
typedef struct { double decay, gain, threshold, beta, rho; } sums;

/* Add one step: dh/ddecay = v before it, dh/dgain = its current, dA/dbeta = db/drho = b before it. */
static void add_constants(const job *j, const float *restrict reach, const float *restrict gap, const float *restrict h,
                          const float *restrict before, const float *restrict b, const float *restrict carry_v,
                          const float *restrict carry_b, const int32_t *restrict ended, int n, sums *total) {
    double decay_sum = 0.0, gain_sum = 0.0, threshold_sum = 0.0, beta_sum = 0.0, rho_sum = 0.0;
    const float decay = j->decay;
    const int soft = j->soft_reset;
    _Pragma("omp simd reduction(+ : decay_sum, gain_sum, threshold_sum, beta_sum, rho_sum)")
    for (int i = 0; i < n; i++) {
        float unreset = soft || gap[i] > 0.0f ? carry_v[i] : 0.0f;
        float subtracted = soft && gap[i] <= 0.0f ? carry_v[i] : 0.0f;
        double grad = (double)reach[i] + unreset;
        decay_sum += ended[i] ? 0.0 : grad * before[i];
        gain_sum += ended[i] ? 0.0 : grad * (h[i] - decay * before[i]);
        threshold_sum -= ended[i] ? 0.0 : (double)reach[i] + subtracted;
        beta_sum -= ended[i] ? 0.0 : (double)reach[i] * b[i];
        rho_sum += ended[i] ? 0.0 : (double)carry_b[i] * b[i];
    }
    total->decay += decay_sum;
    total->gain += gain_sum / j->gain;
    total->threshold += threshold_sum;
    total->beta += beta_sum;
    total->rho += rho_sum;
}

/* `adaptation` is a buffer of [T, TILE] floats where constants are learned or a hard reset is not detached; else NULL.
 * `constants` [tiles, 5] or NULL receives each tile's sums of the gradients of decay, gain, threshold, beta and rho. */
void snn_alif_backward(const job *j, const void *grad_spikes, int64_t grad_stride, const float *grad_v_last,
                       const float *grad_b_last, const float *gaps, int64_t gaps_stride, const float *v_init,
                       int64_t v_stride, const float *b_init, int64_t b_stride, void *grad_x, float *grad_v, float *grad_b,
                       float *adaptation, double *constants) {
    _Alignas(64) float carry_v[TILE], carry_b[TILE], reach[TILE], up_space[TILE], out_space[TILE];
    _Alignas(64) float h[TILE], before[TILE], v_after_end[TILE], b_after_end[TILE];
    int32_t steps[TILE], ended[TILE];
    int large = j->T * j->N >= LARGE;
    memset(ended, 0, sizeof ended);
    for (int64_t at = j->start; at < j->stop; at += TILE) {
        int n = (int)(j->stop - at < TILE ? j->stop - at : TILE);
        sums total = {0.0, 0.0, 0.0, 0.0, 0.0};
        if (j->lengths) load_steps(j, at, n, steps);
        if (adaptation) recall_adaptation(j, gaps, gaps_stride, at, n, b_init, b_stride, adaptation);
        memset(carry_v, 0, sizeof carry_v);
        memset(carry_b, 0, sizeof carry_b);
        if (grad_v_last) memcpy(carry_v, grad_v_last + at, sizeof(float) * (size_t)n);
        if (grad_b_last) memcpy(carry_b, grad_b_last + at, sizeof(float) * (size_t)n);
        if (!grad_spikes) memset(up_space, 0, sizeof up_space);
        for (int64_t t = j->T - 1; t >= 0; t--) {
            const float *upstream =
                grad_spikes ? read_floats(grad_spikes, t * grad_stride + at, j->type, n, up_space) : up_space;
            const float *gap = gaps + t * gaps_stride + at, *b = adaptation ? adaptation + t * TILE : NULL;
            float *out = j->type == F32 && !large ? (float *)grad_x + t * j->N + at : out_space;
            bump(gap, n, j->surrogate, j->slope, reach);
            if (adaptation) potential(j, gap, b, n, h);
            if (j->lengths) LOOP {
                ended[i] = steps[i] <= (int32_t)t;
                v_after_end[i] = carry_v[i];
                b_after_end[i] = carry_b[i];
            }
            through_spike(j, upstream, h, carry_v, carry_b, n, reach);
            if (constants) {
                if (t > 0) {
                    const float *restrict last = gap - gaps_stride;
                    const float jump = j->threshold;
                    potential(j, last, b - TILE, n, before);
                    if (j->soft_reset)
                        LOOP before[i] = last[i] <= 0.0f ? before[i] - jump : before[i];
                    else
                        LOOP before[i] = last[i] <= 0.0f ? 0.0f : before[i];
                } else
                    gather(v_init, at, v_stride, n, before);
                add_constants(j, reach, gap, h, before, b, carry_v, carry_b, ended, n, &total);
            }
            step_back(j, reach, gap, n, carry_v, carry_b, out);
            /* After the end of a sample the gradients are passed on unchanged. */
            if (j->lengths) LOOP {
                carry_v[i] = ended[i] ? v_after_end[i] : carry_v[i];
                carry_b[i] = ended[i] ? b_after_end[i] : carry_b[i];
                out[i] = ended[i] ? 0.0f : out[i];
            }
            if (j->type != F32)
                store(out, n, j->type, grad_x, t * j->N + at);
            else if (large)
                stream(out, n, (float *)grad_x + t * j->N + at);
        }
        if (constants) {
            double *sum = constants + 5 * (at / TILE);
            sum[0] = total.decay;
            sum[1] = total.gain;
            sum[2] = total.threshold;
            sum[3] = total.beta;
            sum[4] = total.rho;
        }
        if (grad_v) memcpy(grad_v + at, carry_v, sizeof(float) * (size_t)n);
        if (grad_b) memcpy(grad_b + at, carry_b, sizeof(float) * (size_t)n);
    }
}

int64_t snn_alif_tile(void) { return TILE; }
