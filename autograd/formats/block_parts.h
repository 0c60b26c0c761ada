/* What the quantizers of several block formats share. */
#ifndef LOQUAT_BLOCK_PARTS_H
#define LOQUAT_BLOCK_PARTS_H

#include "base.h"

float lq_absmax(const float *x, int n);      /* largest magnitude; 0 when n is 0 */
float lq_signed_max(const float *x, int n);  /* the first element of largest magnitude */

/* v rounded half to even, for |v| < 2^22; NaN gives 0. Beyond, what ggml's trick gives: the low bits
 * of v + 1.5 2^23. */
int lq_nearest_int(float v);

/* 1 / d, or 0 for 0. */
float lq_inverse(float d);

/* The codes 0, 1, 2 of the ternary formats: x * inverse rounded half away from zero, plus 1, for
 * |x * inverse| <= 1. Where the product is no number or infinite the code is 1. */
int lq_trit(float x, float inverse);

#endif
