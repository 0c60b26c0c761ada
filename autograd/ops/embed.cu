/* embed on CUDA: see embed.c. */
#include "kernels.h"

template <typename T>
static __global__ void forward_kernel(T *y, const int32_t *ids, const float *w, float scale,
                                      int64_t d) {
    const int64_t t = blockIdx.x;
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
        y[t * d + j] = lq_from_float<T>(scale * w[ids[t] * d + j]);
}

/* A thread per column, rows in order. */
template <typename T>
static __global__ void backward_kernel(float *dw, const int32_t *ids, const T *dy, float scale,
                                       int64_t n, int64_t d) {
    const int64_t j = lq_thread_first();
    if (j >= d) return;
    for (int64_t t = 0; t < n; t++) dw[ids[t] * d + j] += scale * lq_to_float(dy[t * d + j]);
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_embed_attr *const attr = (const lq_embed_attr *)node->attr;
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(run->dev, forward_kernel<T>, (unsigned)lq_rows(node->out), LQ_BLOCK, 0,
                  lq_data<T>(node->out), lq_data_i32(node->in[0]), lq_data<float>(node->in[1]),
                  attr->scale, lq_cols(node->out));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_embed_attr *const attr = (const lq_embed_attr *)node->attr;
    const int64_t n = lq_rows(node->out), d = lq_cols(node->out);
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(run->dev, backward_kernel<T>, lq_blocks(d, LQ_BLOCK), LQ_BLOCK, 0,
                  lq_grad<float>(node->in[1]), lq_data_i32(node->in[0]), lq_grad<T>(node->out),
                  attr->scale, n, d);
    });
}

static lq_status accepts(const lq_node *node) {
    const lq_embed_attr *const attr = (const lq_embed_attr *)node->attr;
    if (node->in[1]->fmt == &lq_f32 && !(attr->noise_alpha > 0)) return LQ_OK;
    return lq_fail(LQ_EUNSUPPORTED, "a table of %s, noise %g: only F32 without noise",
                   node->in[1]->fmt->label, (double)attr->noise_alpha);
}

extern "C" const lq_kernels lq_cuda_embed = {forward, backward, NULL, accepts};
