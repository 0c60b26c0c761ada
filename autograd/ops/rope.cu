/* Rotary position embedding; see rope.c. A block turns a few rows: first it makes their table of
 * cos and sin in shared memory, then each thread turns packs of W pairs. An angle is reduced to a
 * part of a turn in double, so that single-precision sin and cos are right at any position. */
#include "kernels.h"
#include "pack.h"

enum { THREADS = 256, ROWS = 4 };

namespace {
struct rope_of {
    int64_t rows, cols;
    int head_dim, pairs;
    double log2_base, turns;   /* of freq_base; freq_scale / (2 pi) */
    float attn_factor, sign;
    const int32_t *pos;
    const float *factors;      /* NULL: 1 */
};
}

/* (cos, sin) of row t's pair i. */
__device__ static inline float2 angle(const rope_of &r, int64_t t, int i) {
    const double freq = exp2(-r.log2_base * (double)i / (double)r.pairs) * r.turns /
                        (r.factors ? (double)r.factors[i] : 1);
    const double turns = (double)r.pos[t] * freq;
    float s, c;
    sincospif(2 * (float)(turns - rint(turns)), &s, &c);
    return make_float2(r.attn_factor * c, r.sign * r.attn_factor * s);
}

/* Pairs i .. i + W of one head, x and y pointing to it. */
template <typename T, int W, bool NEOX, bool ADDS>
__device__ inline void turn(const rope_of &r, const float2 *table, int i, const T *x, T *y) {
    const int low = NEOX ? i : 2 * i, high = NEOX ? i + r.pairs : 2 * i + W;
    const lq_floats<W> x0 = lq_load<W>(x + low), x1 = lq_load<W>(x + high);
    lq_floats<W> y0 = {}, y1 = {};
    if (ADDS) {
        y0 = lq_load<W>(y + low);
        y1 = lq_load<W>(y + high);
    }
    for (int j = 0; j < W; j++) {
        const float2 cs = table[i + j];
        /* element k of the two packs laid end to end */
        const int ka = NEOX ? j : 2 * j, kb = NEOX ? W + j : 2 * j + 1;
        const float a = ka < W ? x0.v[ka % W] : x1.v[ka % W];
        const float b = kb < W ? x0.v[kb % W] : x1.v[kb % W];
        (ka < W ? y0.v[ka % W] : y1.v[ka % W]) += a * cs.x - b * cs.y;
        (kb < W ? y0.v[kb % W] : y1.v[kb % W]) += a * cs.y + b * cs.x;
    }
    lq_store<W>(y + low, y0);
    lq_store<W>(y + high, y1);
}

template <typename T, int W, bool NEOX, bool ADDS>
static __global__ void rope_kernel(rope_of r, const T *x, T *y) {
    lq_dynamic_shared(float2, table);   /* (ROWS,pairs) */
    const int64_t first = (int64_t)blockIdx.x * ROWS;
    const int rows = (int)min(r.rows - first, (int64_t)ROWS);
    for (int k = (int)threadIdx.x; k < rows * r.pairs; k += THREADS)
        table[k] = angle(r, first + k / r.pairs, k % r.pairs);
    __syncthreads();
    const int units = r.pairs / W, per_row = (int)(r.cols / r.head_dim) * units;
    for (int k = (int)threadIdx.x; k < rows * per_row; k += THREADS) {
        const int64_t head = (first + k / per_row) * r.cols + k % per_row / units * r.head_dim;
        turn<T, W, NEOX, ADDS>(r, table + k / per_row * r.pairs, k % units * W, x + head, y + head);
    }
}

/* What lies past the turned part of each head; rest columns of it. */
template <typename T, bool ADDS>
static __global__ void rope_rest(int64_t n, int head_dim, int rest, const T *x, T *y) {
    const int64_t k = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (k >= n) return;
    const int64_t at = k / rest * head_dim + head_dim - rest + k % rest;
    y[at] = ADDS ? lq_from_float<T>(lq_to_float(y[at]) + lq_to_float(x[at])) : x[at];
}

template <typename T, int W, bool NEOX, bool ADDS>
static void launch_turn(lq_dev *dev, const rope_of &r, const T *x, T *y) {
    lq_launch(dev, rope_kernel<T, W, NEOX, ADDS>, dim3((unsigned)((r.rows + ROWS - 1) / ROWS)),
              THREADS, (size_t)(ROWS * r.pairs) * sizeof(float2), r, x, y);
}

template <typename T, bool ADDS>
static void rotate(const lq_node *node, lq_dev *dev, float sign, const T *x, T *y) {
    const lq_rope_attr *const attr = (const lq_rope_attr *)node->attr;
    constexpr int W = lq_pack_width<T>;
    const int pairs = attr->n_rot / 2, rest = attr->head_dim - attr->n_rot;
    const rope_of r = {lq_rows(node->out), lq_cols(node->out), attr->head_dim, pairs,
                       log2((double)attr->freq_base),
                       (double)attr->freq_scale / 6.283185307179586, attr->attn_factor, sign,
                       lq_data_i32(node->in[1]), lq_data<float>(node->in[2])};
    const bool packs = pairs % W == 0 && attr->head_dim % W == 0;
    if (attr->neox && packs) launch_turn<T, W, true, ADDS>(dev, r, x, y);
    else if (attr->neox) launch_turn<T, 1, true, ADDS>(dev, r, x, y);
    else if (packs) launch_turn<T, W, false, ADDS>(dev, r, x, y);
    else launch_turn<T, 1, false, ADDS>(dev, r, x, y);
    if (rest == 0) return;
    const int64_t n = r.rows * (r.cols / attr->head_dim) * rest;
    lq_launch(dev, rope_rest<T, ADDS>, dim3((unsigned)((n + THREADS - 1) / THREADS)), THREADS, 0, n,
              attr->head_dim, rest, x, y);
}

static void forward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        rotate<T, false>(node, run->dev, 1, lq_data<T>(node->in[0]), lq_data<T>(node->out));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        rotate<T, true>(node, run->dev, -1, lq_grad<T>(node->out), lq_grad<T>(node->in[0]));
    });
}

extern "C" const lq_kernels lq_cuda_rope = {forward, backward, NULL, NULL, 0};
