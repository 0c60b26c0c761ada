/* Q4_1: 32 codes of 4 bits, a scale d and a minimum; value = d * code + min. See block32.h. */
#include "block32.h"
#include "format.h"

static const lq_b32_affine kind = {15, LQ_B32 / 2, lq_b32_pack, lq_b32_unpack};

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    lq_b32_affine_quant(&kind, x, out, n, imatrix);
}

static void dequant(const void *in, float *out, int64_t n) {
    lq_b32_affine_dequant(&kind, in, out, n);
}

const lq_format lq_q4_1 = {
    "q4_1", "Q4_1", 3, 3, LQ_B32, LQ_B32_AFFINE_HEAD + LQ_B32 / 2, quant, dequant};
