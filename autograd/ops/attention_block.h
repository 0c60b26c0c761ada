/* attention's blocks on the CPU: queries of a head against some keys. */
#ifndef LOQUAT_ATTENTION_BLOCK_H
#define LOQUAT_ATTENTION_BLOCK_H

#include "cpu.h"
#include "narrow.h"
#include "ops.h"

/* A block of scores is 63 KiB, on the stack; as many keys as whole tiles of a product. */
enum { LQ_ATTN_QUERIES = LQ_SCORE_QUERIES, LQ_ATTN_KEYS = 252 };

/* What all blocks of a run share. */
typedef struct lq_attn_job {
    const lq_attention_attr *attr;
    const float *q, *k, *v;  /* q (N, H*d); k and v (rows, K*d), caches or this run's */
    const int32_t *starts;   /* (N) */
    int64_t n, past;         /* rows of q; the key row of q's row 0 */
    int64_t q_ld, kv_ld;
    const lq_narrow_kernel *narrow;   /* NULL: none for these heads */
    int64_t block_keys;               /* at most, of a block of scores */
} lq_attn_job;

/* First and one past the last key row that query row t sees. */
static inline int64_t lq_attn_key_begin(const lq_attn_job *j, int64_t t) {
    const int64_t window_begin = j->attr->window > 0 ? j->past + t - j->attr->window + 1 : 0;
    return lq_max64(j->starts[t], window_begin);
}

static inline int64_t lq_attn_key_end(const lq_attn_job *j, int64_t t) { return j->past + t + 1; }

/* Queries [t, t + n) of head h against keys [key, key + m). */
typedef struct lq_attn_block {
    const float *q, *k, *v;  /* at head h, rows t and key */
    int64_t t, n, key, m;
    float slope;             /* ALiBi's; 0: none */
} lq_attn_block;

lq_attn_block lq_attn_make_block(const lq_attn_job *j, int64_t h, int64_t t, int64_t n,
                                 int64_t key, int64_t key_stop);

/* Running maximum and sum of a block of queries; what the last block of keys shrank them by. */
typedef struct lq_attn_softmax {
    float max[LQ_ATTN_QUERIES], sum[LQ_ATTN_QUERIES], shrink[LQ_ATTN_QUERIES];
} lq_attn_softmax;

/* out, its maximum and sum take in a block of keys. */
void lq_attn_add_block(const lq_attn_job *j, const lq_attn_block *b, lq_attn_softmax *state,
                       float *out);

/* A task's gradients: of one key head and a range of queries. dk and dv are its partial sums, rows
 * d apart. */
typedef struct lq_attn_grads {
    const float *out, *dout, *lse;   /* of all heads */
    float *dq, *dk, *dv;             /* NULL: not wanted */
    bool fresh_dq;                   /* dq holds nothing yet */
} lq_attn_grads;

/* Adds what a block of head h gives. lse, correction (n): the queries' L and dout . out. */
void lq_attn_block_backward(const lq_attn_job *j, int64_t h, const lq_attn_block *b,
                            const lq_attn_grads *g, const float *lse, const float *correction);

#endif
