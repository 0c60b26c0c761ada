/* F16: IEEE half precision, rounded to nearest even. */
#include "codec.h"
#include "format.h"
#include "quant.h"

static void quant_plain(const float *x, void *out, int64_t n) {
    uint16_t *half = out;
    for (int64_t i = 0; i < n; i++) half[i] = lq_f16_from_f32(x[i]);
}

static const lq_codec codecs[LQ_LEVELS] = {
    [LQ_LEVEL_REF] = {quant_plain, lq_dequant_f16_ref},
    [LQ_LEVEL_AVX2] = {NULL, lq_dequant_f16_avx2},
    [LQ_LEVEL_AVX512] = {NULL, lq_dequant_f16_avx512},
};

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    lq_codec_quant(codecs, x, out, n);
}

static void dequant(const void *in, float *out, int64_t n) {
    lq_codec_dequant(codecs, in, out, n);
}

const lq_format lq_f16 = {"f16", "F16", 1, 1, 1, 2, quant, dequant};
