#include "exact.h"

#include "cpu.h"
#include "exact_product.h"

#include <math.h>

static lq_exact_product *const by_level[LQ_LEVELS] = {
    [LQ_LEVEL_REF] = lq_exact_product_ref,
    [LQ_LEVEL_AVX2] = lq_exact_product_avx2,
    [LQ_LEVEL_AVX512] = lq_exact_product_avx512,
};

void lq_exact_add_product(float *y, float scale, const float *b, const float *a, int64_t rows,
                          int64_t cols, int64_t rank) {
    by_level[lq_cpu_kernels()->level](y, scale, b, a, rows, cols, rank);
}

float lq_exact_length(const float *x, int64_t n) {
    enum { SUMS = 32 };
    double sum[SUMS] = {0};
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int j = 0; j < SUMS; j++) sum[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < n; j++) sum[j] += (double)x[i + j] * (double)x[i + j];
    for (int half = SUMS / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    return (float)sqrt(sum[0]);
}
