/* A block of scores has a row for each key: then all products but the scores' read their operands
 * as they lie. Heads that are narrow have kernels of their own. */
#include "attention_block.h"

#include "gemm.h"

#include <math.h>

enum { BQ = LQ_ATTN_QUERIES, BK = LQ_ATTN_KEYS };

/* ALiBi (arXiv 2108.12409): powers of 2^(-alibi/P) for the first P heads, P the power of 2 up to H,
 * and for the rest the odd powers of its root. */
static float alibi_slope(const lq_attention_attr *attr, int64_t h) {
    int64_t power = 1;
    if (!(attr->alibi > 0)) return 0;
    while (2 * power <= attr->n_head) power *= 2;
    const double by = h < power ? (double)(h + 1) : (double)(2 * (h - power) + 1) / 2;
    return (float)exp2(-(double)attr->alibi * by / (double)power);
}

lq_attn_block lq_attn_make_block(const lq_attn_job *j, int64_t h, int64_t t, int64_t n,
                                 int64_t key, int64_t key_stop) {
    const int64_t d = j->attr->head_dim, group = j->attr->n_head / j->attr->n_head_kv;
    const int64_t kv = h / group * d + key * j->kv_ld;
    return (lq_attn_block){.q = j->q + t * j->q_ld + h * d, .k = j->k + kv, .v = j->v + kv, .t = t,
                           .n = n, .key = key, .m = lq_min64(j->block_keys, key_stop - key),
                           .slope = alibi_slope(j->attr, h)};
}

/* s += slope (key - query) */
static void add_alibi(const lq_attn_job *j, const lq_attn_block *b, float *s) {
    for (int64_t k = 0; k < b->m; k++) {
        const float first = (float)(b->key + k - (j->past + b->t));
        for (int64_t i = 0; i < b->n; i++) s[k * BQ + i] += b->slope * (first - (float)i);
    }
}

/* Who sees what. */
static void look(const lq_attn_job *j, const lq_attn_block *b, lq_scores *scores) {
    scores->m = b->m;
    scores->n = b->n;
    for (int64_t i = 0; i < BQ; i++) {
        int64_t begin = 0, end = 0;
        if (i < b->n) {
            begin = lq_min64(b->m, lq_max64(0, lq_attn_key_begin(j, b->t + i) - b->key));
            end = lq_max64(begin, lq_min64(b->m, lq_attn_key_end(j, b->t + i) - b->key));
        }
        scores->begin[i] = (int32_t)begin;
        scores->end[i] = (int32_t)end;
    }
}

static lq_narrow make_narrow(const lq_attn_job *j, const lq_attn_block *b,
                             const lq_scores *scores) {
    return (lq_narrow){.scores = scores, .head_dim = j->attr->head_dim, .scale = j->attr->scale,
                       .q = b->q, .k = b->k, .v = b->v, .q_ld = j->q_ld, .kv_ld = j->kv_ld};
}

/* s (m,n) = cap(scale k q^T), plus ALiBi. */
static void make_scores(const lq_attn_job *j, const lq_attn_block *b, float *s) {
    const float cap = j->attr->softcap;
    lq_gemm_serial(s, BQ, 0, j->attr->scale, (lq_mat){b->k, j->kv_ld, false},
                   (lq_mat){b->q, j->q_ld, true}, b->m, b->n, j->attr->head_dim);
    if (b->slope > 0) add_alibi(j, b, s);
    if (cap <= 0) return;
    for (int64_t k = 0; k < b->m; k++)
        lq_cpu_kernels()->tanh_cap(s + k * BQ, s + k * BQ, cap, b->n);
}

void lq_attn_add_block(const lq_attn_job *j, const lq_attn_block *b, lq_attn_softmax *state,
                       float *out) {
    const lq_cpu *cpu = lq_cpu_kernels();
    const int64_t d = j->attr->head_dim;
    float s[BQ * BK];
    lq_scores scores = {.s = s};
    look(j, b, &scores);
    if (j->narrow) {
        const lq_narrow heads = make_narrow(j, b, &scores);
        j->narrow->forward(&heads, state->max, state->sum, out);
        return;
    }
    make_scores(j, b, s);
    cpu->softmax(&scores, state->max, state->sum, state->shrink);
    for (int64_t i = 0; i < b->n; i++)
        if (state->shrink[i] != 1) cpu->scale(out + i * j->q_ld, state->shrink[i], d);
    lq_gemm_serial(out, j->q_ld, 1, 1, (lq_mat){s, BQ, true}, (lq_mat){b->v, j->kv_ld, false},
                   b->n, d, b->m);
}

void lq_attn_block_backward(const lq_attn_job *j, int64_t h, const lq_attn_block *b,
                            const lq_attn_grads *g, const float *lse, const float *correction) {
    const int64_t d = j->attr->head_dim, at = b->t * j->q_ld + h * d;
    const float inverse_cap = j->attr->softcap > 0 ? 1 / j->attr->softcap : 0;
    float p[BQ * BK], ds[BQ * BK];
    lq_scores scores = {.s = p};
    look(j, b, &scores);
    if (j->narrow) {
        const lq_narrow heads = make_narrow(j, b, &scores);
        j->narrow->backward(&heads, &(lq_narrow_grad){g->dout + at, lse, correction,
                                                      g->dq ? g->dq + at : NULL,
                                                      g->dk ? g->dk + b->key * d : NULL,
                                                      g->dv ? g->dv + b->key * d : NULL});
        return;
    }
    make_scores(j, b, p);
    lq_gemm_serial(ds, BQ, 0, 1, (lq_mat){b->v, j->kv_ld, false},
                   (lq_mat){g->dout + at, j->q_ld, true}, b->m, b->n, d);
    lq_cpu_kernels()->softmax_bwd(&scores, ds, lse, correction, j->attr->scale, inverse_cap);
    if (g->dv)
        lq_gemm_serial(g->dv + b->key * d, d, 1, 1, (lq_mat){p, BQ, false},
                       (lq_mat){g->dout + at, j->q_ld, false}, b->m, d, b->n);
    if (g->dk)
        lq_gemm_serial(g->dk + b->key * d, d, 1, 1, (lq_mat){ds, BQ, false},
                       (lq_mat){b->q, j->q_ld, false}, b->m, d, b->n);
    if (g->dq)
        lq_gemm_serial(g->dq + at, j->q_ld, 1, 1, (lq_mat){ds, BQ, true},
                       (lq_mat){b->k, j->kv_ld, false}, b->n, d, b->m);
}
