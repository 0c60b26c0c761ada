/* "Give me rows [o, o+n) of a weight as F32": the seam between number formats and products.
 * A product never asks how its weight is stored. */
#ifndef LOQUAT_WTILE_H
#define LOQUAT_WTILE_H

#include "gemm.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows [o, o+n) of w (O,D): w's own memory if it is F32, else dequantized into scratch (n*D
 * floats). */
const float *lq_wtile_rows(const lq_tensor *w, int64_t o, int64_t n, float *scratch);

/* Rows per tile such that a tile of D columns stays in the L2 cache. */
int64_t lq_wtile_height(const lq_tensor *w);

/* Products with a weight in any format; x, y contiguous F32; threads over tiles.
 * y (N,O) = x (N,D) W^T. scratch: lq_wtile_scratch(w) bytes. */
void lq_wtile_forward(const lq_tensor *w, const float *x, float *y, int64_t n, void *scratch);
/* dx (N,D) = beta dx + dy (N,O) W. beta: 0 (dx need not be set) or 1. */
void lq_wtile_backward(const lq_tensor *w, const float *dy, float beta, float *dx, int64_t n,
                       void *scratch);
size_t lq_wtile_scratch(const lq_tensor *w);

/* The same and besides a product beside it, as gemm.h says, or NULL:
 * y = x W^T + side (N,O); dx = beta dx + dy W + side (N,D). */
void lq_wtile_forward_sum(const lq_tensor *w, const lq_gemm_term *side, const float *x, float *y,
                          int64_t n, void *scratch);
void lq_wtile_backward_sum(const lq_tensor *w, const lq_gemm_term *side, const float *dy,
                           float beta, float *dx, int64_t n, void *scratch);

#ifdef __cplusplus
}
#endif
#endif
