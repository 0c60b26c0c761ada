/* DoRA's part of a lora_linear (arXiv 2402.09353): row o of the weight is V_o = W_o + s (B A)_o
 * brought to the trained length m_o. What is constant in the gradient is the norm ||V_o||, which
 * whoever holds the parameters computes. */
#ifndef LOQUAT_MAGNITUDE_H
#define LOQUAT_MAGNITUDE_H

#include "op.h"

typedef struct lq_magnitude { const lq_tensor *m, *norm; } lq_magnitude;   /* (O), (O) F32 */

/* m / norm of row o; 0 of a row without direction. */
float lq_magnitude_factor(const lq_magnitude *g, int64_t o);
/* out (n,O) = x (n,O) with column o times its factor; out may be x. */
void lq_magnitude_scale(float *out, const lq_magnitude *g, const float *x, int64_t n);
/* dm_o += sum over rows of dy_o (y_o - bias_o) / m_o: y without the bias is proportional to m, also
 * when the weight was rounded after its scaling, by any rounding whose scales follow its input. */
void lq_magnitude_backward(const lq_magnitude *g, const lq_tensor *bias, const float *y,
                           const float *dy, int64_t n);

#endif
