/* Sums in a fixed order, rounded where said: the same bits on every machine and, in effective.h, on
 * every device. With them an effective weight that is built again elsewhere is the one that was
 * validated. */
#ifndef LOQUAT_EXACT_H
#define LOQUAT_EXACT_H

#include <stdint.h>

/* y (rows,cols) += scale b (rows,rank) a (rank,cols), each in rows without gaps. An element's sum
 * starts at 0 and takes the rank's products in order, each by a fused multiply-add; one more adds
 * scale times the sum. */
void lq_exact_add_product(float *y, float scale, const float *b, const float *a, int64_t rows,
                          int64_t cols, int64_t rank);

/* The length of x (n): the squares in double, number i added to sum i % 32, the 32 sums added by
 * halves. */
float lq_exact_length(const float *x, int64_t n);

#endif
