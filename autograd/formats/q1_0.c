/* Q1_0: 128 signs (1: not negative) and one F16 scale d, the mean magnitude; value = d or -d. An
 * importance matrix does not change it. */
#include "block_parts.h"
#include "format.h"
#include "groups.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 128 };

typedef struct block {
    uint16_t d;    /* F16 */
    uint8_t signs[BLOCK / 8];
} block;

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        memset(b, 0, sizeof *b);
        float sum = 0;
        for (int j = 0; j < BLOCK; j++) {
            sum += fabsf(x[i + j]);
            b->signs[j / 8] |= (uint8_t)((x[i + j] >= 0) << j % 8);
        }
        b->d = lq_f16_from_f32(sum / BLOCK);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_f32_from_f16(b->d), none = 0;
        uint8_t codes[BLOCK];
        for (int j = 0; j < BLOCK / 8; j++) {
            const uint64_t eight = 2 * lq_spread_bits(b->signs[j]);
            memcpy(codes + 8 * j, &eight, sizeof eight);
        }
        lq_groups()->expand(codes, 1, BLOCK, 1, &d, &none, out + i);
    }
}

const lq_format lq_q1_0 = {"q1_0", "Q1_0", 41, 40, BLOCK, sizeof(block), quant, dequant};
