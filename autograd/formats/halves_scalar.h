/* F32 to and from F16 and BF16 by integer arithmetic: IEEE round to nearest even, NaN quieted. */
#ifndef LOQUAT_HALVES_SCALAR_H
#define LOQUAT_HALVES_SCALAR_H

#include "scalar.h"

LQ_SCALAR uint32_t float_to_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

LQ_SCALAR float float_of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

LQ_SCALAR uint16_t f16_from_f32(float x) {
    const uint32_t u = float_to_bits(x), magnitude = u & 0x7fffffffu, sign = u >> 16 & 0x8000u;
    uint32_t half;
    if (magnitude > 0x7f800000u)
        half = 0x7e00; /* NaN */
    else if (magnitude >= 0x477ff000u)
        half = 0x7c00; /* from 65520 on: infinity */
    else if (magnitude < 0x38800000u)
        /* below 2^-14, subnormal: the addition rounds to 0.5's last place, 2^-24 */
        half = float_to_bits(float_of_bits(magnitude) + 0.5f) - float_to_bits(0.5f);
    else
        half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    return (uint16_t)(sign | half);
}

LQ_SCALAR float f32_from_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude < 0x400) return float_of_bits(sign | float_to_bits((float)magnitude * 0x1p-24f));
    if (magnitude < 0x7c00) return float_of_bits(sign | ((magnitude << 13) + 0x38000000u));
    return float_of_bits(sign | 0x7f800000u | (magnitude > 0x7c00 ? 0x400000u : 0) |
                         (magnitude & 0x3ff) << 13);
}

LQ_SCALAR uint16_t bf16_from_f32(float x) {
    const uint32_t u = float_to_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 64); /* NaN, quieted */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

LQ_SCALAR float f32_from_bf16(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

#endif
