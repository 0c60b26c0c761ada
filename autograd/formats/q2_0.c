/* Q2_0: 64 codes of 2 bits and one F16 scale d = the largest magnitude; value = d * (code - 1). The
 * quantizer never makes code 3; a file may hold it. An importance matrix does not change it. */
#include "block_parts.h"
#include "format.h"
#include "groups.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 64 };

typedef struct block {
    uint16_t d;    /* F16 */
    uint8_t codes[BLOCK / 4];
} block;

static void pack(const uint8_t codes[BLOCK], uint8_t out[BLOCK / 4]) {
    for (int i = 0; i < BLOCK / 4; i++, codes += 4)
        out[i] = (uint8_t)(codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6);
}

static void unpack(const uint8_t in[BLOCK / 4], uint8_t codes[BLOCK]) {
    for (int i = 0; i < BLOCK / 4; i++) {
        const uint32_t byte = in[i];
        const uint32_t four = (byte | byte << 6 | byte << 12 | byte << 18) & 0x03030303u;
        memcpy(codes + 4 * i, &four, sizeof four);
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    const lq_group_kernels *const k = lq_groups();
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = k->largest(x + i, BLOCK), inverse = lq_inverse(d);
        uint8_t codes[BLOCK] = {0};
        /* where the inverse is infinite they stay 0, which is not the code of 0 */
        if (!isinf(inverse)) k->trits(x + i, BLOCK, inverse, codes);
        pack(codes, b->codes);
        b->d = lq_f16_from_f32(d);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const lq_group_kernels *const k = lq_groups();
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_f32_from_f16(b->d), none = 0;
        uint8_t codes[BLOCK];
        unpack(b->codes, codes);
        k->expand(codes, 1, BLOCK, 1, &d, &none, out + i);
    }
}

const lq_format lq_q2_0 = {"q2_0", "Q2_0", 42, 41, BLOCK, sizeof(block), quant, dequant};
