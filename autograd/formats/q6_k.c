/* Q6_K: 256 codes of 6 bits in sixteen groups, each with an 8-bit scale; value =
 * d * scale * (code - 32). Importance weights go into the search as they are. */
#include "format.h"
#include "kquant_parts.h"
#include "scales_scalar.h"

enum { HALF_RANGE = 32 };

typedef struct block {
    uint8_t low[LQ_K_BLOCK / 2];     /* four bits; per 128 elements i and i + 64 share byte i */
    uint8_t high[LQ_K_BLOCK / 4];    /* two bits, as lq_k_pack2 packs them */
    int8_t scales[LQ_GROUPS];
    uint16_t d;                      /* F16 */
} block;

static void pack(const uint8_t codes[LQ_K_BLOCK], block *b) {
    uint8_t high[LQ_K_BLOCK];
    for (int i = 0; i < LQ_K_BLOCK; i++) high[i] = codes[i] >> 4;
    lq_k_pack2(high, b->high);
    for (int at = 0; at < LQ_K_BLOCK; at += 128)
        for (int i = at; i < at + 64; i++)
            b->low[i - at / 2] = (uint8_t)((codes[i] & 15) | (codes[i + 64] & 15) << 4);
}

static void unpack(const block *b, uint8_t codes[LQ_K_BLOCK]) {
    lq_k_unpack2(b->high, codes);
    for (int at = 0; at < LQ_K_BLOCK; at += 128)
        for (int i = at; i < at + 64; i++) {
            codes[i] = (uint8_t)(codes[i] << 4 | (b->low[i - at / 2] & 15));
            codes[i + 64] = (uint8_t)(codes[i + 64] << 4 | b->low[i - at / 2] >> 4);
        }
}

static void scales_of(const block *b, float d[LQ_GROUPS]) {
    const float scale = lq_f32_from_f16(b->d);
    for (int g = 0; g < LQ_GROUPS; g++) d[g] = scale * (float)b->scales[g];
}

static void quant_block(const float *x, const float *imatrix, block *b) {
    static const float none[LQ_GROUPS];
    float w[LQ_K_BLOCK], d[LQ_GROUPS];
    for (int i = 0; i < LQ_K_BLOCK; i++) w[i] = imatrix ? imatrix[i] : x[i] * x[i];
    lq_columns c;
    lq_fit fit;
    lq_columns_fill(&c, x, w, LQ_GROUPS, LQ_K16_SIZE);
    lq_groups()->fit_signed(&c, HALF_RANGE, &fit);
    memset(b, 0, sizeof *b);
    const float scale = code_q6_scales(fit.scale, b->scales);
    if (scale == 0) return;
    b->d = lq_f16_from_f32(scale);
    uint8_t codes[LQ_K_BLOCK];
    scales_of(b, d);
    for (int g = 0; g < LQ_GROUPS; g++)
        if (d[g] == 0)
            lq_fit_codes(&fit, g, x + g * LQ_K16_SIZE, LQ_K16_SIZE, -HALF_RANGE, HALF_RANGE - 1,
                         codes + g * LQ_K16_SIZE);
    lq_k_round(x, d, none, -HALF_RANGE, HALF_RANGE - 1, codes);
    pack(codes, b);
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    block *b = out;
    for (int64_t i = 0; i < n; i += LQ_K_BLOCK)
        quant_block(x + i, imatrix ? imatrix + i : NULL, b++);
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

const lq_format lq_q6_k = {"q6_K", "Q6_K", 14, 18, LQ_K_BLOCK, sizeof(block), quant, dequant};
