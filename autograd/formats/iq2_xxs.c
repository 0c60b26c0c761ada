/* IQ2_XXS: per 32 numbers four code-book indices of 8 bits, four times 7 bits of signs, a scale s
 * of 4; value = d * (s + 1/2) / 4 * (+- entry). Only read. */
#include "format.h"
#include "iq_parts.h"

typedef struct block {
    uint16_t d;    /* F16 */
    struct {
        uint8_t index[4];
        uint16_t low, high;    /* 28 bits of signs, then s */
    } group[LQ_IQ_GROUPS];
} block;

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ_BLOCK, b++) {
        for (int g = 0; g < LQ_IQ_GROUPS; g++) {
            const uint32_t word = b->group[g].low | (uint32_t)b->group[g].high << 16;
            const float scale = lq_f32_from_f16(b->d) * (0.5f + (float)(word >> 28)) * 0.25f;
            for (int k = 0; k < 4; k++, out += 8)
                lq_iq2_put(out, lq_iq2_xxs_grid[b->group[g].index[k]], scale,
                           lq_iq_signs(word >> 7 * k & 127));
        }
    }
}

const lq_format lq_iq2_xxs = {
    "iq2_xxs", "IQ2_XXS", 16, 19, LQ_IQ_BLOCK, sizeof(block), NULL, dequant,
};
