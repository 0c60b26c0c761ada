/* IQ3_S: per 4 numbers a code-book index of 9 bits and 4 signs, per 32 a scale s of 4; value = d *
 * (2 s + 1) * (+- entry), the entries being odd numbers up to 15. Only read. */
#include "format.h"
#include "iq_parts.h"

typedef struct block {
    uint16_t d;    /* F16 */
    uint8_t low[LQ_IQ_GROUPS][8];
    uint8_t high[LQ_IQ_GROUPS];    /* the ninth bit of eight indices */
    uint8_t signs[LQ_IQ_GROUPS][4];
    uint8_t scales[LQ_IQ_GROUPS / 2];
} block;

static void dequant(const void *in, float *out, int64_t n) {
    static const uint8_t values[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ_BLOCK, b++) {
        for (int g = 0; g < LQ_IQ_GROUPS; g++) {
            const int s = b->scales[g / 2] >> 4 * (g % 2) & 15;
            const float scale = lq_f32_from_f16(b->d) * (float)(2 * s + 1);
            for (int k = 0; k < 8; k++, out += 4)
                lq_iq3_put(out, lq_iq3_s_grid[b->low[g][k] | (b->high[g] >> k & 1) << 8], values,
                           scale, b->signs[g][k / 2] >> 4 * (k % 2));
        }
    }
}

const lq_format lq_iq3_s = {"iq3_s", "IQ3_S", 21, 26, LQ_IQ_BLOCK, sizeof(block), NULL, dequant};
