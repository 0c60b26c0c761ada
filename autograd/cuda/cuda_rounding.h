/* What rounding.h does, on CUDA. */
#ifndef LOQUAT_CUDA_ROUNDING_H
#define LOQUAT_CUDA_ROUNDING_H

#include "device.h"
#include "rounding.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = x (n) rounded; both of type, lq_f32 or lq_bf16; n is a multiple of how->block. scratch:
 * lq_cuda_rounding_scratch bytes, 64-byte aligned. */
void lq_cuda_round(lq_dev *dev, const lq_rounding *how, const lq_format *type, const void *x,
                   void *y, int64_t n, void *scratch);
size_t lq_cuda_rounding_scratch(const lq_rounding *how, const lq_format *type, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
