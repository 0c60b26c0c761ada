/* scaled_linear on CUDA: see scaled_linear.c. G = dy^T x exists for some rows of W at a time. */
#include "kernels.h"
#include "linear_cuda.h"

enum { X, W, BIAS, SCALES, N_IN };
enum { TILE_ELEMENTS = 1 << 22, Q4_0_BYTES = 18, Q8_0_BYTES = 34, HALF = 16 };

/* dd[b] += sum over the 32 elements of block b of G code: a warp for each block, a lane for each
 * element. A Q4_0 byte holds elements i and i + 16, both plus 8. */
static __global__ void scales_kernel(float *dd, const float *g, const uint8_t *packed, bool is_q4_0,
                                     int64_t blocks) {
    const int64_t b = lq_thread_first() / LQ_WARP;
    const int i = lq_lane();
    if (b >= blocks) return;
    const uint8_t *const block = packed + b * (is_q4_0 ? Q4_0_BYTES : Q8_0_BYTES) + 2;
    const int code = is_q4_0 ? (block[i % HALF] >> (i < HALF ? 0 : 4) & 15) - 8
                             : (int)(int8_t)block[i];
    const float sum = lq_warp_sum(g[b * LQ_WARP + i] * (float)code);
    if (i == 0) dd[b] += sum;
}

static int64_t tile_rows(const lq_tensor *w) {
    return lq_min64(w->dim[0], lq_max64(1, TILE_ELEMENTS / w->dim[1]));
}

static size_t scratch(const lq_node *node, bool backward) {
    const lq_tensor *const w = node->in[W];
    const size_t tile = lq_cuda_wtile_scratch(w, node->in[X]->fmt);
    const size_t sums = (size_t)(tile_rows(w) * w->dim[1]) * sizeof(float);
    return backward && sums > tile ? sums : tile;
}

static lq_status accepts(const lq_node *node) { return lq_cuda_wtile_accepts(node->in[W]); }

static void forward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X];
    lq_cuda_wtile_forward(run->dev, node->in[W], x->fmt, x->data, node->out->data, 0, x->dim[0],
                          run->scratch);
    lq_cuda_bias(run->dev, node->in[BIAS], x->fmt, node->out->data, x->dim[0]);
}

static void scales_backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X], *const w = node->in[W], *const d = node->in[SCALES];
    const int64_t N = x->dim[0], D = x->dim[1], O = w->dim[0], height = tile_rows(w);
    float *const g = (float *)run->scratch;
    for (int64_t o = 0; o < O; o += height) {
        const int64_t rows = lq_min64(height, O - o), blocks = rows * d->dim[1];
        const void *const dy = (const char *)node->out->grad->data + lq_format_bytes(x->fmt, o);
        lq_cuda_gemm(run->dev, g, &lq_f32, D, 0, 1, lq_cuda_mat{dy, x->fmt, O, true},
                     lq_cuda_mat{x->data, x->fmt, D, false}, rows, D, N);
        lq_launch(run->dev, scales_kernel, lq_blocks(blocks * LQ_WARP, LQ_BLOCK), LQ_BLOCK, 0,
                  lq_grad<float>(d) + o * d->dim[1], g,
                  (const uint8_t *)w->data + lq_format_bytes(w->fmt, o * D), w->fmt == &lq_q4_0,
                  blocks);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X];
    const void *const dy = node->out->grad->data;
    if (x->grad)
        lq_cuda_wtile_backward(run->dev, node->in[W], x->fmt, dy, x->grad->data, x->dim[0],
                               run->scratch);
    if (node->in[SCALES]->grad) scales_backward(node, run);
    lq_cuda_bias_backward(run->dev, node->in[BIAS], x->fmt, dy, x->dim[0]);
}

extern "C" const lq_kernels lq_cuda_scaled_linear = {forward, backward, scratch, accepts, 0};
