/* Q5_1: 32 codes of 5 bits, a scale d and a minimum; value = d * code + min. The fifth bits come
 * first, then the nibbles. See block32.h. */
#include "block32.h"
#include "format.h"

enum { HIGH = LQ_B32 / 8, CODES = HIGH + LQ_B32 / 2 };

static void pack(const uint8_t codes[LQ_B32], uint8_t *out) {
    lq_b32_pack5(codes, out, out + HIGH);
}

static void unpack(const uint8_t *in, uint8_t codes[LQ_B32]) {
    lq_b32_unpack5(in, in + HIGH, codes);
}

static const lq_b32_affine kind = {31, CODES, pack, unpack};

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    lq_b32_affine_quant(&kind, x, out, n, imatrix);
}

static void dequant(const void *in, float *out, int64_t n) {
    lq_b32_affine_dequant(&kind, in, out, n);
}

const lq_format lq_q5_1 = {
    "q5_1", "Q5_1", 7, 9, LQ_B32, LQ_B32_AFFINE_HEAD + CODES, quant, dequant};
