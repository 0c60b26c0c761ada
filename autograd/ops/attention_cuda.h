/* attention on CUDA: what its kernels share, and the ways to compute it, each with all that the
 * CPU's has: segments, windows, caps, ALiBi, grouped heads. The formulas stand in attention.c. */
#ifndef LOQUAT_ATTENTION_CUDA_H
#define LOQUAT_ATTENTION_CUDA_H

#include "kernels.h"

/* Everything of a run. T: the activations' type; KV: that of keys and values. */
template <typename T, typename KV = T> struct attention_job {
    const T *q;                 /* (N,H*d) */
    const KV *k, *v;            /* (rows,K*d), caches or this run's */
    const int32_t *starts;      /* (N) */
    int64_t n, past;            /* rows of q; the key row of q's row 0 */
    int64_t q_ld, kv_ld;
    int n_head, n_head_kv, head_dim, window;
    float scale, softcap, alibi;
    T *out;                     /* (N,H*d) */
    float *lse;                 /* (N,H) */
};

/* What the backward pass reads and writes besides. */
template <typename T> struct attention_grad {
    const T *dout;              /* (N,H*d) */
    const float *correction;    /* (N,H): dout.out */
    T *dq, *dk, *dv;            /* NULL: not wanted */
};

/* ---- products in f32, any head size (attention_tile*.cu) ------------------------------------- */

void lq_attention_tile_forward(lq_dev *dev, const attention_job<float> &j);
void lq_attention_tile_forward(lq_dev *dev, const attention_job<lq_b16> &j);
void lq_attention_tile_forward(lq_dev *dev, const attention_job<lq_b16, float> &j);
void lq_attention_tile_backward(lq_dev *dev, const attention_job<float> &j,
                                const attention_grad<float> &g);
void lq_attention_tile_backward(lq_dev *dev, const attention_job<lq_b16> &j,
                                const attention_grad<lq_b16> &g);

/* ---- a few queries against a cache; heads up to 256 wide (attention_row.cu) ------------------ */

void lq_attention_row_forward(lq_dev *dev, const attention_job<float> &j);
void lq_attention_row_forward(lq_dev *dev, const attention_job<lq_b16, float> &j);

/* ---- products on tensor cores, heads up to 256 wide, a multiple of 8 (attention_mma*.cu) ----- */

void lq_attention_mma_forward(lq_dev *dev, const attention_job<lq_b16> &j);
void lq_attention_mma_backward(lq_dev *dev, const attention_job<lq_b16> &j,
                               const attention_grad<lq_b16> &g);

/* ---- for kernels ----------------------------------------------------------------------------- */

template <typename T, typename KV>
static __device__ __forceinline__ int kv_head(const attention_job<T, KV> &j, int h) {
    return h / (j.n_head / j.n_head_kv);
}

/* First key row that query row t sees; the last is past + t. */
template <typename T, typename KV>
static __device__ __forceinline__ int64_t key_begin(const attention_job<T, KV> &j, int64_t t) {
    const int64_t first = j.window > 0 ? j.past + t - j.window + 1 : 0;
    return first > j.starts[t] ? first : j.starts[t];
}

/* See alibi_slope in attention.c. */
template <typename T, typename KV>
static __device__ __forceinline__ float alibi_slope(const attention_job<T, KV> &j, int h) {
    int power = 1;
    if (!(j.alibi > 0)) return 0;
    while (2 * power <= j.n_head) power *= 2;
    const float by = h < power ? (float)(h + 1) : (float)(2 * (h - power) + 1) / 2;
    return exp2f(-j.alibi * by / (float)power);
}

#endif
