/* IQ2_XS: per 8 numbers a code-book index of 9 bits and 7 bits of signs, per 16 a scale s of 4;
 * value = d * (s + 1/2) / 4 * (+- entry). Only read. */
#include "format.h"
#include "iq_parts.h"

typedef struct block {
    uint16_t d;    /* F16 */
    uint16_t codes[LQ_IQ_GROUPS][4];
    uint8_t scales[LQ_IQ_GROUPS];
} block;

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ_BLOCK, b++) {
        for (int g = 0; g < LQ_IQ_GROUPS; g++) {
            for (int k = 0; k < 4; k++, out += 8) {
                const int s = b->scales[g] >> 4 * (k / 2) & 15;
                const unsigned code = b->codes[g][k];
                lq_iq2_put(out, lq_iq2_xs_grid[code & 511],
                           lq_f32_from_f16(b->d) * (0.5f + (float)s) * 0.25f,
                           lq_iq_signs(code >> 9));
            }
        }
    }
}

const lq_format lq_iq2_xs = {"iq2_xs", "IQ2_XS", 17, 20, LQ_IQ_BLOCK, sizeof(block), NULL, dequant};
