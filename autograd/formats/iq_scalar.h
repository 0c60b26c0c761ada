/* From one entry of an IQ code book to its numbers: see iq_parts.h. */
#ifndef LOQUAT_IQ_SCALAR_H
#define LOQUAT_IQ_SCALAR_H

#include "scalar.h"

/* Signs of 8 numbers from 7 bits: the eighth makes their number even. */
LQ_SCALAR unsigned iq_signs(unsigned seven_bits) {
    unsigned parity = seven_bits ^ seven_bits >> 4;
    parity ^= parity >> 2;
    return seven_bits | ((parity ^ parity >> 1) & 1) << 7;
}

LQ_SCALAR void iq1_put(float *out, unsigned entry, float scale, bool down) {
    const float delta = down ? -0.125f : 0.125f;
    for (int i = 0; i < 8; i++) out[i] = scale * ((float)(entry >> 2 * i & 3) - 1 + delta);
}

LQ_SCALAR void iq_put(float *out, float magnitude, unsigned sign) {
    *out = sign & 1 ? -magnitude : magnitude;
}

LQ_SCALAR void iq2_put(float *out, unsigned entry, float scale, unsigned signs) {
    static const uint8_t values[4] = {8, 25, 43, 0};
    for (int i = 0; i < 8; i++)
        iq_put(out + i, scale * (float)values[entry >> 2 * i & 3], signs >> i);
}

LQ_SCALAR void iq3_put(float *out, unsigned entry, const uint8_t *values, float scale,
                       unsigned signs) {
    for (int i = 0; i < 4; i++)
        iq_put(out + i, scale * (float)values[entry >> 3 * i & 7], signs >> i);
}

#endif
