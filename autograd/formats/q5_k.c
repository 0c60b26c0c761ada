/* Q5_K: 256 codes of 5 bits in eight groups with a scale and a minimum each. Bit g of byte i is the
 * fifth bit of element i of group g; then nibbles as in Q4_K. See kquant_affine.h. */
#include "format.h"
#include "kquant_affine.h"

#include <string.h>

enum { HIGH = LQ_K_BLOCK / 8, CODES = HIGH + LQ_K_BLOCK / 2 };

static void pack(const uint8_t codes[LQ_K_BLOCK], uint8_t *high) {
    uint8_t *const low = high + HIGH;
    memset(high, 0, HIGH);
    for (int pair = 0; pair < LQ_KA_GROUPS / 2; pair++) {
        const uint8_t *const first = codes + pair * 64, *const second = first + 32;
        for (int i = 0; i < 32; i++) {
            low[pair * 32 + i] = (uint8_t)((first[i] & 15) | (second[i] & 15) << 4);
            high[i] |= (uint8_t)((first[i] >> 4 | second[i] >> 4 << 1) << 2 * pair);
        }
    }
}

static void unpack(const uint8_t *restrict in, uint8_t codes[restrict LQ_K_BLOCK]) {
    for (int pair = 0; pair < LQ_KA_GROUPS / 2; pair++) {
        uint8_t *const first = codes + pair * 64, *const second = first + 32;
        for (int i = 0; i < 32; i++) {
            const uint8_t low = in[HIGH + pair * 32 + i], high = in[i] >> 2 * pair;
            first[i] = (uint8_t)((low & 15) | (high & 1) << 4);
            second[i] = (uint8_t)(low >> 4 | (high & 2) << 3);
        }
    }
}

static const lq_ka_kind kind = {
    {.top = 31, .first = -0.5f, .step = 0.1f, .steps = 15}, 63, CODES, pack, unpack};

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    lq_ka_quant(&kind, x, out, n, imatrix);
}

static void dequant(const void *in, float *out, int64_t n) { lq_ka_dequant(&kind, in, out, n); }

const lq_format lq_q5_k = {
    "q5_K", "Q5_K", 13, 17, LQ_K_BLOCK, sizeof(lq_ka_head) + CODES, quant, dequant};
