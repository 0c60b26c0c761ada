/* The exact product with AVX-512. */
#include "lanes_avx512.h"

#include "exact_lanes.h"

void lq_exact_product_avx512(float *y, float scale, const float *b, const float *a, int64_t rows,
                              int64_t cols, int64_t rank) {
    exact_product(y, scale, b, a, rows, cols, rank);
}
