/* Q4_K: 256 codes of 4 bits in eight groups with a scale and a minimum each. Per 64 elements the
 * first 32 are the low nibbles. See kquant_affine.h. */
#include "format.h"
#include "kquant_affine.h"

enum { CODES = LQ_K_BLOCK / 2 };

static void pack(const uint8_t codes[LQ_K_BLOCK], uint8_t *out) {
    for (int at = 0; at < LQ_K_BLOCK; at += 64)
        for (int i = at; i < at + 32; i++)
            out[i - at / 2] = (uint8_t)(codes[i] | codes[i + 32] << 4);
}

static void unpack(const uint8_t *restrict in, uint8_t codes[restrict LQ_K_BLOCK]) {
    for (int at = 0; at < LQ_K_BLOCK; at += 64)
        for (int i = at; i < at + 32; i++) {
            codes[i] = in[i - at / 2] & 15;
            codes[i + 32] = in[i - at / 2] >> 4;
        }
}

static const lq_ka_kind kind = {
    {.top = 15, .first = -1, .step = 0.1f, .steps = 20}, 255, CODES, pack, unpack};

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    lq_ka_quant(&kind, x, out, n, imatrix);
}

static void dequant(const void *in, float *out, int64_t n) { lq_ka_dequant(&kind, in, out, n); }

const lq_format lq_q4_k = {
    "q4_K", "Q4_K", 12, 15, LQ_K_BLOCK, sizeof(lq_ka_head) + CODES, quant, dequant};
