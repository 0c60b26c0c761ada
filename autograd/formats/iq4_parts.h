/* What IQ4_NL and IQ4_XS share: sixteen fixed values, closer together around zero, and the search
 * for a scale of 32 numbers. */
#ifndef LOQUAT_IQ4_PARTS_H
#define LOQUAT_IQ4_PARTS_H

#include "base.h"

enum { LQ_IQ4_BLOCK = 32 };

extern const int8_t lq_iq4_values[16];

/* Twice the mean square of n numbers: what importance is tempered with. */
float lq_iq4_sigma2(const float *x, int n);
/* The scale d for which d * values fits 32 numbers best; 0 if all are below 1e-15. Weights are
 * imatrix * sqrt(sigma2 + x^2), or x^2 without imatrix (NULL). */
float lq_iq4_scale(const float *x, const float *imatrix, float sigma2);
/* Element j's code in the low nibble of codes[j], element j + 16's in the high one; each the nearest
 * value to x * inverse, the larger one of a tie. */
void lq_iq4_pack(const float *x, float inverse, uint8_t codes[LQ_IQ4_BLOCK / 2]);
/* out = d * values. */
void lq_iq4_unpack(const uint8_t codes[LQ_IQ4_BLOCK / 2], float d, float *out);

#endif
