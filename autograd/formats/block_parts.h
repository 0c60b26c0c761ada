/* What the quantizers of several block formats share. */
#ifndef LOQUAT_BLOCK_PARTS_H
#define LOQUAT_BLOCK_PARTS_H

#include "base.h"

float lq_signed_max(const float *x, int n);  /* the first element of largest magnitude */

/* v rounded half to even, for |v| < 2^22; NaN gives 0. Beyond, what ggml's trick gives: the low
 * bits of v + 1.5 2^23. */
int lq_nearest_int(float v);

/* 1 / d, or 0 for 0. */
float lq_inverse(float d);

/* 1 / d; 0 where that is infinite: all codes are then those of 0. */
float lq_finite_inverse(float d);

/* Eight bytes of 0 or 1, bit i in the i-th lowest. */
uint64_t lq_spread_bits(uint8_t bits);

#endif
