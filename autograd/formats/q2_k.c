/* Q2_K: 256 codes of 2 bits in sixteen groups, each with a 4-bit scale and a 4-bit minimum; value =
 * d * scale * code - dmin * minimum. */
#include "format.h"
#include "kquant_parts.h"
#include "scales_scalar.h"

enum { TOP = 3, SCALE_TOP = 15 };

typedef struct block {
    uint8_t scales[LQ_GROUPS];       /* low nibble: scale; high nibble: minimum */
    uint8_t codes[LQ_K_BLOCK / 4];
    uint16_t d, dmin;                /* F16 */
} block;

static void scales_of(const block *b, float d[LQ_GROUPS], float m[LQ_GROUPS]) {
    const float scale = lq_f32_from_f16(b->d), min = lq_f32_from_f16(b->dmin);
    for (int g = 0; g < LQ_GROUPS; g++) {
        d[g] = scale * (float)(b->scales[g] & 15);
        m[g] = min * (float)(b->scales[g] >> 4);
    }
}

static void store_scales(const lq_fit *fit, const float *weight, block *b) {
    uint8_t scale[LQ_GROUPS], min[LQ_GROUPS];
    b->d = lq_f16_from_f32(code_scales(fit->scale, weight, LQ_GROUPS, SCALE_TOP, scale));
    b->dmin = lq_f16_from_f32(code_scales(fit->min, weight, LQ_GROUPS, SCALE_TOP, min));
    for (int g = 0; g < LQ_GROUPS; g++) b->scales[g] = (uint8_t)(scale[g] | min[g] << 4);
}

static void quant_block(const float *x, const float *imatrix, block *b) {
    static const lq_affine_rule plain = {TOP, -0.5f, 0.1f, 15, .absolute = 1};
    static const lq_affine_rule weighted = {TOP, -0.9f, 0.05f, 36, .absolute = 0};
    float w[LQ_K_BLOCK], sums[LQ_GROUPS], d[LQ_GROUPS], m[LQ_GROUPS];
    if (imatrix)
        lq_importance(x, imatrix, LQ_K_BLOCK, lq_sum_squares(x, LQ_K_BLOCK) / LQ_K_BLOCK, w);
    else
        for (int i = 0; i < LQ_K_BLOCK; i++) w[i] = fabsf(x[i]);
    lq_columns c;
    lq_fit fit;
    lq_columns_fill(&c, x, w, LQ_GROUPS, LQ_K16_SIZE);
    lq_columns_weight_sums(&c, sums);
    lq_groups()->fit_affine(&c, imatrix ? &weighted : &plain, &fit);
    store_scales(&fit, imatrix ? sums : NULL, b);
    scales_of(b, d, m);
    uint8_t codes[LQ_K_BLOCK];
    for (int g = 0; g < LQ_GROUPS; g++)
        if (d[g] == 0)
            lq_fit_codes(&fit, g, x + g * LQ_K16_SIZE, LQ_K16_SIZE, 0, TOP,
                         codes + g * LQ_K16_SIZE);
    lq_k_round(x, d, m, 0, TOP, codes);
    lq_k_pack2(codes, b->codes);
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    block *b = out;
    for (int64_t i = 0; i < n; i += LQ_K_BLOCK)
        quant_block(x + i, imatrix ? imatrix + i : NULL, b++);
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_K_BLOCK, b++) {
        float d[LQ_GROUPS], m[LQ_GROUPS];
        uint8_t codes[LQ_K_BLOCK];
        scales_of(b, d, m);
        lq_k_unpack2(b->codes, codes);
        lq_groups()->expand(codes, LQ_GROUPS, LQ_K16_SIZE, 0, d, m, out + i);
    }
}

const lq_format lq_q2_k = {"q2_K", "Q2_K", 10, 10, LQ_K_BLOCK, sizeof(block), quant, dequant};
