/* The exact product in plain C: without a machine's own fused multiply-add fmaf is slow, never
 * different. */
#include "exact_product.h"

#include <math.h>

void lq_exact_product_ref(float *y, float scale, const float *b, const float *a, int64_t rows,
                          int64_t cols, int64_t rank) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float sum = 0;
            for (int64_t k = 0; k < rank; k++) sum = fmaf(b[i * rank + k], a[k * cols + j], sum);
            y[i * cols + j] = fmaf(scale, sum, y[i * cols + j]);
        }
}
