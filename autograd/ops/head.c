/* See head.h. */
#include "head.h"

#include "cpu.h"

#include <assert.h>
#include <string.h>

bool lq_head_is_trained(const lq_node *node) { return node->in[LQ_HEAD_W]->kind == LQ_PARAM; }

lq_status lq_head_shape(lq_node *node, const char *name, int64_t out_cols) {
    const lq_tensor *h = node->in[LQ_HEAD_H], *w = node->in[LQ_HEAD_W],
                    *labels = node->in[LQ_HEAD_LABELS];
    if (h->ndim != 2 || w->ndim != 2 || h->dim[1] != w->dim[1])
        return lq_fail(LQ_ESHAPE, "%s '%s': h has rows of %lld, the weight of %lld", name,
                       w->name ? w->name : "?", (long long)lq_cols(h), (long long)lq_cols(w));
    if (labels->fmt != &lq_i32 || labels->ndim != 1)
        return lq_fail(LQ_ESHAPE, "%s: labels are %s with %d dimensions, wanted i32 with 1", name,
                       labels->fmt->name, labels->ndim);
    lq_tensor *out = node->out, *saved = node->saved;
    out->fmt = &lq_f32;
    out->ndim = 2;
    out->dim[0] = h->dim[0];
    out->dim[1] = out_cols;
    if (lq_head_is_trained(node)) return LQ_OK;
    saved->fmt = &lq_f32;
    saved->ndim = 2;
    saved->dim[0] = h->dim[0];
    saved->dim[1] = h->dim[1];
    return LQ_OK;
}

bool lq_head_next_rows(lq_head_rows *rows, const lq_node *node, int64_t most, int64_t *next) {
    const int32_t *const labels = lq_data_i32(node->in[LQ_HEAD_LABELS]);
    const int64_t N = node->in[LQ_HEAD_H]->dim[0];
    for (rows->n = 0; *next < N && rows->n < most; ++*next) {
        assert(labels[*next] < lq_rows(node->in[LQ_HEAD_W]));
        if (labels[*next] < 0) continue;
        rows->label[rows->n] = labels[*next];
        rows->row[rows->n++] = *next;
    }
    return rows->n > 0;
}

void lq_head_gather(const lq_head_rows *rows, const lq_tensor *h, float *to) {
    const int64_t D = lq_cols(h);
    for (int64_t i = 0; i < rows->n; i++)
        memcpy(to + i * D, lq_data_f32(h) + rows->row[i] * D, (size_t)D * sizeof *to);
}

void lq_head_add(const lq_head_rows *rows, const float *dh, float *grad, int64_t D) {
    for (int64_t i = 0; i < rows->n; i++)
        lq_cpu_kernels()->axpy(grad + rows->row[i] * D, 1, dh + i * D, D);
}

/* Rows without a label hold nothing. */
void lq_head_backward_frozen(const lq_node *node) {
    const lq_tensor *h = node->in[LQ_HEAD_H];
    const int64_t N = h->dim[0], D = h->dim[1], cols = lq_cols(node->out);
    const int32_t *const labels = lq_data_i32(node->in[LQ_HEAD_LABELS]);
    const float *const dout = lq_grad_f32(node->out);
    if (!h->grad) return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        if (labels[i] >= 0)
            lq_cpu_kernels()->axpy(lq_grad_f32(h) + i * D, dout[cols * i],
                                   lq_data_f32(node->saved) + i * D, D);
}

void *lq_head_take(char *scratch, size_t *used, size_t bytes) {
    void *at = scratch ? scratch + *used : NULL;
    *used += lq_align64(bytes);
    return at;
}

double lq_head_exp_sum(float *to, const float *logits, float max, int64_t n) {
    float piece[LQ_HEAD_PIECE];
    double sum = 0;
    for (int64_t v = 0; v < n; v += LQ_HEAD_PIECE)
        sum += lq_cpu_kernels()->exp_sum(to ? to + v : piece, logits + v, max,
                                         lq_min64(LQ_HEAD_PIECE, n - v));
    return sum;
}
