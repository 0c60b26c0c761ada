/* What the quantizers of several block formats share. */
#include "block_parts.h"

#include "groups_scalar.h"

float lq_signed_max(const float *x, int n) { return signed_max(x, n, 1); }

int lq_nearest_int(float v) { return nearest_int(v); }

float lq_inverse(float d) { return inverse_of(d); }

float lq_finite_inverse(float d) { return finite_inverse(d); }

/* Bit i is isolated in byte i, then carried to bit 7. */
uint64_t lq_spread_bits(uint8_t bits) {
    const uint64_t isolated = bits * 0x0101010101010101u & 0x8040201008040201u;
    return (isolated + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}
