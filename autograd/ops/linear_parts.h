/* What linear and lora_linear share: their first three inputs are x, W and an optional bias. */
#ifndef LOQUAT_LINEAR_PARTS_H
#define LOQUAT_LINEAR_PARTS_H

#include "op.h"

/* Checks x (N,D), W (O,D), bias (O); shapes out (N,O). `name`: the op, for messages. */
lq_status lq_linear_shape(lq_node *node, const char *name);

/* y (n,O) += bias, and dbias += column sums of dy (n,O); nothing when bias or its gradient is
 * absent. */
void lq_linear_bias(const lq_tensor *bias, float *y, int64_t n);
void lq_linear_bias_backward(const lq_tensor *bias, const float *dy, int64_t n);

#endif
