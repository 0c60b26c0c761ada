/* Attention with narrow heads, up to 16 numbers: a product whose sums are that short spends its
 * time loading and storing, so scores, exponentials and sums are made here in one pass, with
 * queries in the lanes of a vector. Only some instruction sets have it; see ops/attention.c. */
#ifndef LOQUAT_NARROW_H
#define LOQUAT_NARROW_H

#include "cpu.h"

enum { LQ_NARROW_HEAD = 16, LQ_NARROW_KEYS = 256 };

/* Queries against keys, at most LQ_NARROW_KEYS. Of the arrays head_dim numbers a row are used. */
typedef struct lq_narrow {
    const lq_scores *scores;   /* how many there are and what they see; it keeps no scores */
    int64_t head_dim;
    float scale;
    const float *q, *k, *v;
    int64_t q_ld, kv_ld;
} lq_narrow;

/* What backward needs besides and adds to; rows of dout and dq are q_ld apart, of dk and dv
 * head_dim. NULL: not wanted. */
typedef struct lq_narrow_grad {
    const float *dout, *lse, *correction;   /* lse (n); correction (n): dout . out */
    float *dq, *dk, *dv;
} lq_narrow_grad;

typedef struct lq_narrow_kernel {
    /* Online softmax: max and sum (n) are brought up to date, out (n rows, q_ld apart), which is
     * relative to max, rescaled and added to. */
    void (*forward)(const lq_narrow *block, float *max, float *sum, float *out);
    void (*backward)(const lq_narrow *block, const lq_narrow_grad *grad);
} lq_narrow_kernel;

#endif
