/* Shared steps of the formats with sixteen groups of 16. See kquant_parts.h. */
#include "kquant_parts.h"

void lq_k_pack2(const uint8_t codes[restrict LQ_K_BLOCK], uint8_t out[restrict LQ_K_BLOCK / 4]) {
    for (int half = 0; half < 2; half++, codes += LQ_K_BLOCK / 2, out += 32)
        for (int i = 0; i < 32; i++)
            out[i] = (uint8_t)((codes[i] & 3) | (codes[i + 32] & 3) << 2 |
                               (codes[i + 64] & 3) << 4 | (codes[i + 96] & 3) << 6);
}

void lq_k_unpack2(const uint8_t in[restrict LQ_K_BLOCK / 4], uint8_t codes[restrict LQ_K_BLOCK]) {
    for (int half = 0; half < 2; half++, codes += LQ_K_BLOCK / 2, in += 32)
        for (int quarter = 0; quarter < 4; quarter++)
            for (int i = 0; i < 32; i++) codes[32 * quarter + i] = in[i] >> 2 * quarter & 3;
}

void lq_k_round(const float *x, const float d[LQ_GROUPS], const float m[LQ_GROUPS], int low,
                int high, uint8_t codes[LQ_K_BLOCK]) {
    for (int g = 0; g < LQ_GROUPS; g++, x += LQ_K16_SIZE, codes += LQ_K16_SIZE)
        if (d[g] != 0) lq_groups()->round(x, LQ_K16_SIZE, m[g], d[g], low, high, codes);
}
