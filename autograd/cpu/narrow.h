/* Attention with narrow heads, up to 16 numbers: a product whose sums are that short spends its
 * time packing and storing, so scores, exponentials and sums are made here in one pass, with keys
 * in the lanes of a vector. Only some instruction sets have it; see ops/attention.c. */
#ifndef LOQUAT_NARROW_H
#define LOQUAT_NARROW_H

#include <stdint.h>

enum { LQ_NARROW_HEAD = 16, LQ_NARROW_QUERIES = 64, LQ_NARROW_KEYS = 256 };

/* Keys or values of a block, transposed: [element][key], 0 beyond the head's elements and keys. */
typedef float lq_narrow_cols[LQ_NARROW_HEAD][LQ_NARROW_KEYS];

/* A block of scores: n queries against m keys, of which query i sees [begin[i], end[i]). */
typedef struct lq_narrow {
    int64_t n, m, head_dim;
    float scale;
    const float *q;                  /* rows q_ld apart */
    int64_t q_ld;
    const lq_narrow_cols *k, *v;
    int64_t begin[LQ_NARROW_QUERIES], end[LQ_NARROW_QUERIES];
} lq_narrow;

/* What backward needs besides and adds to; rows of dout and dq are q_ld apart. */
typedef struct lq_narrow_grad {
    const float *dout, *lse;         /* lse: lse_ld apart */
    int64_t lse_ld;
    const float *correction;         /* (n) dout . out */
    float *dq;                       /* or NULL */
    lq_narrow_cols *dk, *dv;
} lq_narrow_grad;

typedef struct lq_narrow_kernel {
    /* cols = rows (m, head_dim), ld apart, transposed */
    void (*gather)(lq_narrow_cols *cols, const float *rows, int64_t ld, int64_t m,
                   int64_t head_dim);
    /* rows += cols transposed */
    void (*scatter)(float *rows, int64_t ld, const lq_narrow_cols *cols, int64_t m,
                    int64_t head_dim);
    /* Online softmax: max and sum (n) are brought up to date, out (n rows, q_ld apart), which is
     * relative to max, rescaled and added to. */
    void (*forward)(const lq_narrow *block, float *max, double *sum, float *out);
    void (*backward)(const lq_narrow *block, const lq_narrow_grad *grad);
} lq_narrow_kernel;

#endif
