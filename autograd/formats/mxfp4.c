/* MXFP4: 32 numbers of E2M1 and one exponent e (E8M0); value = 2^(e - 128) * (twice the number). The
 * exponent puts the largest magnitude into [4, 8) times 2^(e - 127), so up to 6 is exact in range.
 * An importance matrix does not change it. NVFP4 shares the packing of the numbers. */
#include "format.h"
#include "block_parts.h"
#include "fp4_parts.h"

#include <math.h>

enum { BLOCK = 32 };

typedef struct block {
    uint8_t e;
    uint8_t codes[BLOCK / 2];
} block;

static const int8_t numbers[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* The distances are compared as rounded to F32, which far away makes them equal. */
static int nearest_code(float x, float d) {
    int best = 0;
    float least = fabsf(x);
    for (int i = 1; i < 16; i++) {
        const float distance = fabsf(numbers[i] * d - x);
        if (!(distance < least)) continue;
        best = i;
        least = distance;
    }
    return best;
}

void lq_fp4_pack(const float *x, float d, uint8_t *codes, int n) {
    for (int i = 0; i < n / 2; i++)
        codes[i] = (uint8_t)(nearest_code(x[i], d) | nearest_code(x[i + n / 2], d) << 4);
}

void lq_fp4_unpack(const uint8_t *codes, float d, float *out, int n) {
    for (int i = 0; i < n / 2; i++) {
        out[i] = numbers[codes[i] & 15] * d;
        out[i + n / 2] = numbers[codes[i] >> 4] * d;
    }
}

static float scale_of(uint8_t e) { return ldexpf(1, e - 128); }

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float most = lq_absmax(x + i, BLOCK);
        /* A block below 2^-125 wraps around to a large exponent, with all codes 0. */
        b->e = most > 0 ? (uint8_t)((int)floorf(log2f(most)) - 2 + 127) : 0;
        lq_fp4_pack(x + i, scale_of(b->e), b->codes, BLOCK);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++)
        lq_fp4_unpack(b->codes, scale_of(b->e), out + i, BLOCK);
}

const lq_format lq_mxfp4 = {"mxfp4", "MXFP4", 39, 38, BLOCK, sizeof(block), quant, dequant};
