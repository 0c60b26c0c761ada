/* Which values a quantizer could not reach: their code is the last one, and they lie beyond it by
 * more than half a step. The clipped straight-through estimator lets no gradient through there. */
#ifndef LOQUAT_SATURATION_H
#define LOQUAT_SATURATION_H

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LQ_CLIP_BITS = 32 };   /* elements per word of a mask */

/* Is it known for fmt? Formats of single numbers clip nothing: true, and no mask is needed. */
bool lq_knows_saturation(const lq_format *fmt);
bool lq_can_saturate(const lq_format *fmt);
/* Bit i % 32 of mask[i / 32]: x[i] is clipped in `blocks`, its quantization. 32 divides n. */
void lq_saturation(const lq_format *fmt, const float *x, const void *blocks, int64_t n,
                   uint32_t *mask);

#ifdef __cplusplus
}
#endif
#endif
