/* Q5_K: 256 codes of 5 bits in eight groups with a scale and a minimum each. Scales are in
 * kquant_affine.h. */
#include "format.h"
#include "kquant_affine.h"

#include <string.h>

typedef struct block {
    lq_ka_head head;
    uint8_t high[LQ_K_BLOCK / 8];    /* bit g of byte i: the fifth bit of element i of group g */
    uint8_t codes[LQ_K_BLOCK / 2];   /* per 64 elements: the first 32 in the low nibbles */
} block;

static const lq_ka_kind kind = {{.top = 31, .first = -0.5f, .step = 0.1f, .steps = 15}, 63};

static void pack(const uint8_t codes[LQ_K_BLOCK], block *b) {
    memset(b->high, 0, sizeof b->high);
    for (int pair = 0; pair < LQ_KA_GROUPS / 2; pair++) {
        const uint8_t *const first = codes + pair * 64, *const second = first + 32;
        for (int i = 0; i < 32; i++) {
            b->codes[pair * 32 + i] = (uint8_t)((first[i] & 15) | (second[i] & 15) << 4);
            b->high[i] |= (uint8_t)((first[i] >> 4 | second[i] >> 4 << 1) << 2 * pair);
        }
    }
}

static void unpack(const block *b, uint8_t codes[LQ_K_BLOCK]) {
    for (int pair = 0; pair < LQ_KA_GROUPS / 2; pair++) {
        uint8_t *const first = codes + pair * 64, *const second = first + 32;
        for (int i = 0; i < 32; i++) {
            const uint8_t low = b->codes[pair * 32 + i], high = b->high[i] >> 2 * pair;
            first[i] = (uint8_t)((low & 15) | (high & 1) << 4);
            second[i] = (uint8_t)(low >> 4 | (high & 2) << 3);
        }
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    block *b = out;
    for (int64_t i = 0, blocks; i < n; i += blocks * LQ_K_BLOCK) {
        blocks = n - i > LQ_K_BLOCK ? 2 : 1;
        lq_ka_head head[2];
        uint8_t codes[2][LQ_K_BLOCK];
        lq_ka_quant(x + i, (int)blocks, imatrix ? imatrix + i : NULL, &kind, head, codes);
        for (int64_t k = 0; k < blocks; k++, b++) {
            b->head = head[k];
            pack(codes[k], b);
        }
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_K_BLOCK, b++) {
        uint8_t codes[LQ_K_BLOCK];
        unpack(b, codes);
        lq_ka_dequant(&b->head, codes, out + i);
    }
}

const lq_format lq_q5_k = {"q5_K", "Q5_K", 13, 17, LQ_K_BLOCK, sizeof(block), quant, dequant};
