/* ce_head on CUDA; see ce_head.c and head_cuda.h. A row of logits is read once for its maximum and
 * sum together, and once more to become its gradient. */
#include "head_cuda.h"

static constexpr int out_cols = 2;

template <typename T>
static __global__ void __launch_bounds__(LQ_HEAD_MAX_THREADS)
    row_kernel(int64_t V, int64_t ld, float cap, const int32_t *row, const int32_t *label,
               T *logits, float *out, const float *dout, bool gradient) {
    T *const z = logits + blockIdx.x * ld;
    const int64_t t = row[blockIdx.x], own_at = label[t];
    lq_soft soft = {1, -INFINITY, 0};
    float beaten = 0;
    lq_head_cap(z, V, cap);
    __syncthreads();
    const float own = lq_to_float(z[own_at]);
    lq_head_each(z, V, [&](int64_t v, float x) {
        soft.add(x);
        if (x > own || (x == own && v < own_at)) beaten = 1;
    });
    soft.join();   /* has barriers: now z may be rewritten */
    beaten = lq_block_max(beaten);
    if (out && threadIdx.x == 0) {
        out[t * out_cols] = logf(soft.sum) + soft.max - own;
        out[t * out_cols + 1] = 1 - beaten;
    }
    if (!gradient) return;
    const float factor = dout ? dout[t * out_cols] : 1, over = factor / soft.sum;
    lq_head_rewrite(z, V, [&](int64_t v, float x) {
        return (over * soft.part(x) - (v == own_at ? factor : 0)) * lq_head_slope_of(x, cap);
    });
}

static void rows(const lq_node *node, lq_dev *dev, const lq_cuda_chunk *c, float *out,
                 const float *dout, bool gradient) {
    (void)node;
    const lq_cuda_side *const s = &c->side[0];
    lq_by_activation(c->type, [&](auto of) {
        typedef decltype(of) T;
        lq_launch(dev, row_kernel<T>, (unsigned)c->n, lq_head_threads(s->cols), 0, s->cols, s->ld,
                  s->softcap, c->row, c->label, (T *)s->logits, out, dout, gradient);
    });
}

static int sides(const lq_node *node, lq_cuda_side side[LQ_HEAD_MAX_SIDES]) {
    side[0].h = node->in[LQ_HEAD_H];
    side[0].w = node->in[LQ_HEAD_W];
    side[0].cols = lq_rows(side[0].w);
    side[0].softcap = ((const lq_ce_head_attr *)node->attr)->softcap;
    return 1;
}

static const lq_cuda_head head = {out_cols, sides, rows};

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

extern "C" const lq_kernels lq_cuda_ce_head = {forward, backward, scratch, accepts, 0};
