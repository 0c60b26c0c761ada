/* kd_head on CUDA; see kd_head.c, whose names these are, and head_cuda.h. A block makes a row's
 * loss and gradient; differences of logits are taken from their maxima, where what counts is
 * small. */
#include "head_cuda.h"

enum { TEACHER = LQ_HEAD_N_IN, TEACHER_W };

namespace {
/* What a row's kernel knows besides pointers. */
struct mix {
    int64_t V, ld, K;       /* K: of a teacher known by its top tokens; its rows are K long */
    float cap, teacher_cap, alpha, temperature;
    bool reverse, gradient;
};

/* One row at work: its plain and its softened distribution, and what its label has. */
struct student {
    int64_t label;
    float own;
    lq_soft plain, q;
    bool is_top;
    float factor;           /* of the gradient */
};
}

/* Makes z's sums over its V logits, capping them first. With T 1, q is the plain distribution. */
template <typename T>
static __device__ student read_row(const mix &m, T *z, int64_t label, float factor) {
    student s = {label, 0, {1, -INFINITY, 0}, {1 / m.temperature, -INFINITY, 0}, false, factor};
    float beaten = 0;
    lq_head_cap(z, m.V, m.cap);
    __syncthreads();
    const float own = s.own = lq_to_float(z[label]);
    lq_head_each(z, m.V, [&](int64_t v, float x) {
        s.plain.add(x);
        if (m.temperature != 1) s.q.add(x);
        if (x > own || (x == own && v < label)) beaten = 1;
    });
    s.plain.join();   /* has barriers: now z may be rewritten */
    if (m.temperature == 1) s.q = s.plain;
    else s.q.join();
    s.is_top = lq_block_max(beaten) == 0;
    return s;
}

static __device__ void write_losses(const mix &m, const student &s, float kl, float *out) {
    const float nll = -s.plain.log_share(s.own);
    if (!out || threadIdx.x != 0) return;
    out[0] = (1 - m.alpha) * nll + m.alpha * m.temperature * m.temperature * kl;
    out[1] = s.is_top;
    out[2] = nll;
    out[3] = kl;
}

/* The gradient of a logit z_v from T times that of KL. */
static __device__ float blend(const mix &m, const student &s, int64_t v, float z, float slope) {
    const float share = s.plain.part(z) / s.plain.sum - (v == s.label ? 1 : 0);
    return s.factor * ((1 - m.alpha) * share + m.alpha * m.temperature * slope) *
           lq_head_slope_of(z, m.cap);
}

/* ---- a teacher known in full ----------------------------------------------------------------- */

/* log(p_v / q_v) */
static __device__ float log_ratio(const lq_soft &p, const lq_soft &q, float t, float z) {
    return ((t - p.max) - (z - q.max)) * q.inv_t + logf(q.sum) - logf(p.sum);
}

template <typename T>
static __global__ void __launch_bounds__(LQ_HEAD_MAX_THREADS)
    full_kernel(mix m, const int32_t *row, const int32_t *label, T *logits, T *teacher, float *out,
                const float *dout) {
    T *const z = logits + blockIdx.x * m.ld, *const t = teacher + blockIdx.x * m.ld;
    const int64_t at = row[blockIdx.x];
    const student s = read_row(m, z, label[at], dout ? dout[at * LQ_KD_COLS] : 1);
    lq_soft p = {1 / m.temperature, -INFINITY, 0};
    lq_head_cap(t, m.V, m.teacher_cap);
    lq_head_each(t, m.V, [&](int64_t, float x) { p.add(x); });
    p.join();
    float sum = 0;
    lq_head_each(z, m.V, [&](int64_t v, float x) {
        const float y = lq_to_float(t[v]), r = log_ratio(p, s.q, y, x);
        sum += m.reverse ? -s.q.part(x) / s.q.sum * r : p.part(y) / p.sum * r;
    });
    const float kl = lq_block_sum(sum);
    write_losses(m, s, kl, out ? out + at * LQ_KD_COLS : NULL);
    if (!m.gradient) return;
    lq_head_rewrite(z, m.V, [&](int64_t v, float x) {
        const float y = lq_to_float(t[v]), q = s.q.part(x) / s.q.sum;
        const float slope =
            m.reverse ? -q * (log_ratio(p, s.q, y, x) + kl) : q - p.part(y) / p.sum;
        return blend(m, s, v, x, slope);
    });
}

/* ---- a teacher known by its top tokens ------------------------------------------------------- */

static __device__ float bucket_divergence(float log_p, float log_q, bool reverse) {
    return reverse ? expf(log_q) * (log_q - log_p) : expf(log_p) * (log_p - log_q);
}

static __device__ float bucket_slope(float log_p, float log_q, float kl, bool reverse) {
    return reverse ? -expf(log_q) * (log_p - log_q + kl) : expf(log_q) - expf(log_p);
}

/* Moves the top tokens' logits to `top`, so that sums over z are over the others; s.q becomes the
 * distribution of both together. Returns that of the others. */
template <typename T>
static __device__ lq_soft take_out(const mix &m, student &s, const int32_t *id, T *z, float *top) {
    lq_soft rest = {s.q.inv_t, -INFINITY, 0};
    float sum = 0;
    for (int64_t k = threadIdx.x; k < m.K; k += blockDim.x) {
        top[k] = lq_to_float(z[id[k]]);
        z[id[k]] = lq_from_float<T>(-INFINITY);
        sum += s.q.part(top[k]);
    }
    __syncthreads();   /* z is others' again */
    lq_head_each(z, m.V, [&](int64_t, float x) { rest.add(x); });
    rest.join();
    s.q.sum = lq_block_sum(sum) + s.q.part(rest.max) * rest.sum;
    return rest;
}

template <typename T>
static __global__ void __launch_bounds__(LQ_HEAD_MAX_THREADS)
    top_kernel(mix m, const int32_t *row, const int32_t *label, T *logits, float *room,
               int64_t room_ld, const int32_t *ids, const float *log_ps, float *out,
               const float *dout) {
    T *const z = logits + blockIdx.x * m.ld;
    float *const top = room + blockIdx.x * room_ld;
    const int64_t at = row[blockIdx.x];
    const int32_t *const id = ids + at * m.K;
    const float *const log_p = log_ps + at * (m.K + 1);
    student s = read_row(m, z, label[at], dout ? dout[at * LQ_KD_COLS] : 1);
    const lq_soft rest = take_out(m, s, id, z, top);
    const float log_rest = s.q.log_share(rest.max) + logf(rest.sum);
    float sum = threadIdx.x == 0 ? bucket_divergence(log_p[m.K], log_rest, m.reverse) : 0;
    for (int64_t k = threadIdx.x; k < m.K; k += blockDim.x)
        sum += bucket_divergence(log_p[k], s.q.log_share(top[k]), m.reverse);
    const float kl = lq_block_sum(sum);
    write_losses(m, s, kl, out ? out + at * LQ_KD_COLS : NULL);
    if (!m.gradient) return;
    const float of_rest = bucket_slope(log_p[m.K], log_rest, kl, m.reverse) / rest.sum;
    lq_head_rewrite(z, m.V, [&](int64_t v, float x) {
        return x == -INFINITY ? x : blend(m, s, v, x, of_rest * rest.part(x));
    });
    __syncthreads();   /* the top tokens' places are written last */
    for (int64_t k = threadIdx.x; k < m.K; k += blockDim.x) {
        const float slope = bucket_slope(log_p[k], s.q.log_share(top[k]), kl, m.reverse);
        z[id[k]] = lq_from_float<T>(blend(m, s, id[k], top[k], slope));
    }
}

/* ---- the op ---------------------------------------------------------------------------------- */

static const lq_kd_head_attr *attr_of(const lq_node *node) {
    return (const lq_kd_head_attr *)node->attr;
}

static void rows(const lq_node *node, lq_dev *dev, const lq_cuda_chunk *c, float *out,
                 const float *dout, bool gradient) {
    const lq_kd_head_attr *const a = attr_of(node);
    const lq_cuda_side *const s = &c->side[0], *const other = &c->side[1];
    const mix m = {s->cols, s->ld, a->top_k, s->softcap, other->softcap, a->alpha, a->temperature,
                   a->reverse, gradient};
    const unsigned blocks = (unsigned)c->n, threads = lq_head_threads(m.V);
    lq_by_activation(c->type, [&](auto of) {
        typedef decltype(of) T;
        if (a->top_k)
            lq_launch(dev, top_kernel<T>, blocks, threads, 0, m, c->row, c->label, (T *)s->logits,
                      (float *)other->logits, other->ld, lq_data_i32(node->in[TEACHER]),
                      lq_data<float>(node->in[TEACHER_W]), out, dout);
        else
            lq_launch(dev, full_kernel<T>, blocks, threads, 0, m, c->row, c->label, (T *)s->logits,
                      (T *)other->logits, out, dout);
    });
}

static int sides(const lq_node *node, lq_cuda_side side[LQ_HEAD_MAX_SIDES]) {
    const lq_kd_head_attr *const a = attr_of(node);
    const int64_t V = lq_rows(node->in[LQ_HEAD_W]);
    side[0].h = node->in[LQ_HEAD_H];
    side[0].w = node->in[LQ_HEAD_W];
    side[0].cols = V;
    side[0].softcap = a->softcap;
    side[1].cols = a->top_k ? a->top_k : V;
    if (a->top_k) return 2;
    side[1].h = node->in[TEACHER];
    side[1].w = node->in[TEACHER_W];
    side[1].softcap = a->teacher_softcap;
    return 2;
}

static const lq_cuda_head head = {LQ_KD_COLS, sides, rows};

static void forward(const lq_node *node, const lq_run *run) {
    lq_cuda_head_forward(&head, node, run);
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_cuda_head_backward(&head, node, run);
}

static size_t scratch(const lq_node *node, bool of_backward) {
    return lq_cuda_head_scratch(&head, node, of_backward);
}

static lq_status accepts(const lq_node *node) { return lq_cuda_head_accepts(&head, node); }

extern "C" const lq_kernels lq_cuda_kd_head = {forward, backward, scratch, accepts, 0};
