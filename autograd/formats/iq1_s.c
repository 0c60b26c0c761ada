/* IQ1_S: per 32 numbers four code-book indices of 11 bits, a scale s of 3 and the direction of the
 * shift by an eighth; value = d * (2 s + 1) * (entry +- 1/8). Only read. */
#include "format.h"
#include "iq_parts.h"

typedef struct block {
    uint16_t d;    /* F16 */
    uint8_t low[LQ_IQ_GROUPS][4];
    uint16_t high[LQ_IQ_GROUPS];    /* upper 3 bits of four indices, s, shift down */
} block;

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ_BLOCK, b++) {
        for (int g = 0; g < LQ_IQ_GROUPS; g++) {
            const unsigned high = b->high[g];
            const float scale = lq_f32_from_f16(b->d) * (float)(2 * (high >> 12 & 7) + 1);
            for (int k = 0; k < 4; k++, out += 8)
                lq_iq1_put(out, lq_iq1_s_grid[b->low[g][k] | (high >> 3 * k & 7) << 8], scale,
                           high >> 15);
        }
    }
}

const lq_format lq_iq1_s = {"iq1_s", "IQ1_S", 19, 24, LQ_IQ_BLOCK, sizeof(block), NULL, dequant};
