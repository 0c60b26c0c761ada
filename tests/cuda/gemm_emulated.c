/* lq_cuda_gemm in tests: plain loops, sums in double, rounded once to c's format. */
#include "emulate.h"
#include "cuda_gemm.h"

static float load(const void *p, const lq_format *fmt, int64_t i) {
    return fmt == &lq_bf16 ? lq_f32_from_bf16(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

static float element(lq_cuda_mat m, int64_t row, int64_t col) {
    return load(m.data, m.fmt, m.transposed ? col * m.ld + row : row * m.ld + col);
}

static void store(void *p, const lq_format *fmt, int64_t i, float x) {
    if (fmt == &lq_bf16) ((uint16_t *)p)[i] = lq_bf16_from_f32(x);
    else ((float *)p)[i] = x;
}

void lq_cuda_gemm(lq_dev *dev, void *c, const lq_format *c_fmt, int64_t ldc, float beta,
                  float alpha, lq_cuda_mat a, lq_cuda_mat b, int64_t m, int64_t n, int64_t k) {
    if (!dev->row->owns(dev, c) || !dev->row->owns(dev, a.data) || !dev->row->owns(dev, b.data))
        lq_emulated_die("a product's operand is not the device's memory");
    if (a.fmt != b.fmt) lq_emulated_die("a product of two formats");
    lq_emulated_memory_open();
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (double)element(a, i, l) * (double)element(b, l, j);
            const double before = beta == 0 ? 0 : (double)load(c, c_fmt, i * ldc + j);
            store(c, c_fmt, i * ldc + j, (float)((double)beta * before + (double)alpha * sum));
        }
    lq_emulated_memory_close();
}
