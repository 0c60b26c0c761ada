/* A row of kd_head on the CPU. p is the teacher's and q the model's distribution, both softened by
 * the temperature T; of a teacher known by its top k tokens all other tokens together are one
 * bucket, for q too. With r = log(p/q) of a token's bucket:
 *   forward   KL = sum p r,    dKL/dlogit_v = (q_v - p_v) / T, p of the bucket shared out as q is
 *   reverse   KL = -sum q r,   dKL/dlogit_v = -q_v (r_v + KL) / T
 *   loss = (1 - alpha) nll + alpha T^2 KL */
#ifndef LOQUAT_KD_ROW_H
#define LOQUAT_KD_ROW_H

#include "ops.h"

typedef struct lq_kd_row {
    float *logits;            /* (V), capped */
    int64_t V;
    int32_t label;
    const float *teacher;     /* (V), capped; of a teacher known in full */
    int64_t top_k;            /* 0: it is */
    const int32_t *top_id;    /* (top_k) */
    const float *top_log_p;   /* (top_k+1): of the tokens, then of all others together */
    float *top_room;          /* (top_k) to work in */
} lq_kd_row;

/* The row's LQ_KD_COLS numbers into out, unless that is NULL; with a factor, its logits become
 * factor * dlogits. */
void lq_kd_take_row(const lq_kd_head_attr *attr, const lq_kd_row *row, float *out,
                    const float *factor);

#endif
