/* The output heads that are fused with their loss: what ce_head and kd_head share. Rows with a
 * label are gathered, some hundreds at a time, and their logits made in parts, so that (N,V) never
 * exists. With a frozen head, forward finishes the job: dh of a loss of weight 1 is saved (N,D) and
 * the logits are made once. A trained head makes them again in backward, where
 * dW += dlogits^T h. */
#ifndef LOQUAT_HEAD_H
#define LOQUAT_HEAD_H

#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Inputs of every head; an op may have more. */
enum { LQ_HEAD_H, LQ_HEAD_W, LQ_HEAD_LABELS, LQ_HEAD_N_IN };
enum { LQ_HEAD_MAX_ROWS = 512, LQ_HEAD_PIECE = 1024 };

/* Rows with a label. */
typedef struct lq_head_rows {
    int64_t n;
    int64_t row[LQ_HEAD_MAX_ROWS];     /* where each came from */
    int32_t label[LQ_HEAD_MAX_ROWS];
} lq_head_rows;

/* The next ones from row *next on, up to `most`, which is at most LQ_HEAD_MAX_ROWS; false: none. */
bool lq_head_next_rows(lq_head_rows *rows, const lq_node *node, int64_t most, int64_t *next);
/* Copies those rows of h (N,D) to `to` (n,D). */
void lq_head_gather(const lq_head_rows *rows, const lq_tensor *h, float *to);
/* Those rows of a gradient (N,D) += dh (n,D). */
void lq_head_add(const lq_head_rows *rows, const float *dh, float *grad, int64_t D);

/* Checks h, W and labels; sets out (N,out_cols), and saved for a frozen head. name: the op's. */
lq_status lq_head_shape(lq_node *node, const char *name, int64_t out_cols);
bool lq_head_is_trained(const lq_node *node);
/* dh += dloss * what forward saved; dloss is column 0 of out's gradient. */
void lq_head_backward_frozen(const lq_node *node);

/* The next `bytes` of scratch; NULL scratch: only counts. */
void *lq_head_take(char *scratch, size_t *used, size_t bytes);

/* Sum of exp(logits - max), which go to `to`; it may be the logits, or NULL: nowhere. */
double lq_head_exp_sum(float *to, const float *logits, float max, int64_t n);
/* d(capped logit) / d(logit), given the capped one. */
static inline float lq_head_slope(float logit, float softcap) {
    return softcap > 0 ? 1 - logit / softcap * (logit / softcap) : 1;
}

#ifdef __cplusplus
}
#endif
#endif
