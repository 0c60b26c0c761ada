/* lq_exact_add_product (exact.h) per instruction set. */
#ifndef LOQUAT_EXACT_PRODUCT_H
#define LOQUAT_EXACT_PRODUCT_H

#include <math.h>
#include <stdint.h>

typedef void lq_exact_product(float *y, float scale, const float *b, const float *a, int64_t rows,
                              int64_t cols, int64_t rank);

lq_exact_product lq_exact_product_ref, lq_exact_product_avx2, lq_exact_product_avx512;

/* Columns from `from` on, one number at a time: what the order of the sums is. Each file that
 * includes this compiles fmaf for its own instruction set. */
static inline void exact_columns(float *y, float scale, const float *b, const float *a,
                                 int64_t rows, int64_t cols, int64_t rank, int64_t from) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = from; j < cols; j++) {
            float sum = 0;
            for (int64_t k = 0; k < rank; k++) sum = fmaf(b[i * rank + k], a[k * cols + j], sum);
            y[i * cols + j] = fmaf(scale, sum, y[i * cols + j]);
        }
}

#endif
