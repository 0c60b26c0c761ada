/* What the quantizers of several block formats share. */
#include "block_parts.h"

#include <math.h>
#include <string.h>

float lq_signed_max(const float *x, int n) {
    float best = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(best)) best = x[i];
    return best;
}

int lq_nearest_int(float v) {
    const float shifted = v + 0x1.8p23f; /* its last place is 1 */
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (int)(bits & 0x7fffffu) - 0x400000;
}

float lq_inverse(float d) { return d != 0 ? 1 / d : 0; }

float lq_finite_inverse(float d) {
    const float inverse = lq_inverse(d);
    return isfinite(inverse) ? inverse : 0;
}

/* Bit i is isolated in byte i, then carried to bit 7. */
uint64_t lq_spread_bits(uint8_t bits) {
    const uint64_t isolated = bits * 0x0101010101010101u & 0x8040201008040201u;
    return (isolated + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}
