/* Q4_K: 256 codes of 4 bits in eight groups with a scale and a minimum each. Scales are in
 * kquant_affine.h. */
#include "format.h"
#include "kquant_affine.h"

typedef struct block {
    lq_ka_head head;
    uint8_t codes[LQ_K_BLOCK / 2];   /* per 64 elements: the first 32 in the low nibbles */
} block;

static const lq_ka_kind kind = {{.top = 15, .first = -1, .step = 0.1f, .steps = 20}, 255};

static void pack(const uint8_t codes[LQ_K_BLOCK], block *b) {
    for (int at = 0; at < LQ_K_BLOCK; at += 64)
        for (int i = at; i < at + 32; i++)
            b->codes[i - at / 2] = (uint8_t)(codes[i] | codes[i + 32] << 4);
}

static void unpack(const block *b, uint8_t codes[LQ_K_BLOCK]) {
    for (int at = 0; at < LQ_K_BLOCK; at += 64)
        for (int i = at; i < at + 32; i++) {
            codes[i] = b->codes[i - at / 2] & 15;
            codes[i + 32] = b->codes[i - at / 2] >> 4;
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

const lq_format lq_q4_k = {"q4_K", "Q4_K", 12, 15, LQ_K_BLOCK, sizeof(block), quant, dequant};
