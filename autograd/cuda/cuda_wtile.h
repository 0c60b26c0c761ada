/* wtile.h's seam on CUDA: products with a weight in any format, on the device's queue. What products
 * multiply is in the activation format `type` (F32 or BF16); a weight in another is dequantized into
 * scratch, a tile of rows at a time. */
#ifndef LOQUAT_CUDA_WTILE_H
#define LOQUAT_CUDA_WTILE_H

#include "cuda_gemm.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

size_t lq_cuda_wtile_scratch(const lq_tensor *w, const lq_format *type);
lq_status lq_cuda_wtile_accepts(const lq_tensor *w);   /* LQ_EUNSUPPORTED: no kernels for its format */
/* Rows of w's tiles: all where it is stored as `type`. */
int64_t lq_cuda_wtile_step(const lq_tensor *w, const lq_format *type);
/* Rows [o, o+n) of w (O,D), as stored. scratch: lq_cuda_wtile_scratch bytes for n <= step. */
lq_cuda_mat lq_cuda_wtile_rows(lq_dev *dev, const lq_tensor *w, const lq_format *type, int64_t o,
                               int64_t n, void *scratch);
/* y (n,O) = beta y + x (n,D) W^T; x and y of type. */
void lq_cuda_wtile_forward(lq_dev *dev, const lq_tensor *w, const lq_format *type, const void *x,
                           void *y, float beta, int64_t n, void *scratch);
/* dx (n,D) += dy (n,O) W. */
void lq_cuda_wtile_backward(lq_dev *dev, const lq_tensor *w, const lq_format *type, const void *dy,
                            void *dx, int64_t n, void *scratch);
/* A parameter's (or F32 weight's) values as an operand of this type. */
lq_cuda_mat lq_cuda_operand(const lq_tensor *t, const lq_format *type, bool transposed);

#ifdef __cplusplus
}
#endif
#endif
