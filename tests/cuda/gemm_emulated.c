/* lq_cuda_gemm in tests: plain loops, sums in double, rounded once to c's format. */
#include "emulate.h"
#include "cuda_gemm.h"

#include <stdlib.h>

typedef struct product {
    void *c;
    const lq_format *c_fmt;
    float beta, alpha;
    lq_cuda_mat a, b;
    int64_t ldc, m, n, k;
} product;

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

static void multiply(void *ctx) {
    const product *const p = ctx;
    lq_emulated_memory_open();
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            const int64_t at = i * p->ldc + j;
            double sum = 0;
            for (int64_t l = 0; l < p->k; l++)
                sum += (double)element(p->a, i, l) * (double)element(p->b, l, j);
            const double before = p->beta == 0 ? 0 : (double)load(p->c, p->c_fmt, at);
            store(p->c, p->c_fmt, at, (float)((double)p->beta * before + (double)p->alpha * sum));
        }
    lq_emulated_memory_close();
    free(ctx);
}

void lq_cuda_gemm(lq_dev *dev, void *c, const lq_format *c_fmt, int64_t ldc, float beta,
                  float alpha, lq_cuda_mat a, lq_cuda_mat b, int64_t m, int64_t n, int64_t k) {
    if (!dev->row->owns(dev, c) || !dev->row->owns(dev, a.data) || !dev->row->owns(dev, b.data))
        lq_emulated_die("a product's operand is not the device's memory");
    if (a.fmt != b.fmt || (c_fmt != a.fmt && c_fmt != &lq_f32))
        lq_emulated_die("a product of formats that cuBLASLt has none of");
    if (m < 1 || n < 1 || k < 1 || a.ld < (a.transposed ? m : k) || b.ld < (b.transposed ? k : n) ||
        ldc < n)
        lq_emulated_die("a product whose rows overlap, or of nothing");
    product *const p = malloc(sizeof *p);
    if (p) *p = (product){c, c_fmt, beta, alpha, a, b, ldc, m, n, k};
    lq_emulated_queue(multiply, p);
}
