/* Q4_0: 32 codes of 4 bits and one F16 scale d; value = d * (code - 8). The plain rule is in
 * cpu/quant_ref.c. With importance weights the scale is searched instead: of 19 candidate grids the
 * one kept has the least weighted squared error at its own least-squares scale. */
#include "block32.h"
#include "codec.h"
#include "format.h"
#include "quant.h"

enum { HALF_RANGE = 8 }; /* codes stand for -8..7 */

/* One call is one row: its mean square tempers the importance. */
static void quant_weighted(const float *x, lq_q4_0_block *b, int64_t n, const float *imatrix) {
    const float mean_square = lq_sum_squares(x, n) / (float)n;
    lq_b32_batch batch;
    for (int64_t i = 0; i < n; i += batch.blocks * LQ_B32) {
        lq_b32_fit_signed(x + i, imatrix + i, n - i, mean_square, HALF_RANGE, &batch);
        for (int k = 0; k < batch.blocks; k++, b++) {
            b->d = lq_f16_from_f32(batch.fit.scale[k]);
            lq_b32_pack(batch.codes[k], b->codes);
        }
    }
}

static const lq_codec codecs[LQ_LEVELS] = {
    [LQ_LEVEL_REF] = {lq_quant_q4_0_ref, lq_dequant_q4_0_ref},
    [LQ_LEVEL_AVX2] = {lq_quant_q4_0_avx2, lq_dequant_q4_0_avx2},
    [LQ_LEVEL_AVX512] = {lq_quant_q4_0_avx512, lq_dequant_q4_0_avx512},
};

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    if (imatrix)
        quant_weighted(x, out, n, imatrix);
    else
        lq_codec_quant(codecs, x, out, n);
}

static void dequant(const void *in, float *out, int64_t n) {
    lq_codec_dequant(codecs, in, out, n);
}

const lq_format lq_q4_0 = {"q4_0", "Q4_0", 2, 2, LQ_Q_BLOCK, sizeof(lq_q4_0_block), quant, dequant};
