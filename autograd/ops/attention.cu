/* attention on CUDA: see attention.c. Chooses the kernels: tensor cores for bf16 where the head
 * size allows, else products in f32. Caches are f32 whatever activations are. */
#include "attention_cuda.h"

enum { Q, K, V, STARTS, K_CACHE, V_CACHE };
enum { WIDEST = 256, FEW_QUERIES = 16 };   /* of the kernels that do not take all */

template <typename KV>
static __global__ void store_kernel(float *cache, const KV *rows, int64_t n) {
    for (int64_t i = lq_thread_first(); i < n; i += lq_thread_step())
        cache[i] = lq_to_float(rows[i]);
}

/* A warp per row and head: dout.out */
template <typename T>
static __global__ void correction_kernel(attention_job<T> j, const T *dout, float *correction) {
    const int64_t i = lq_thread_first() / LQ_WARP;
    if (i >= j.n * j.n_head) return;
    const int64_t at = i * j.head_dim;
    float sum = 0;
    for (int c = lq_lane(); c < j.head_dim; c += LQ_WARP)
        sum += lq_to_float(dout[at + c]) * lq_to_float(j.out[at + c]);
    sum = lq_warp_sum(sum);
    if (lq_lane() == 0) correction[i] = sum;
}

template <typename T, typename KV>
static attention_job<T, KV> make_job(const lq_node *node, const lq_run *run, const lq_tensor *k,
                                     const lq_tensor *v) {
    const lq_attention_attr *const attr = (const lq_attention_attr *)node->attr;
    attention_job<T, KV> j = {};
    j.q = lq_data<T>(node->in[Q]);
    j.k = lq_data<KV>(k);
    j.v = lq_data<KV>(v);
    j.starts = lq_data_i32(node->in[STARTS]);
    j.n = node->in[Q]->dim[0];
    j.past = node->in[K_CACHE] ? run->n_past : 0;
    j.q_ld = (int64_t)attr->n_head * attr->head_dim;
    j.kv_ld = (int64_t)attr->n_head_kv * attr->head_dim;
    j.n_head = attr->n_head;
    j.n_head_kv = attr->n_head_kv;
    j.head_dim = attr->head_dim;
    j.window = attr->window;
    j.scale = attr->scale;
    j.softcap = attr->softcap;
    j.alibi = attr->alibi;
    j.out = lq_data<T>(node->out);
    j.lse = lq_data<float>(node->saved);
    return j;
}

static bool takes_mma(const attention_job<lq_b16> &j) {
    return j.head_dim % 8 == 0 && j.head_dim <= WIDEST;
}

static void attend(lq_dev *dev, const attention_job<float> &j) {
    lq_attention_tile_forward(dev, j);
}
static void attend(lq_dev *dev, const attention_job<lq_b16> &j) {
    if (takes_mma(j)) lq_attention_mma_forward(dev, j);
    else lq_attention_tile_forward(dev, j);
}

template <typename T>
static void attend_cached(const lq_node *node, const lq_run *run) {
    for (int i = 0; i < 2; i++) {
        const lq_tensor *const rows = node->in[K + i], *const cache = node->in[K_CACHE + i];
        lq_launch(run->dev, store_kernel<T>, lq_blocks(lq_count(rows), LQ_BLOCK), LQ_BLOCK, 0,
                  lq_data<float>(cache) + run->n_past * lq_cols(rows), lq_data<T>(rows),
                  lq_count(rows));
    }
    const attention_job<T, float> j =
        make_job<T, float>(node, run, node->in[K_CACHE], node->in[V_CACHE]);
    if (j.n <= FEW_QUERIES && j.head_dim <= WIDEST) lq_attention_row_forward(run->dev, j);
    else lq_attention_tile_forward(run->dev, j);
}

static void forward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        if (node->in[K_CACHE]) attend_cached<T>(node, run);
        else attend(run->dev, make_job<T, T>(node, run, node->in[K], node->in[V]));
    });
}

static void differentiate(lq_dev *dev, const attention_job<float> &j,
                          const attention_grad<float> &g) {
    lq_attention_tile_backward(dev, j, g);
}
static void differentiate(lq_dev *dev, const attention_job<lq_b16> &j,
                          const attention_grad<lq_b16> &g) {
    if (takes_mma(j)) lq_attention_mma_backward(dev, j, g);
    else lq_attention_tile_backward(dev, j, g);
}

static void backward(const lq_node *node, const lq_run *run) {
    float *const correction = (float *)run->scratch;
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        const attention_job<T> j = make_job<T, T>(node, run, node->in[K], node->in[V]);
        const T *const dout = lq_grad<T>(node->out);
        lq_launch(run->dev, correction_kernel<T>, lq_blocks(j.n * j.n_head, LQ_BLOCK / LQ_WARP),
                  LQ_BLOCK, 0, j, dout, correction);
        differentiate(run->dev, j,
                      attention_grad<T>{dout, correction, lq_grad<T>(node->in[Q]),
                                        lq_grad<T>(node->in[K]), lq_grad<T>(node->in[V])});
    });
}

/* dout.out, (N,H) */
static size_t scratch(const lq_node *node, bool backward) {
    return backward ? (size_t)lq_count(node->saved) * sizeof(float) : 0;
}

/* The formats of q, k and v that kernels exist for. */
static lq_status accepts(const lq_node *node) {
    for (int i = Q; i <= V; i++)
        if (node->in[i]->fmt != node->out->fmt)
            return lq_fail(LQ_EUNSUPPORTED, "input %d is %s, the output %s: only the same", i,
                           node->in[i]->fmt->name, node->out->fmt->name);
    for (int i = K_CACHE; i <= V_CACHE; i++)
        if (node->in[i] && node->in[i]->fmt != &lq_f32)
            return lq_fail(LQ_EUNSUPPORTED, "a cache is %s: only f32", node->in[i]->fmt->name);
    return LQ_OK;
}

extern "C" const lq_kernels lq_cuda_attention = {forward, backward, scratch, accepts, 0};
