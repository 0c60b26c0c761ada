/* What the quantizers of several block formats share. */
#ifndef LOQUAT_BLOCK_PARTS_H
#define LOQUAT_BLOCK_PARTS_H

#include "base.h"

float lq_absmax(const float *x, int n);      /* largest magnitude; 0 when n is 0 */
float lq_signed_max(const float *x, int n);  /* the first element of largest magnitude */

/* v rounded half to even, for |v| < 2^22; NaN gives 0. Beyond, what ggml's trick gives: the low
 * bits of v + 1.5 2^23. */
int lq_nearest_int(float v);

/* 1 / d, or 0 for 0. */
float lq_inverse(float d);

/* The codes 0, 1, 2 of the ternary formats: v rounded half away from zero, plus 1, for |v| <= 1. */
static inline int lq_trit(float v) { return 1 + (v >= 0.5f) - (v <= -0.5f); }

/* 1 / d; 0 where that is infinite: all codes are then those of 0. */
float lq_finite_inverse(float d);

#endif
