/* IQ3_XXS: per 4 numbers a code-book index of 8 bits; per 32 four times 7 bits of signs and a scale
 * s of 4; value = d * (s + 1/2) / 2 * (+- entry). Only read. */
#include "format.h"
#include "iq_parts.h"

typedef struct block {
    uint16_t d;    /* F16 */
    uint8_t index[LQ_IQ_GROUPS][8];
    struct { uint16_t low, high; } signs[LQ_IQ_GROUPS];    /* 28 bits of signs, then s */
} block;

static void dequant(const void *in, float *out, int64_t n) {
    static const uint8_t values[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ_BLOCK, b++) {
        for (int g = 0; g < LQ_IQ_GROUPS; g++) {
            const uint32_t word = b->signs[g].low | (uint32_t)b->signs[g].high << 16;
            const float scale = lq_f32_from_f16(b->d) * (0.5f + (float)(word >> 28)) * 0.5f;
            for (int k = 0; k < 8; k++, out += 4)
                lq_iq3_put(out, lq_iq3_xxs_grid[b->index[g][k]], values, scale,
                           lq_iq_signs(word >> 7 * (k / 2) & 127) >> 4 * (k % 2));
        }
    }
}

const lq_format lq_iq3_xxs = {
    "iq3_xxs", "IQ3_XXS", 18, 23, LQ_IQ_BLOCK, sizeof(block), NULL, dequant,
};
