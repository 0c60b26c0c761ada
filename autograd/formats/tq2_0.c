/* TQ2_0: 256 ternary codes of 2 bits and one F16 scale d = the largest magnitude; value = d * (code
 * - 1). Byte i of each half holds elements i, i + 32, i + 64, i + 96 of it. An importance matrix
 * does not change it. */
#include "format.h"
#include "block_parts.h"

#include <string.h>

enum { BLOCK = 256, HALVES = 2, STRIDE = 32 };

typedef struct block {
    uint8_t codes[HALVES][STRIDE];
    uint16_t d;    /* F16 */
} block;

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_absmax(x + i, BLOCK), inverse = lq_finite_inverse(d);
        memset(b, 0, sizeof *b);
        b->d = lq_f16_from_f32(d);
        const float *v = x + i;
        for (int h = 0; h < HALVES; h++)
            for (int k = 0; k < 4; k++, v += STRIDE)
                for (int j = 0; j < STRIDE; j++)
                    b->codes[h][j] |= (uint8_t)(lq_trit(v[j] * inverse) << 2 * k);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_f32_from_f16(b->d);
        for (int h = 0; h < HALVES; h++)
            for (int k = 0; k < 4; k++, out += STRIDE)
                for (int j = 0; j < STRIDE; j++)
                    out[j] = (float)((b->codes[h][j] >> 2 * k & 3) - 1) * d;
    }
}

const lq_format lq_tq2_0 = {"tq2_0", "TQ2_0", 35, 37, BLOCK, sizeof(block), quant, dequant};
