/* Q8_0: 32 codes of 8 bits and one F16 scale d; value = d * code. The rule is in cpu/quant_ref.c.
 * An importance matrix does not change it. */
#include "cpu.h"
#include "format.h"
#include "quant.h"

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    lq_cpu_kernels()->quant_q8_0(x, out, n);
}

static void dequant(const void *in, float *out, int64_t n) {
    lq_cpu_kernels()->dequant_q8_0(in, out, n);
}

const lq_format lq_q8_0 = {"q8_0", "Q8_0", 8, 7, LQ_Q_BLOCK, sizeof(lq_q8_0_block), quant, dequant};
