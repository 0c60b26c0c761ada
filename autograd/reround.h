/* K-quants between two searches: the scales of a block are kept, only its codes are rounded anew.
 * The search for good scales is what makes these formats slow; weights that moved by one training
 * step rarely want other scales. */
#ifndef LOQUAT_REROUND_H
#define LOQUAT_REROUND_H

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does fmt have scales worth keeping? */
bool lq_can_reround(const lq_format *fmt);
/* blocks: n elements quantized before. Their codes become those nearest to x. */
void lq_reround(const lq_format *fmt, const float *x, void *blocks, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
