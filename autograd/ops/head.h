/* The output heads that are fused with their loss: what ce_head and kd_head share. Rows with a
 * label are gathered into chunks; of each chunk the logits (C,V) are made, and the op's `row` turns
 * each row of them into a loss and, where wanted, into the gradient dlogits, in place. (N,V) never
 * exists. With a frozen head, forward finishes the job: dh = dlogits W is saved (N,D) and the
 * logits are made once. A trained head makes them again in backward, where dW += dlogits^T h. */
#ifndef LOQUAT_HEAD_H
#define LOQUAT_HEAD_H

#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Inputs of every head; an op may have more. */
enum { LQ_HEAD_H, LQ_HEAD_W, LQ_HEAD_LABELS, LQ_HEAD_N_IN };
enum { LQ_HEAD_MAX_ROWS = 512, LQ_HEAD_MAX_SIDES = 2, LQ_HEAD_PIECE = 1024 };

/* Logits are made for the model's side and perhaps for a teacher's. */
typedef struct lq_head_side {
    const lq_tensor *h, *w;   /* (N,D), (V,D); h NULL: nothing is made, the op only has room */
    int64_t cols;             /* of logits: V, or the room per row */
    float softcap;            /* 0: none */
    void *tile;               /* these three lie in scratch: a tile of w, */
    float *rows;              /* the gathered rows of h (C,D), */
    float *logits;            /* and (C,cols) */
} lq_head_side;

typedef struct lq_head_chunk {
    lq_head_side side[LQ_HEAD_MAX_SIDES];   /* side 0: the model's */
    int n_sides;
    float *dh;                              /* (C,D) */
    int64_t capacity, n;
    int64_t row[LQ_HEAD_MAX_ROWS];          /* where each row came from */
    int32_t label[LQ_HEAD_MAX_ROWS];
} lq_head_chunk;

/* What makes one head different from another. */
typedef struct lq_head {
    const char *name;
    int64_t out_cols;
    /* Fills in h, w, cols and softcap of each side; returns how many there are. */
    int (*sides)(const lq_node *node, lq_head_side side[LQ_HEAD_MAX_SIDES]);
    /* Row i of the chunk: its out_cols numbers into out, unless that is NULL; with a factor, its
     * logits become factor * dlogits. */
    void (*row)(const lq_node *node, const lq_head_chunk *c, int64_t i, float *out,
                const float *factor);
} lq_head;

/* What the op's functions of the same names do. */
lq_status lq_head_shape(const lq_head *head, lq_node *node);
size_t lq_head_scratch(const lq_head *head, const lq_node *node, bool backward);
void lq_head_forward(const lq_head *head, const lq_node *node, const lq_run *run);
void lq_head_backward(const lq_head *head, const lq_node *node, const lq_run *run);
bool lq_head_is_trained(const lq_node *node);

/* ---- for `row` ---- */
/* No other logit is higher, and none before it is as high. */
bool lq_head_is_top(const float *logits, int32_t label, float max);
/* Sum of exp(logits - max), which go to `to`; it may be the logits, or NULL: nowhere. */
double lq_head_exp_sum(float *to, const float *logits, float max, int64_t V);
/* d(capped logit) / d(logit), given the capped one. */
static inline float lq_head_slope(float logit, float softcap) {
    return softcap > 0 ? 1 - logit / softcap * (logit / softcap) : 1;
}

#ifdef __cplusplus
}
#endif
#endif
