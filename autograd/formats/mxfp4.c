/* MXFP4: 32 numbers of E2M1 and one exponent e (E8M0); value = 2^(e - 128) * (twice the number).
 * The exponent puts the largest magnitude into [4, 8) times 2^(e - 127), so up to 6 is exact in
 * range. An importance matrix does not change it. */
#include "format.h"
#include "groups.h"
#include "nibbles.h"
#include "nibbles_scalar.h"

enum { BLOCK = 32 };

typedef struct block {
    uint8_t e;
    uint8_t codes[BLOCK / 2];
} block;

/* Set apart: the scale 2^-128 is subnormal, and products with it take ten times as long. */
static const block zeros;

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    const lq_nibbles *const k = lq_nibbles_kernels();
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float most = lq_groups()->largest(x + i, BLOCK);
        if (most == 0) {
            *b = zeros;
            continue;
        }
        b->e = mx_exponent(most);
        k->pack_fp4(x + i, mx_half_scale(b->e), BLOCK / 2, b->codes);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const lq_nibbles *const k = lq_nibbles_kernels();
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++)
        if (memcmp(b, &zeros, sizeof zeros) == 0) memset(out + i, 0, BLOCK * sizeof *out);
        else k->unpack(b->codes, BLOCK / 2, lq_fp4_values, mx_half_scale(b->e), out + i);
}

const lq_format lq_mxfp4 = {"mxfp4", "MXFP4", 39, 38, BLOCK, sizeof(block), quant, dequant};
