/* From entries of the IQ code books to numbers. */
#include "iq_parts.h"

unsigned lq_iq_signs(unsigned seven_bits) {
    unsigned parity = seven_bits ^ seven_bits >> 4;
    parity ^= parity >> 2;
    return seven_bits | ((parity ^ parity >> 1) & 1) << 7;
}

void lq_iq1_put(float *out, unsigned entry, float scale, bool down) {
    const float delta = down ? -0.125f : 0.125f;
    for (int i = 0; i < 8; i++) out[i] = scale * ((float)(entry >> 2 * i & 3) - 1 + delta);
}

static void put(float *out, float magnitude, unsigned sign) {
    *out = sign & 1 ? -magnitude : magnitude;
}

void lq_iq2_put(float *out, unsigned entry, float scale, unsigned signs) {
    static const uint8_t values[4] = {8, 25, 43};
    for (int i = 0; i < 8; i++) put(out + i, scale * values[entry >> 2 * i & 3], signs >> i);
}

void lq_iq3_put(float *out, unsigned entry, const uint8_t values[8], float scale, unsigned signs) {
    for (int i = 0; i < 4; i++) put(out + i, scale * values[entry >> 3 * i & 7], signs >> i);
}
