/* Q3_K: 256 codes of 3 bits in sixteen groups, each with a 6-bit scale; value =
 * d * (scale - 32) * (code - 4). */
#include "format.h"
#include "kquant_parts.h"
#include "scales_scalar.h"

enum { HALF_RANGE = 4, SCALE_HALF = 32 };

typedef struct block {
    uint8_t high[LQ_K_BLOCK / 8];    /* bit i / 32 of byte i % 32: the third bit of element i */
    uint8_t codes[LQ_K_BLOCK / 4];
    uint8_t scales[12];
    uint16_t d;                      /* F16 */
} block;

static void scales_of(const block *b, float d[LQ_GROUPS]) {
    const float scale = lq_f32_from_f16(b->d);
    for (int g = 0; g < LQ_GROUPS; g++) d[g] = scale * (float)q3_scale(b->scales, g);
}

static void pack(const uint8_t codes[LQ_K_BLOCK], block *b) {
    lq_k_pack2(codes, b->codes);
    memset(b->high, 0, sizeof b->high);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) b->high[i] |= (uint8_t)(codes[32 * k + i] >> 2 << k);
}

static void unpack(const block *b, uint8_t codes[LQ_K_BLOCK]) {
    lq_k_unpack2(b->codes, codes);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) codes[32 * k + i] |= (uint8_t)((b->high[i] >> k & 1) << 2);
}

static void plain_scales(const float x[LQ_GROUPS], block *b) {
    uint8_t codes[LQ_GROUPS];
    const float d = code_q3_scales(x, codes);
    memset(b->scales, 0, sizeof b->scales);
    if (d != 0) pack_q3_scales(codes, b->scales);
    b->d = lq_f16_from_f32(d);
}

static void fit_plain(const float *x, uint8_t codes[LQ_K_BLOCK], block *b) {
    lq_columns c;
    lq_fit fit;
    float found[LQ_K_BLOCK];
    lq_columns_fill(&c, x, x, LQ_GROUPS, LQ_K16_SIZE);
    lq_groups()->fit_sweeping(&c, HALF_RANGE, &fit, found);
    for (int i = 0; i < LQ_K16_SIZE; i++)
        for (int g = 0; g < LQ_GROUPS; g++)
            codes[g * LQ_K16_SIZE + i] = (uint8_t)found[i * LQ_GROUPS + g];
    plain_scales(fit.scale, b);
}

/* The scales of the groups are searched as the groups are, weighted by the groups' weights. */
static void weighted_scales(const float scale[LQ_GROUPS], const float weight[LQ_GROUPS], block *b) {
    lq_columns c;
    lq_fit fit;
    uint8_t codes[LQ_GROUPS];
    lq_columns_fill(&c, scale, weight, 1, LQ_GROUPS);
    lq_groups()->fit_signed(&c, SCALE_HALF, &fit);
    lq_fit_codes(&fit, 0, scale, LQ_GROUPS, -SCALE_HALF, SCALE_HALF - 1, codes);
    pack_q3_scales(codes, b->scales);
    b->d = lq_f16_from_f32(fit.scale[0]);
}

static void fit_weighted(const float *x, const float *imatrix, uint8_t codes[LQ_K_BLOCK],
                         block *b) {
    float w[LQ_K_BLOCK], sums[LQ_GROUPS];
    lq_columns c;
    lq_fit fit;
    lq_importance(x, imatrix, LQ_K_BLOCK, 2 * lq_sum_squares(x, LQ_K_BLOCK) / LQ_K_BLOCK, w);
    lq_columns_fill(&c, x, w, LQ_GROUPS, LQ_K16_SIZE);
    lq_columns_weight_sums(&c, sums);
    lq_groups()->fit_signed(&c, HALF_RANGE, &fit);
    for (int g = 0; g < LQ_GROUPS; g++)
        lq_fit_codes(&fit, g, x + g * LQ_K16_SIZE, LQ_K16_SIZE, -HALF_RANGE, HALF_RANGE - 1,
                     codes + g * LQ_K16_SIZE);
    weighted_scales(fit.scale, sums, b);
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    static const float none[LQ_GROUPS];
    block *b = out;
    for (int64_t i = 0; i < n; i += LQ_K_BLOCK, b++) {
        uint8_t codes[LQ_K_BLOCK];
        float d[LQ_GROUPS];
        if (imatrix)
            fit_weighted(x + i, imatrix + i, codes, b);
        else
            fit_plain(x + i, codes, b);
        scales_of(b, d);
        lq_k_round(x + i, d, none, -HALF_RANGE, HALF_RANGE - 1, codes);
        pack(codes, b);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    static const float none[LQ_GROUPS];
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_K_BLOCK, b++) {
        float d[LQ_GROUPS];
        uint8_t codes[LQ_K_BLOCK];
        scales_of(b, d);
        unpack(b, codes);
        lq_groups()->expand(codes, LQ_GROUPS, LQ_K16_SIZE, HALF_RANGE, d, none, out + i);
    }
}

const lq_format lq_q3_k = {"q3_K", "Q3_K", 11, 12, LQ_K_BLOCK, sizeof(block), quant, dequant};
