/* Q8_0: 32 codes of 8 bits and one F16 scale d; value = d * code. The rule is in cpu/quant_ref.c.
 * An importance matrix does not change it. */
#include "codec.h"
#include "format.h"
#include "quant.h"

static const lq_codec codecs[LQ_LEVELS] = {
    [LQ_LEVEL_REF] = {lq_quant_q8_0_ref, lq_dequant_q8_0_ref},
    [LQ_LEVEL_AVX2] = {lq_quant_q8_0_avx2, lq_dequant_q8_0_avx2},
    [LQ_LEVEL_AVX512] = {lq_quant_q8_0_avx512, lq_dequant_q8_0_avx512},
};

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    lq_codec_quant(codecs, x, out, n);
}

static void dequant(const void *in, float *out, int64_t n) {
    lq_codec_dequant(codecs, in, out, n);
}

const lq_format lq_q8_0 = {"q8_0", "Q8_0", 8, 7, LQ_Q_BLOCK, sizeof(lq_q8_0_block), quant, dequant};
