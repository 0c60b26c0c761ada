/* Q2_0: 64 codes of 2 bits and one F16 scale d = the largest magnitude; value = d * (code - 1). The
 * quantizer never makes code 3; a file may hold it. An importance matrix does not change it. */
#include "format.h"
#include "block_parts.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 64 };

typedef struct block {
    uint16_t d;    /* F16 */
    uint8_t codes[BLOCK / 4];
} block;

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_absmax(x + i, BLOCK), inverse = lq_inverse(d);
        memset(b, 0, sizeof *b);
        b->d = lq_f16_from_f32(d);
        if (isinf(inverse)) continue; /* the codes of such a small block are 0, not those of 0 */
        for (int j = 0; j < BLOCK; j++)
            b->codes[j / 4] |= (uint8_t)(lq_trit(x[i + j] * inverse) << 2 * (j % 4));
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_f32_from_f16(b->d);
        for (int j = 0; j < BLOCK; j++)
            out[i + j] = (float)((b->codes[j / 4] >> 2 * (j % 4) & 3) - 1) * d;
    }
}

const lq_format lq_q2_0 = {"q2_0", "Q2_0", 42, 41, BLOCK, sizeof(block), quant, dequant};
