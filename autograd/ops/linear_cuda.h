/* What linear, lora_linear and scaled_linear share on CUDA; type is the format of activations. */
#ifndef LOQUAT_LINEAR_CUDA_H
#define LOQUAT_LINEAR_CUDA_H

#include "cuda_wtile.h"
#include "op.h"

/* y (n,O) += bias; nothing when there is none. */
void lq_cuda_bias(lq_dev *dev, const lq_tensor *bias, const lq_format *type, void *y, int64_t n);
/* dbias += column sums of dy (n,O), rows in order; nothing when there is no gradient. */
void lq_cuda_bias_backward(lq_dev *dev, const lq_tensor *bias, const lq_format *type,
                           const void *dy, int64_t n);

#endif
