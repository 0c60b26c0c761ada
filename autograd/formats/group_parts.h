/* What the formats with searched scales share: groups turned into columns for the kernels of
 * groups.h, and the codes a search found. */
#ifndef LOQUAT_GROUP_PARTS_H
#define LOQUAT_GROUP_PARTS_H

#include "groups.h"

#include <stdint.h>

enum { LQ_K_BLOCK = 256 };   /* elements of a super-block of the K formats */

/* Sum of squares in F32, in order. */
float lq_sum_squares(const float *x, int64_t n);

/* w = importance * sqrt(mean_square + x^2) */
void lq_importance(const float *x, const float *imatrix, int64_t n, float mean_square, float *w);

/* The columns of groups * size numbers, and of their weights. */
void lq_columns_fill(lq_columns *c, const float *x, const float *w, int groups, int size);

/* Each group's sum of weights, in order. */
void lq_columns_weight_sums(const lq_columns *c, float sums[LQ_GROUPS]);

/* The codes that the search found for group g, low..high as 0..; see lq_fit. */
void lq_fit_codes(const lq_fit *fit, int g, const float *x, int size, int low, int high,
                  uint8_t *codes);

#endif
