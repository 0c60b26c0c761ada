/* Which values of a Q4_0 block are clipped: see saturation.c. */
#ifndef LOQUAT_SATURATION_SCALAR_H
#define LOQUAT_SATURATION_SCALAR_H

#include "groups_scalar.h"
#include "quant.h"

/* Bit i: x[i], of 32, is beyond the last code on its side. d: F16. */
LQ_SCALAR uint32_t q4_0_clipped(const float *x, uint16_t d, const uint8_t *codes) {
    const float inverse = inverse_of(f32_from_f16(d));
    uint32_t mask = 0;
    for (int i = 0; i < LQ_Q_BLOCK; i++) {
        const int byte = codes[i % (LQ_Q_BLOCK / 2)];
        const int code = i < LQ_Q_BLOCK / 2 ? byte & 15 : byte >> 4;
        const float steps = x[i] * inverse;
        const bool clipped = (code == 15 && steps > 7.5f) || (code == 0 && steps < -8.5f);
        mask |= (uint32_t)clipped << i;
    }
    return mask;
}

#endif
