/* ce_head: the output head fused with cross-entropy,
 *   dlogits = softmax(logits) - onehot(label)   (times 1 - (logits/cap)^2 when capped).
 * How the logits come and go in chunks is head.h's. */
#include "cpu.h"
#include "head.h"
#include "ops.h"

#include <math.h>

/* Turns one row of capped logits into factor * dlogits. */
static void capped_gradient(float *logits, int32_t label, float max, double sum, float factor,
                            float cap, int64_t V) {
    const float scale = factor / (float)sum, own = logits[label];
    for (int64_t v = 0; v < V; v += LQ_HEAD_PIECE) {
        float p[LQ_HEAD_PIECE];
        const int64_t n = lq_min64(LQ_HEAD_PIECE, V - v);
        lq_cpu_kernels()->exp_sum(p, logits + v, max, n);
        for (int64_t j = 0; j < n; j++)
            logits[v + j] = p[j] * scale * lq_head_slope(logits[v + j], cap);
    }
    logits[label] -= factor * lq_head_slope(own, cap);
}

static void row(const lq_node *node, const lq_head_chunk *c, int64_t i, float *out,
                const float *factor) {
    (void)node;
    const lq_head_side *s = &c->side[0];
    float *const logits = s->logits + i * s->cols;
    const int32_t label = c->label[i];
    const float max = lq_cpu_kernels()->max(logits, s->cols), own = logits[label];
    const bool is_top = out && lq_head_is_top(logits, label, max);
    const bool in_place = factor && s->softcap <= 0;
    const double sum = lq_head_exp_sum(in_place ? logits : NULL, logits, max, s->cols);
    if (out) {
        out[0] = (float)(log(sum) + (double)max - (double)own);
        out[1] = is_top;
    }
    if (in_place) {
        lq_cpu_kernels()->scale(logits, *factor / (float)sum, s->cols);
        logits[label] -= *factor;
    } else if (factor) {
        capped_gradient(logits, label, max, sum, *factor, s->softcap, s->cols);
    }
}

static int sides(const lq_node *node, lq_head_side side[LQ_HEAD_MAX_SIDES]) {
    const lq_ce_head_attr *attr = node->attr;
    side[0].h = node->in[LQ_HEAD_H];
    side[0].w = node->in[LQ_HEAD_W];
    side[0].cols = lq_rows(node->in[LQ_HEAD_W]);
    side[0].softcap = attr->softcap;
    return 1;
}

static const lq_head head = {.name = "ce_head", .out_cols = 2, .sides = sides, .row = row};

static lq_status shape(lq_node *node) { return lq_head_shape(&head, node); }

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(LQ_HEAD_LABELS) |
           (lq_head_is_trained(node) ? LQ_IN(LQ_HEAD_H) | LQ_IN(LQ_HEAD_W) : 0u);
}

static unsigned products(const lq_node *node) {
    (void)node;
    return LQ_IN(LQ_HEAD_W);
}

static size_t scratch(const lq_node *node, bool backward) {
    return lq_head_scratch(&head, node, backward);
}

static void forward(const lq_node *node, const lq_run *run) { lq_head_forward(&head, node, run); }
static void backward(const lq_node *node, const lq_run *run) { lq_head_backward(&head, node, run); }

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward, .scratch = scratch};

const lq_op lq_op_ce_head = {
    .name = "ce_head",
    .n_in = LQ_HEAD_N_IN,
    .attr_bytes = sizeof(lq_ce_head_attr),
    .nograd = LQ_IN(LQ_HEAD_LABELS),
    .bwd_reads = bwd_reads,
    .products = products,
    .out_f32 = true,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(ce_head)},
};

lq_tensor *lq_ce_head(lq_tape *tape, lq_tensor *h, lq_tensor *w, lq_tensor *labels,
                      lq_ce_head_attr attr) {
    lq_tensor *const in[LQ_HEAD_N_IN] = {h, w, labels};
    return lq_tape_record(tape, &lq_op_ce_head, &attr, LQ_HEAD_N_IN, in);
}
