/* IQ4_XS: 256 codes of 4 bits in groups of 32, a 6-bit scale s per group, one F16 scale d; value =
 * d * (s - 32) * values[code]. Each group's scale is searched as IQ4_NL's; the largest becomes
 * s = 0, that is -32 d. */
#include "format.h"
#include "iq4_parts.h"
#include "nibbles_scalar.h"

enum { BLOCK = 256, GROUPS = BLOCK / LQ_IQ4_BLOCK };

typedef struct block {
    uint16_t d;                     /* F16 */
    uint16_t high;                  /* bits 2g and 2g + 1: the upper two of group g's scale */
    uint8_t low[GROUPS / 2];        /* the lower four, even groups in the low nibble */
    uint8_t codes[GROUPS][LQ_IQ4_BLOCK / 2];
} block;

static void quant_block(const float *x, const float *imatrix, block *b) {
    const float sigma2 = imatrix ? lq_iq4_sigma2(x, BLOCK) : 0;
    const lq_nibbles *const k = lq_nibbles_kernels();
    float scale[GROUPS];
    uint8_t codes[GROUPS];
    for (int g = 0; g < GROUPS; g++)
        scale[g] = lq_iq4_scale(x + g * LQ_IQ4_BLOCK, imatrix ? imatrix + g * LQ_IQ4_BLOCK : NULL,
                                sigma2);
    const float d = code_iq4_scales(scale, codes);
    memset(b, 0, sizeof *b);
    b->d = lq_f16_from_f32(d);
    for (int g = 0; g < GROUPS; g++) {
        const int s = codes[g];
        k->pack_iq4(x + g * LQ_IQ4_BLOCK, inverse_of(d * (float)(s - 32)), b->codes[g]);
        b->low[g / 2] |= (uint8_t)((s & 15) << 4 * (g % 2));
        b->high |= (uint16_t)(s >> 4 << 2 * g);
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK) quant_block(x + i, imatrix ? imatrix + i : NULL, b++);
}

static void dequant(const void *in, float *out, int64_t n) {
    const lq_nibbles *const k = lq_nibbles_kernels();
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_f32_from_f16(b->d);
        for (int g = 0; g < GROUPS; g++) {
            const int s = (b->low[g / 2] >> 4 * (g % 2) & 15) | (b->high >> 2 * g & 3) << 4;
            k->unpack(b->codes[g], LQ_IQ4_BLOCK / 2, lq_iq4_values, d * (float)(s - 32),
                      out + i + g * LQ_IQ4_BLOCK);
        }
    }
}

const lq_format lq_iq4_xs = {"iq4_xs", "IQ4_XS", 23, 30, BLOCK, sizeof(block), quant, dequant};
