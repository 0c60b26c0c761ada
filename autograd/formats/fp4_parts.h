/* The 4-bit floating-point numbers (E2M1) of MXFP4 and NVFP4, doubled so that they are integers:
 * 0 1 2 3 4 6 8 12 and their negatives. */
#ifndef LOQUAT_FP4_PARTS_H
#define LOQUAT_FP4_PARTS_H

#include "base.h"

/* n codes (even) of the numbers nearest to x / d, the lower code of a tie: element j's in the low
 * nibble of codes[j], element j + n/2's in the high one. */
void lq_fp4_pack(const float *x, float d, uint8_t *codes, int n);
/* out = d * numbers */
void lq_fp4_unpack(const uint8_t *codes, float d, float *out, int n);

#endif
