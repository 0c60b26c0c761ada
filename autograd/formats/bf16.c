/* BF16: the upper half of an F32, rounded to nearest even. */
#include "cpu.h"
#include "format.h"

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    uint16_t *half = out;
    for (int64_t i = 0; i < n; i++) half[i] = lq_bf16_from_f32(x[i]);
}

static void dequant(const void *in, float *out, int64_t n) {
    lq_cpu_kernels()->dequant_bf16(in, out, n);
}

const lq_format lq_bf16 = {"bf16", "BF16", 30, 32, 1, 2, quant, dequant};
