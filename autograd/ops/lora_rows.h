/* lora_linear with a small F32 weight: a few rows go through all products before the next ones, so
 * that they stay in the cache of their thread. Where W is large it is W that should stay there, and
 * each product goes over all rows (lora_linear.c). */
#ifndef LOQUAT_LORA_ROWS_H
#define LOQUAT_LORA_ROWS_H

#include "op.h"

#include <stdbool.h>

/* Of a node: what is multiplied, and where the results go. scale is the adapter's. */
typedef struct lq_lora_rows {
    const float *x, *w, *a, *b;   /* (N,D), (O,D), (R,D), (O,R) */
    int64_t N, D, O, R;
    float scale;
} lq_lora_rows;

bool lq_lora_rows_pay(int64_t N, int64_t D, int64_t O);

/* y (N,O) = x W^T + P B^T with P (N,R) = scale x A^T. */
void lq_lora_rows_forward(const lq_lora_rows *r, float *p, float *y);

/* From dy (N,O) and P, adding: dx (N,D; with beta 0 written), dA, dB; NULL: not wanted. scratch:
 * lq_lora_rows_scratch bytes. The same for any number of threads. */
typedef struct lq_lora_rows_grad {
    const float *dy, *p;
    float beta, *dx, *da, *db;
} lq_lora_rows_grad;

void lq_lora_rows_backward(const lq_lora_rows *r, const lq_lora_rows_grad *g, float *scratch);
size_t lq_lora_rows_scratch(int64_t N, int64_t D, int64_t O, int64_t R);

#endif
