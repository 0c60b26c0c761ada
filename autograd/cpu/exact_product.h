/* lq_exact_add_product (exact.h) per instruction set. */
#ifndef LOQUAT_EXACT_PRODUCT_H
#define LOQUAT_EXACT_PRODUCT_H

#include <stdint.h>

typedef void lq_exact_product(float *y, float scale, const float *b, const float *a, int64_t rows,
                              int64_t cols, int64_t rank);

lq_exact_product lq_exact_product_ref, lq_exact_product_avx2, lq_exact_product_avx512;

#endif
