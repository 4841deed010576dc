/* Batch norm, neuron and max-pooling of maps with channels last, in one pass over memory each way; called from pooled.py.
 *
 * A sample is processed row by row. The spikes of a row exist only in a ring of as many rows as the pooling kernel is
 * high, so neither they nor the positions of the maxima are ever stored. The backward computes the gaps to threshold
 * again, in the same ring. `chunk` channels are processed at once, so that the ring stays in the second-level cache.
 */
#include "../lif/step.h"

typedef struct {
    job neuron; /* T: time steps; scale and shift [C]; type: of x, spikes and gradients */
    int64_t B, H, W, C, out_H, out_W;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    int32_t is_static; /* x [B, H, W, C] drives all steps; otherwise it is [T, B, H, W, C] */
    int32_t chunk;
} stage;

/* Floats of the buffer that each call needs. */
int64_t snn_pool_space(const stage *s, int32_t backward) {
    int64_t row = s->W * s->chunk, rows = s->neuron.T * s->kernel_h;
    return backward ? (6 + 2 * rows) * row + s->chunk : 3 * row + (rows + 1) * row / 4 + 16;
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

/* First and last position of the window of output position i; both lie inside the map. */
static inline int64_t first_of(int64_t i, int32_t stride, int32_t pad) { return greatest(i * stride - pad, 0); }
static inline int64_t last_of(int64_t i, int32_t stride, int32_t pad, int32_t kernel, int64_t size) {
    return least(i * stride - pad + kernel, size) - 1;
}

#define STEP(TYPE)                                                                                                     \
    static NOINLINE void spikes_##TYPE(const job *j, const void *x, int n, const float *scale, const float *shift,     \
                                       float *v, void *to) {                                                           \
        forward_loop(TYPE, BYTE, 1, SPIKES, j, x, n, scale, shift, v, NULL, to);                                       \
    }                                                                                                                  \
    static NOINLINE void gap_##TYPE(const job *j, const void *x, int n, const float *scale, const float *shift,        \
                                    float *v, void *to) {                                                              \
        forward_loop(TYPE, BYTE, 1, GAP, j, x, n, scale, shift, v, to, NULL);                                          \
    }
STEP(F32) STEP(BF16) STEP(F16)
typedef void step(const job *, const void *, int, const float *, const float *, float *, void *);
static step *const spikes_of[3] = {spikes_F32, spikes_BF16, spikes_F16}, *const gap_of[3] = {gap_F32, gap_BF16, gap_F16};

typedef void back(const job *, const float *, const float *, int, float *, float *);
#define BACK(KIND, PATH)                                                                                               \
    static NOINLINE void back_##KIND##_##PATH(const job *j, const float *upstream, const float *gap, int n,            \
                                              float *carry, float *out) {                                              \
        backward_loop(KIND, PATH, F32, j, upstream, gap, NULL, n, carry, out);                                         \
    }
#define BACKS(KIND) BACK(KIND, NO_PATH) BACK(KIND, PAST_RESET) BACK(KIND, THROUGH_RESET)
FOR_EACH_SURROGATE(BACKS)
#define ROW(KIND) {back_##KIND##_NO_PATH, back_##KIND##_PAST_RESET, back_##KIND##_THROUGH_RESET},
static back *const back_of[GIVEN][3] = {FOR_EACH_SURROGATE(ROW)}; /* by surrogate and path */
#undef ROW

/* The channels c0 ... c0+width-1 of a call. */
typedef struct {
    const stage *s;
    int64_t c0, width, row; /* row: W * width elements, one row of the map */
    float *scale, *shift;   /* of each element of a row */
    float *v;
} part;

static void load_constants(part *p) {
    const job *j = &p->s->neuron;
    for (int64_t w = 0; w < p->s->W; w++) {
        memcpy(p->scale + w * p->width, j->scale + p->c0, sizeof(float) * (size_t)p->width);
        memcpy(p->shift + w * p->width, j->shift + p->c0, sizeof(float) * (size_t)p->width);
    }
}

/* The offset in x, and in its gradient, of row r of a sample at step t. */
static inline int64_t offset(const part *p, int64_t t, int64_t b, int64_t r) {
    const stage *s = p->s;
    return (((s->is_static ? 0 : t) * s->B + b) * s->H + r) * s->W * s->C + p->c0;
}

/* Run the neurons of one row through all steps from rest; step t writes to `to + t * stride` elements of `type`. */
static void run_row(const part *p, step *const by_type[], const void *x, int64_t b, int64_t r, int type, void *to,
                    int64_t stride) {
    const stage *s = p->s;
    const job *j = &s->neuron;
    step *one = by_type[j->type];
    memset(p->v, 0, sizeof(float) * (size_t)p->row);
    for (int64_t t = 0; t < j->T; t++) {
        int64_t from = offset(p, t, b, r);
        void *here = address(to, type, t * stride);
        if (p->width == s->C)
            one(j, address(x, j->type, from), (int)p->row, p->scale, p->shift, p->v, here);
        else
            for (int64_t w = 0; w < s->W; w++)
                one(j, address(x, j->type, from + w * s->C), (int)p->width, p->scale, p->shift, p->v + w * p->width,
                    address(here, type, w * p->width));
    }
}

/* ---- forward ------------------------------------------------------------------------------------------------- */

INLINE void widen(const uint8_t *restrict from, int n, int type, void *restrict to) {
    if (type == F32)
        LOOP((float *)to)[i] = from[i];
    else {
        const uint16_t one = type == BF16 ? 0x3f80 : 0x3c00;
        LOOP((uint16_t *)to)[i] = from[i] ? one : 0;
    }
}

INLINE void add_bytes(const uint8_t *restrict from, int n, uint8_t *restrict to) { LOOP to[i] |= from[i]; }

/* Write row i of the output at every step: any spike in the window. For `n` see `spread_loop`. */
INLINE void pool_loop(int n, const part *p, const uint8_t *ring, int64_t b, int64_t i, uint8_t *column, void *out) {
    const stage *s = p->s;
    const job *j = &s->neuron;
    const int64_t low = first_of(i, s->stride_h, s->pad_h);
    const int64_t high = last_of(i, s->stride_h, s->pad_h, s->kernel_h, s->H);
    uint8_t any[n];
    for (int64_t t = 0; t < j->T; t++) {
        const uint8_t *rows = ring + t * s->kernel_h * p->row;
        memcpy(column, rows + low % s->kernel_h * p->row, (size_t)p->row);
        for (int64_t r = low + 1; r <= high; r++) add_bytes(rows + r % s->kernel_h * p->row, (int)p->row, column);
        for (int64_t w = 0; w < s->out_W; w++) {
            int64_t left = first_of(w, s->stride_w, s->pad_w);
            int64_t right = last_of(w, s->stride_w, s->pad_w, s->kernel_w, s->W);
            memcpy(any, column + left * n, (size_t)n);
            for (int64_t q = left + 1; q <= right; q++) add_bytes(column + q * n, n, any);
            int64_t at = (((t * s->B + b) * s->out_H + i) * s->out_W + w) * s->C + p->c0;
            widen(any, n, j->type, address(out, j->type, at));
        }
    }
}

#define POOL(N)                                                                                                        \
    static NOINLINE void pool_##N(const part *p, const uint8_t *ring, int64_t b, int64_t i, uint8_t *column,           \
                                  void *out) {                                                                         \
        pool_loop(N ? N : (int)p->width, p, ring, b, i, column, out);                                                  \
    }
POOL(0) POOL(8) POOL(16) POOL(32) POOL(64)

static void pool_row(const part *p, const uint8_t *ring, int64_t b, int64_t i, uint8_t *column, void *out) {
    switch (p->width) {
    case 8: pool_8(p, ring, b, i, column, out); break;
    case 16: pool_16(p, ring, b, i, column, out); break;
    case 32: pool_32(p, ring, b, i, column, out); break;
    case 64: pool_64(p, ring, b, i, column, out); break;
    default: pool_0(p, ring, b, i, column, out);
    }
}

/* x [T, B, H, W, C], or [B, H, W, C], -> pooled spikes `out` [T, B, out_H, out_W, C] of samples start ... stop-1. */
void snn_pool_forward(const stage *s, const void *x, void *out, float *space) {
    const job *j = &s->neuron;
    for (int64_t c0 = 0; c0 < s->C; c0 += s->chunk) {
        part p = {.s = s, .c0 = c0, .width = least(s->chunk, s->C - c0)};
        p.row = s->W * p.width;
        p.scale = space, p.shift = space + p.row, p.v = space + 2 * p.row;
        uint8_t *ring = (uint8_t *)(space + 3 * p.row), *column = ring + j->T * s->kernel_h * p.row;
        load_constants(&p);
        for (int64_t b = j->start; b < j->stop; b++)
            for (int64_t r = 0, i = 0; r < s->H; r++) {
                run_row(&p, spikes_of, x, b, r, BYTE, ring + r % s->kernel_h * p.row, s->kernel_h * p.row);
                for (; i < s->out_H && last_of(i, s->stride_h, s->pad_h, s->kernel_h, s->H) == r; i++)
                    pool_row(&p, ring, b, i, column, out);
            }
    }
}

/* ---- backward ------------------------------------------------------------------------------------------------ */

/* Add the gradient of one output element of each channel to the first spike of its window, or to the window's first
 * element if there is no spike, as PyTorch does. `left` [width] is the gradient, and is used up. */
INLINE void scatter(int n, const float *restrict gap, float *restrict grad, float *restrict left) {
    LOOP {
        int fired = gap[i] <= 0.0f;
        grad[i] += fired ? left[i] : 0.0f;
        left[i] = fired ? 0.0f : left[i];
    }
}

INLINE void add(int n, const float *restrict from, float *restrict to) { LOOP to[i] += from[i]; }

/* Spread the gradients of row i of the output over the rings of step t. `n`, the number of channels, may be a constant:
 * loops of unknown length cost more than a few channels take. */
INLINE void spread_loop(int n, const part *p, const void *grad_out, int64_t t, int64_t b, int64_t i, const float *gaps,
                        float *grads, float *left) {
    const stage *s = p->s;
    const int type = s->neuron.type;
    const int64_t low = first_of(i, s->stride_h, s->pad_h);
    const int64_t high = last_of(i, s->stride_h, s->pad_h, s->kernel_h, s->H);
    for (int64_t w = 0; w < s->out_W; w++) {
        int64_t begin = first_of(w, s->stride_w, s->pad_w);
        int64_t end = last_of(w, s->stride_w, s->pad_w, s->kernel_w, s->W);
        int64_t at = (((t * s->B + b) * s->out_H + i) * s->out_W + w) * s->C + p->c0;
        if (type == F32)
            memcpy(left, (const float *)grad_out + at, sizeof(float) * (size_t)n);
        else
            load(grad_out, at, type, n, left);
        for (int64_t r = low; r <= high; r++)
            for (int64_t q = begin; q <= end; q++) {
                int64_t here = r % s->kernel_h * p->row + q * n;
                scatter(n, gaps + here, grads + here, left);
            }
        add(n, left, grads + low % s->kernel_h * p->row + begin * n);
    }
}

#define SPREAD(N)                                                                                                      \
    static NOINLINE void spread_##N(const part *p, const void *grad_out, int64_t t, int64_t b, int64_t i,              \
                                    const float *gaps, float *grads, float *left) {                                    \
        spread_loop(N ? N : (int)p->width, p, grad_out, t, b, i, gaps, grads, left);                                   \
    }
SPREAD(0) SPREAD(8) SPREAD(16) SPREAD(32) SPREAD(64)

static void spread_row(const part *p, const void *grad_out, int64_t t, int64_t b, int64_t i, const float *gaps,
                       float *grads, float *left) {
    switch (p->width) {
    case 8: spread_8(p, grad_out, t, b, i, gaps, grads, left); break;
    case 16: spread_16(p, grad_out, t, b, i, gaps, grads, left); break;
    case 32: spread_32(p, grad_out, t, b, i, gaps, grads, left); break;
    case 64: spread_64(p, grad_out, t, b, i, gaps, grads, left); break;
    default: spread_0(p, grad_out, t, b, i, gaps, grads, left);
    }
}

/* Write a row of gradients at `at` of an array with all channels. */
static void write_row(const part *p, const float *from, void *to, int64_t at) {
    const int type = p->s->neuron.type;
    for (int64_t w = 0; w < p->s->W; w++, from += p->width, at += p->s->C)
        if (type == F32)
            memcpy((float *)to + at, from, sizeof(float) * (size_t)p->width);
        else
            store(from, (int)p->width, type, to, at);
}

/* Propagate the gradients of row r through all steps; `out` and `sum` are buffers of a row. */
static void finish_row(const part *p, int64_t b, int64_t r, const float *gaps, const float *grads, float *carry,
                       float *out, float *sum, void *grad_drive) {
    const stage *s = p->s;
    const job *j = &s->neuron;
    const int n = (int)p->row, path = j->detach_reset ? PAST_RESET : THROUGH_RESET;
    memset(carry, 0, sizeof(float) * (size_t)n);
    memset(sum, 0, sizeof(float) * (size_t)n);
    for (int64_t t = j->T - 1; t >= 0; t--) {
        int64_t here = (t * s->kernel_h + r % s->kernel_h) * p->row, to = offset(p, t, b, r);
        int direct = !s->is_static && p->width == s->C && j->type == F32;
        float *target = direct ? (float *)grad_drive + to : out;
        back_of[j->surrogate][j->detach_membrane ? NO_PATH : path](j, grads + here, gaps + here, n, carry, target);
        if (s->is_static)
            add(n, out, sum);
        else if (!direct)
            write_row(p, out, grad_drive, to);
    }
    if (s->is_static) write_row(p, sum, grad_drive, offset(p, 0, b, r));
}

/* The gradient of the pooled spikes -> `grad_drive` like x, that of scale * x + shift. */
void snn_pool_backward(const stage *s, const void *grad_out, const void *x, void *grad_drive, float *space) {
    const job *j = &s->neuron;
    for (int64_t c0 = 0; c0 < s->C; c0 += s->chunk) {
        part p = {.s = s, .c0 = c0, .width = least(s->chunk, s->C - c0)};
        p.row = s->W * p.width;
        p.scale = space, p.shift = space + p.row, p.v = space + 2 * p.row;
        float *carry = space + 3 * p.row, *out = carry + p.row, *sum = out + p.row, *gaps = sum + p.row;
        const int64_t ring = s->kernel_h * p.row;
        float *grads = gaps + j->T * ring, *left = grads + j->T * ring;
        load_constants(&p);
        for (int64_t b = j->start; b < j->stop; b++) {
            int64_t computed = 0, finished = 0;
            for (int64_t i = 0; i < s->out_H; i++) {
                for (; computed <= last_of(i, s->stride_h, s->pad_h, s->kernel_h, s->H); computed++) {
                    int64_t slot = computed % s->kernel_h * p.row;
                    run_row(&p, gap_of, x, b, computed, F32, gaps + slot, ring);
                    for (int64_t t = 0; t < j->T; t++)
                        memset(grads + t * ring + slot, 0, sizeof(float) * (size_t)p.row);
                }
                for (int64_t t = 0; t < j->T; t++)
                    spread_row(&p, grad_out, t, b, i, gaps + t * ring, grads + t * ring, left);
                /* Rows above the next window receive nothing more. */
                int64_t next = i + 1 == s->out_H ? computed : first_of(i + 1, s->stride_h, s->pad_h);
                for (; finished < least(next, computed); finished++)
                    finish_row(&p, b, finished, gaps, grads, carry, out, sum, grad_drive);
            }
            memset(sum, 0, sizeof(float) * (size_t)p.row); /* rows below the last window */
            for (; finished < s->H; finished++)
                for (int64_t t = 0; t < (s->is_static ? 1 : j->T); t++)
                    write_row(&p, sum, grad_drive, offset(&p, t, b, finished));
        }
    }
}
