/* The heads' frame on CUDA: labelled rows are listed, gathered, multiplied chunk by chunk, and the
 * op's `rows` turns a chunk's logits into losses and, in place, into their gradient. How many rows
 * have a label is counted on the host, from the labels' copy there. With a frozen head the gradient
 * of listed row k is row k of `saved`. */
#ifndef LOQUAT_HEAD_CUDA_H
#define LOQUAT_HEAD_CUDA_H

#include "head.h"
#include "kernels.h"
#include "pack.h"

enum {
    LQ_HEAD_MAX_SIDES = 2,   /* the model's and a teacher's */
    LQ_HEAD_ROW_STEP = 8     /* of `ld`, so that rows are aligned */
};

struct lq_cuda_side {
    const lq_tensor *h, *w;   /* (N,D), (V,D); h NULL: nothing is made, the op only has room */
    int64_t cols, ld;         /* logits of a row, and the distance between two; room: floats */
    float softcap;
    void *rows, *logits;      /* in scratch: (n,D) and (n,ld) of the chunk's type */
};

struct lq_cuda_chunk {
    const lq_format *type;    /* of products and logits */
    lq_cuda_side side[LQ_HEAD_MAX_SIDES];
    int n_sides;
    int64_t n;
    const int32_t *row;       /* (n): where each came from */
    const int32_t *label;     /* (N) */
};

struct lq_cuda_head {
    int64_t out_cols;
    int (*sides)(const lq_node *node, lq_cuda_side side[LQ_HEAD_MAX_SIDES]);
    /* Losses into the rows of out, unless that is NULL. With `gradient`, logits become dlogits
     * times column 0 of dout's row (NULL: 1). */
    void (*rows)(const lq_node *node, lq_dev *dev, const lq_cuda_chunk *c, float *out,
                 const float *dout, bool gradient);
};

/* What the op's functions of the same names do. */
size_t lq_cuda_head_scratch(const lq_cuda_head *head, const lq_node *node, bool backward);
lq_status lq_cuda_head_accepts(const lq_cuda_head *head, const lq_node *node);
void lq_cuda_head_forward(const lq_cuda_head *head, const lq_node *node, const lq_run *run);
void lq_cuda_head_backward(const lq_cuda_head *head, const lq_node *node, const lq_run *run);

/* ---- for kernels of `rows`: a block per row -------------------------------------------------- */

enum { LQ_HEAD_MAX_THREADS = 512 };

/* Threads of the block: a few packs of 16 bytes for each. */
static inline unsigned lq_head_threads(int64_t V) {
    return (unsigned)lq_min64(LQ_HEAD_MAX_THREADS, LQ_WARP * lq_blocks(V, 32 * LQ_WARP));
}

/* sum of exp((x - max) * inv_t) over what was added, max being the largest. NaN makes it NaN. */
struct lq_soft {
    float inv_t, max, sum;

    __device__ void add(float x) {
        if (x > max) {
            sum = sum * expf((max - x) * inv_t) + 1;
            max = x;
        } else if (x != -INFINITY) {
            sum += expf((x - max) * inv_t);
        }
    }
    /* The same over all of the block's threads. */
    __device__ void join() {
        const float most = lq_block_max(max);
        sum = lq_block_sum(max > -INFINITY ? sum * expf((max - most) * inv_t) : sum);
        max = most;
    }
    __device__ float part(float x) const { return expf((x - max) * inv_t); }
    __device__ float log_share(float x) const { return (x - max) * inv_t - logf(sum); }
};

/* f(v, z_v) for all v < V, a thread's share in ascending order. */
template <typename T, typename F> __device__ inline void lq_head_each(const T *z, int64_t V, F f) {
    constexpr int W = lq_pack_width<T>;
    for (int64_t v = threadIdx.x * W; v < V; v += (int64_t)blockDim.x * W) {
        if (v + W <= V) {
            const lq_floats<W> x = lq_load<W>(z + v);
            for (int j = 0; j < W; j++) f(v + j, x.v[j]);
        } else {
            for (int64_t i = v; i < V; i++) f(i, lq_to_float(z[i]));
        }
    }
}

/* z_v = f(v, z_v) */
template <typename T, typename F> __device__ inline void lq_head_rewrite(T *z, int64_t V, F f) {
    constexpr int W = lq_pack_width<T>;
    for (int64_t v = threadIdx.x * W; v < V; v += (int64_t)blockDim.x * W) {
        if (v + W <= V) {
            lq_floats<W> x = lq_load<W>(z + v);
            for (int j = 0; j < W; j++) x.v[j] = f(v + j, x.v[j]);
            lq_store<W>(z + v, x);
        } else {
            for (int64_t i = v; i < V; i++) z[i] = lq_from_float<T>(f(i, lq_to_float(z[i])));
        }
    }
}

/* z_v = cap tanh(z_v / cap), if there is a cap. Each thread does this to its share of the row. */
template <typename T> __device__ inline void lq_head_cap(T *z, int64_t V, float cap) {
    if (cap > 0) lq_head_rewrite(z, V, [=](int64_t, float x) { return cap * tanhf(x / cap); });
}

__device__ inline float lq_head_slope_of(float logit, float cap) {
    return cap > 0 ? 1 - logit / cap * (logit / cap) : 1;
}

#endif
