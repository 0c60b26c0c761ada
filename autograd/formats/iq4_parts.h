/* What IQ4_NL and IQ4_XS share: the search for the scale of 32 numbers. */
#ifndef LOQUAT_IQ4_PARTS_H
#define LOQUAT_IQ4_PARTS_H

#include "base.h"
#include "nibbles.h"

/* Twice the mean square of n numbers: what importance is tempered with. */
float lq_iq4_sigma2(const float *x, int n);
/* The scale d for which d * lq_iq4_values fits 32 numbers best; 0 if all are below 1e-15. Weights
 * are imatrix * sqrt(sigma2 + x^2), or x^2 without imatrix (NULL). */
float lq_iq4_scale(const float *x, const float *imatrix, float sigma2);

#endif
