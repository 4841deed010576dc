/* One time step of the leaky integrate-and-fire neuron, forward and backward, for `native.c` and for operations that
 * contain the neuron. The functions here are compiled for each combination of their constant arguments.
 */
#ifndef SNN_LIF_STEP_H
#define SNN_LIF_STEP_H

#include "../common/neuron.h"

typedef struct {
    NEURON_JOB
    float decay, gain, threshold;
} job;

/* What a step forward writes besides the potentials. */
enum output { SPIKES, SPIKES_AND_GAP, GAP };

/* One time step: update potentials v, write what `output` says. `type` is that of x, `spike_type` that of the spikes; with
 * `affine` the current is scale * x + shift. `type`, `spike_type`, `affine` and `output` are constants. */
INLINE void forward_loop(int type, int spike_type, int affine, int output, const job *j, const void *restrict x, int n,
                         const float *restrict scale, const float *restrict shift, float *restrict v,
                         float *restrict gap, void *restrict spikes) {
    const float decay = j->decay, gain = j->gain, threshold = j->threshold;
    const uint32_t soft = j->soft_reset ? 0xffffffffu : 0u; /* after a spike: all or no bits of h - threshold */
    LOOP {
        float current = element(x, type, i);
        if (affine) {
            float scaled = scale[i] * current;
            current = scaled + shift[i];
        }
        float h = gain * current + decay * v[i], e = threshold - h;
        if (output != SPIKES) gap[i] = e;
        if (output != GAP) set_element(spikes, spike_type, i, e <= 0.0f ? 1.0f : 0.0f);
        v[i] = e <= 0.0f ? float_of(bits_of(h - threshold) & soft) : h;
    }
}

/* The paths by which a gradient goes from one step to the one before it. */
enum path { NO_PATH, PAST_RESET, THROUGH_RESET };


/* One time step back: `carry` is the gradient of the potential after the step and becomes that of the one before; it is
 * untouched with `NO_PATH`, a detached membrane. `kind`, `path` and `type`, of upstream and out, are constants. */
INLINE void backward_loop(int kind, int path, int type, const job *j, const void *restrict upstream,
                          const float *restrict gap, const float *restrict slopes, int n, float *restrict carry,
                          void *restrict out) {
    const float decay = j->detach_membrane ? 0.0f : j->decay, gain = j->gain, threshold = j->threshold;
    const float slope = j->slope;
    const uint32_t soft = j->soft_reset ? 0xffffffffu : 0u;
    LOOP {
        float e = gap[i], bump = kind == GIVEN ? slopes[i] : bump_of(e, kind, slope);
        float g = element(upstream, type, i);
        if (path == NO_PATH) {
            g = g * bump;
        } else {
            /* a spike stops the gradient of the potential, except with a soft reset */
            float passing = float_of(bits_of(carry[i]) & (e > 0.0f ? 0xffffffffu : soft));
            if (path == THROUGH_RESET) { /* a spike changes the potential by -threshold, or by -h */
                float jump = soft ? threshold : threshold - e;
                g = g - jump * carry[i];
            }
            g = g * bump + passing;
            carry[i] = decay * g;
        }
        set_element(out, type, i, gain * g);
    }
}

#endif
