/* The products of lora_linear that go by rows: some rows of x and dy pass through all of them
 * before the next ones, so that they come from memory once. A small F32 weight takes part. Where W
 * is large it is W that should stay in the cache, and its products go over all rows
 * (lora_linear.c). */
#ifndef LOQUAT_LORA_ROWS_H
#define LOQUAT_LORA_ROWS_H

#include "op.h"

#include <stdbool.h>

/* Of a node: what is multiplied; x is the adapter's input, scale the adapter's. */
typedef struct lq_lora_rows {
    const float *x, *w, *a, *b;   /* (N,D), (O,D) or NULL: goes over all rows, (R,D), (O,R) */
    int64_t N, D, O, R;
    float scale;
} lq_lora_rows;

/* Whether a weight is small enough. */
bool lq_lora_rows_pay(int64_t N, int64_t D, int64_t O);

/* y (N,O) = x W^T + P B^T with P (N,R) = scale x A^T. */
void lq_lora_rows_forward(const lq_lora_rows *r, float *p, float *y);

/* From dy (N,O) and P: Q (N,R) = scale dy B, and adding, each unless it is NULL: dA += Q^T x,
 * dB += dy^T P, and if w goes by rows dx (N,D) = beta dx + dy W + Q A. */
typedef struct lq_lora_rows_grad {
    const float *dy, *p;
    float *q, *da, *db, *dx, beta;
} lq_lora_rows_grad;

/* scratch: lq_lora_rows_scratch bytes. */
void lq_lora_rows_backward(const lq_lora_rows *r, const lq_lora_rows_grad *g, float *scratch);
size_t lq_lora_rows_scratch(int64_t N, int64_t D, int64_t O, int64_t R);

#endif
