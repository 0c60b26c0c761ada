/* IQ1_M: as IQ1_S, but with a scale of 3 bits per 16 numbers and a direction per 8. The F16 scale d
 * of the block lies in the upper four bits of the four words of scales. Only read. */
#include "format.h"
#include "iq_parts.h"

typedef struct block {
    uint8_t low[LQ_IQ_GROUPS][4];    /* of the code-book indices */
    uint8_t high[LQ_IQ_GROUPS][2];   /* per 8 numbers: 3 upper bits and the shift down */
    uint16_t scales[LQ_IQ_GROUPS / 2];
} block;

static void dequant_block(const block *b, float *out) {
    uint16_t half = 0;
    for (int w = 0; w < 4; w++) half |= (uint16_t)(b->scales[w] >> 12 << 4 * w);
    const float d = lq_f32_from_f16(half);
    for (int g = 0; g < LQ_IQ_GROUPS; g++) {
        for (int k = 0; k < 4; k++, out += 8) {
            const unsigned s = b->scales[g / 2] >> (6 * (g % 2) + 3 * (k / 2)) & 7;
            const unsigned high = b->high[g][k / 2] >> 4 * (k % 2) & 15;
            lq_iq1_put(out, lq_iq1_s_grid[b->low[g][k] | (high & 7) << 8],
                       d * (float)(2 * s + 1), high >> 3);
        }
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ_BLOCK) dequant_block(b++, out + i);
}

const lq_format lq_iq1_m = {"iq1_m", "IQ1_M", 29, 31, LQ_IQ_BLOCK, sizeof(block), NULL, dequant};
