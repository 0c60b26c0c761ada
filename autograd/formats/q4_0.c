/* Q4_0: 32 codes of 4 bits and one F16 scale d; value = d * (code - 8). The plain rule is in
 * cpu/quant_ref.c. With importance weights the scale is searched instead: of 19 candidate grids the
 * one kept has the least weighted squared error at its own least-squares scale. */
#include "codec.h"
#include "format.h"
#include "quant.h"

#include <math.h>
#include <string.h>

enum { HALF_RANGE = 8 }; /* codes stand for -8..7 */

typedef struct fit {
    float sum_wxl, sum_wll; /* over the block: w x l and w l^2 */
} fit;

/* The codes -8..7 nearest to x * inverse, and how well they fit. Sums are F32, in order: the order
 * is part of the format's definition. */
static fit round_codes(const float *x, const float *weight, float inverse, int8_t *codes) {
    fit f = {0, 0};
    for (int i = 0; i < LQ_Q_BLOCK; i++) {
        const float nearest = rintf(inverse * x[i]);
        const float l = fminf(fmaxf(nearest, -HALF_RANGE), HALF_RANGE - 1);
        codes[i] = (int8_t)l;
        f.sum_wxl += weight[i] * x[i] * l;
        f.sum_wll += weight[i] * l * l;
    }
    return f;
}

static float signed_max(const float *x) {
    float best = 0;
    for (int i = 0; i < LQ_Q_BLOCK; i++)
        if (fabsf(x[i]) > fabsf(best)) best = x[i];
    return best;
}

static void search_block(const float *x, const float *weight, lq_q4_0_block *block) {
    memset(block, 0, sizeof *block);
    const float max = signed_max(x);
    if (fabsf(max) < 1e-15f) return;
    int8_t codes[LQ_Q_BLOCK], trial[LQ_Q_BLOCK];
    fit f = round_codes(x, weight, -HALF_RANGE / max, codes);
    float scale = f.sum_wll != 0 ? f.sum_wxl / f.sum_wll : 0;
    float best = scale * f.sum_wxl;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) continue;
        f = round_codes(x, weight, -(HALF_RANGE + 0.1f * (float)step) / max, trial);
        if (!(f.sum_wll > 0 && f.sum_wxl * f.sum_wxl > best * f.sum_wll)) continue;
        memcpy(codes, trial, sizeof codes);
        scale = f.sum_wxl / f.sum_wll;
        best = scale * f.sum_wxl;
    }
    block->d = lq_f16_from_f32(scale);
    for (int i = 0; i < LQ_Q_BLOCK / 2; i++)
        block->codes[i] = (uint8_t)((codes[i] + HALF_RANGE) |
                                    (codes[i + LQ_Q_BLOCK / 2] + HALF_RANGE) << 4);
}

/* One call is one row: an element's weight is importance * sqrt(mean square of the row + x^2). */
static void quant_weighted(const float *x, lq_q4_0_block *block, int64_t n, const float *imatrix) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    const float mean_square = sum / (float)n;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK) {
        float weight[LQ_Q_BLOCK];
        for (int j = 0; j < LQ_Q_BLOCK; j++)
            weight[j] = imatrix[i + j] * sqrtf(mean_square + x[i + j] * x[i + j]);
        search_block(x + i, weight, block + i / LQ_Q_BLOCK);
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
