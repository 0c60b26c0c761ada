/* The F16 scale d of blocks whose values are d * code: Q4_0 and Q8_0. */
#ifndef LOQUAT_BLOCK_SCALES_H
#define LOQUAT_BLOCK_SCALES_H

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

bool lq_has_block_scales(const lq_format *fmt);
void lq_block_scales_get(const lq_format *fmt, const void *blocks, float *d, int64_t n_blocks);
/* Rounds to F16. */
void lq_block_scales_set(const lq_format *fmt, void *blocks, const float *d, int64_t n_blocks);
/* The codes as numbers: n elements, what the blocks would be with every scale 1. */
void lq_block_codes(const lq_format *fmt, const void *blocks, float *codes, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
