/* What the ways to compute attention share: attention.c in general, attention_narrow.c for narrow
 * heads. */
#ifndef LOQUAT_ATTENTION_PARTS_H
#define LOQUAT_ATTENTION_PARTS_H

#include "ops.h"

enum { LQ_ATTENTION_QUERIES = 64, LQ_ATTENTION_KEYS = 256 }; /* a block of scores, at most */

/* What all blocks of a run share. */
typedef struct lq_attention_job {
    const lq_attention_attr *attr;
    const float *q, *k, *v;  /* q (N, H*d); k and v (rows, K*d), caches or this run's */
    const int32_t *starts;   /* (N) */
    int64_t n, past;         /* rows of q; the key row of q's row 0 */
    int64_t q_ld, kv_ld;
} lq_attention_job;

/* One query head's gradients. dk and dv are its key head's own or a partial (N,d). */
typedef struct lq_attention_grad {
    const float *out, *dout, *lse;  /* at head h; rows apart by q_ld, q_ld, n_head */
    float *dq, *dk, *dv;            /* NULL: not wanted */
    int64_t kv_ld;                  /* of dk and dv */
} lq_attention_grad;

/* First and one past the last key row that query row t sees. */
static inline int64_t key_begin(const lq_attention_job *j, int64_t t) {
    const int64_t window_begin = j->attr->window > 0 ? j->past + t - j->attr->window + 1 : 0;
    return lq_max64(j->starts[t], window_begin);
}

static inline int64_t key_end(const lq_attention_job *j, int64_t t) { return j->past + t + 1; }

/* Query head h's key head. */
static inline int64_t kv_head(const lq_attention_job *j, int64_t h) {
    return h / (j->attr->n_head / j->attr->n_head_kv);
}

/* Of m keys from row `key` on, those that query row t sees: [*begin, *end), possibly none. */
static inline void visible_keys(const lq_attention_job *j, int64_t t, int64_t key, int64_t m,
                                int64_t *begin, int64_t *end) {
    *begin = lq_min64(m, lq_max64(0, key_begin(j, t) - key));
    *end = lq_max64(*begin, lq_min64(m, key_end(j, t) - key));
}

/* Whether the functions below take this job. */
bool lq_attention_is_narrow(const lq_attention_attr *attr);
/* out rows [t, t + LQ_ATTENTION_QUERIES) of head h, and their log-sum-exp. */
void lq_attention_narrow_forward(const lq_attention_job *j, int64_t h, int64_t t, float *out,
                                 float *lse);
/* All rows of head h. */
void lq_attention_narrow_backward(const lq_attention_job *j, int64_t h, const lq_attention_grad *g);

#endif
