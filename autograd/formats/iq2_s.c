/* IQ2_S: per 8 numbers a code-book index of 10 bits and 8 signs, per 16 a scale s of 4; value = d *
 * (s + 1/2) / 4 * (+- entry). Only read. */
#include "format.h"
#include "iq_parts.h"

typedef struct block {
    uint16_t d;    /* F16 */
    uint8_t low[LQ_IQ_GROUPS][4];
    uint8_t signs[LQ_IQ_GROUPS][4];
    uint8_t high[LQ_IQ_GROUPS];    /* upper 2 bits of four indices */
    uint8_t scales[LQ_IQ_GROUPS];
} block;

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ_BLOCK, b++) {
        for (int g = 0; g < LQ_IQ_GROUPS; g++) {
            for (int k = 0; k < 4; k++, out += 8) {
                const int s = b->scales[g] >> 4 * (k / 2) & 15;
                const int index = b->low[g][k] | (b->high[g] >> 2 * k & 3) << 8;
                lq_iq2_put(out, lq_iq2_s_grid[index],
                           lq_f32_from_f16(b->d) * (0.5f + (float)s) * 0.25f, b->signs[g][k]);
            }
        }
    }
}

const lq_format lq_iq2_s = {"iq2_s", "IQ2_S", 22, 28, LQ_IQ_BLOCK, sizeof(block), NULL, dequant};
