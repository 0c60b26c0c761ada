/* TQ2_0: 256 ternary codes of 2 bits and one F16 scale d = the largest magnitude; value = d * (code
 * - 1). The codes are packed as those of Q2_K. An importance matrix does not change it. */
#include "block_parts.h"
#include "format.h"
#include "kquant_parts.h"

enum { BLOCK = LQ_K_BLOCK };

typedef struct block {
    uint8_t codes[BLOCK / 4];
    uint16_t d;    /* F16 */
} block;

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    const lq_group_kernels *const k = lq_groups();
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = k->largest(x + i, BLOCK);
        uint8_t codes[BLOCK];
        k->trits(x + i, BLOCK, lq_finite_inverse(d), codes);
        lq_k_pack2(codes, b->codes);
        b->d = lq_f16_from_f32(d);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const lq_group_kernels *const k = lq_groups();
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = lq_f32_from_f16(b->d), none = 0;
        uint8_t codes[BLOCK];
        lq_k_unpack2(b->codes, codes);
        k->expand(codes, 1, BLOCK, 1, &d, &none, out + i);
    }
}

const lq_format lq_tq2_0 = {"tq2_0", "TQ2_0", 35, 37, BLOCK, sizeof(block), quant, dequant};
