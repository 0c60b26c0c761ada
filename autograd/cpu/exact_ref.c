/* The exact product in plain C: without a machine's own fused multiply-add fmaf is slow, never
 * different. */
#include "exact_product.h"

void lq_exact_product_ref(float *y, float scale, const float *b, const float *a, int64_t rows,
                          int64_t cols, int64_t rank) {
    exact_columns(y, scale, b, a, rows, cols, rank, 0);
}
