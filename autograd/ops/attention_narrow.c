/* Attention with narrow heads: the blocks, the kernel of the instruction set does the rest. Forward
 * goes query block by query block, backward key block by key block, so that the sums of one block
 * stay in the cache. */
#include "attention_parts.h"
#include "cpu.h"
#include "narrow.h"

#include <math.h>
#include <string.h>

_Static_assert((int)LQ_NARROW_QUERIES == (int)LQ_ATTENTION_QUERIES &&
                   (int)LQ_NARROW_KEYS == (int)LQ_ATTENTION_KEYS,
               "one size of block");

bool lq_attention_is_narrow(const lq_attention_attr *attr) {
    const bool plain = !(attr->softcap > 0) && !(attr->alibi > 0);
    return lq_cpu_kernels()->narrow && attr->head_dim <= LQ_NARROW_HEAD && plain;
}

/* Keys [key, key + m) of head h, as the kernel wants them. */
typedef struct columns {
    _Alignas(64) lq_narrow_cols k, v;
} columns;

static void gather(const lq_attention_job *j, int64_t h, int64_t key, int64_t m, columns *c) {
    const lq_narrow_kernel *kernel = lq_cpu_kernels()->narrow;
    const int64_t d = j->attr->head_dim, at = kv_head(j, h) * d + key * j->kv_ld;
    kernel->gather(&c->k, j->k + at, j->kv_ld, m, d);
    kernel->gather(&c->v, j->v + at, j->kv_ld, m, d);
}

static lq_narrow make_block(const lq_attention_job *j, int64_t h, int64_t t, int64_t key, int64_t m,
                            const columns *c) {
    const int64_t d = j->attr->head_dim;
    lq_narrow b = {.n = lq_min64(LQ_NARROW_QUERIES, j->n - t), .m = m, .head_dim = d,
                   .scale = j->attr->scale, .q = j->q + t * j->q_ld + h * d, .q_ld = j->q_ld,
                   .k = &c->k, .v = &c->v};
    for (int64_t i = 0; i < b.n; i++)
        visible_keys(j, t + i, key, m, &b.begin[i], &b.end[i]);
    return b;
}

void lq_attention_narrow_forward(const lq_attention_job *j, int64_t h, int64_t t, float *out_all,
                                 float *lse) {
    const int64_t d = j->attr->head_dim, n = lq_min64(LQ_NARROW_QUERIES, j->n - t);
    float *const out = out_all + t * j->q_ld + h * d;
    float max[LQ_NARROW_QUERIES];
    double sum[LQ_NARROW_QUERIES];
    columns c;
    for (int64_t i = 0; i < n; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
        memset(out + i * j->q_ld, 0, (size_t)d * sizeof *out);
    }
    const int64_t stop = key_end(j, t + n - 1);
    for (int64_t key = key_begin(j, t); key < stop; key += LQ_NARROW_KEYS) {
        const int64_t m = lq_min64(LQ_NARROW_KEYS, stop - key);
        gather(j, h, key, m, &c);
        const lq_narrow block = make_block(j, h, t, key, m, &c);
        lq_cpu_kernels()->narrow->forward(&block, max, sum, out);
    }
    for (int64_t i = 0; i < n; i++) {
        lq_cpu_kernels()->scale(out + i * j->q_ld, (float)(1 / sum[i]), d);
        lse[(t + i) * j->attr->n_head + h] = max[i] + (float)log(sum[i]);
    }
}

/* The queries from t on against one block of keys. */
static void backward_block(const lq_attention_job *j, const lq_narrow *block, int64_t t,
                           const lq_attention_grad *g, lq_narrow_cols *dk, lq_narrow_cols *dv) {
    float correction[LQ_NARROW_QUERIES];
    const int64_t at = t * j->q_ld;
    for (int64_t i = 0; i < block->n; i++)
        correction[i] = lq_cpu_kernels()->dot(g->dout + at + i * j->q_ld, g->out + at + i * j->q_ld,
                                              j->attr->head_dim);
    const lq_narrow_grad grad = {.dout = g->dout + at, .lse = g->lse + t * j->attr->n_head,
                                 .lse_ld = j->attr->n_head, .correction = correction,
                                 .dq = g->dq ? g->dq + at : NULL, .dk = dk, .dv = dv};
    lq_cpu_kernels()->narrow->backward(block, &grad);
}

void lq_attention_narrow_backward(const lq_attention_job *j, int64_t h,
                                  const lq_attention_grad *g) {
    const lq_narrow_kernel *kernel = lq_cpu_kernels()->narrow;
    const int64_t d = j->attr->head_dim;
    columns c, grad;
    for (int64_t key = 0; key < j->n; key += LQ_NARROW_KEYS) {
        const int64_t m = lq_min64(LQ_NARROW_KEYS, j->n - key);
        gather(j, h, key, m, &c);
        memset(&grad, 0, sizeof grad);
        /* queries before `key` see none of it; once one begins behind it, so do all later ones */
        for (int64_t t = key; t < j->n && key_begin(j, t) < key + m; t += LQ_NARROW_QUERIES) {
            const lq_narrow block = make_block(j, h, t, key, m, &c);
            backward_block(j, &block, t, g, &grad.k, &grad.v);
        }
        if (g->dk) kernel->scatter(g->dk + key * g->kv_ld, g->kv_ld, &grad.k, m, d);
        if (g->dv) kernel->scatter(g->dv + key * g->kv_ld, g->kv_ld, &grad.v, m, d);
    }
}
