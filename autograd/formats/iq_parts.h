/* What the IQ formats share: code books of short vectors of small numbers. An entry packs the
 * indices of its numbers among a few values, the first in the lowest bits: 8 numbers of 2 bits
 * (IQ1: -1 0 1; IQ2: 8 25 43) or 4 numbers of 3 bits (IQ3). These formats are only read: a
 * quantizer would search the code book. */
#ifndef LOQUAT_IQ_PARTS_H
#define LOQUAT_IQ_PARTS_H

#include "base.h"

enum { LQ_IQ_BLOCK = 256, LQ_IQ_GROUPS = LQ_IQ_BLOCK / 32 };

extern const uint16_t lq_iq1_s_grid[2048], lq_iq2_xxs_grid[256], lq_iq2_xs_grid[512],
    lq_iq2_s_grid[1024], lq_iq3_xxs_grid[256], lq_iq3_s_grid[512];

/* Signs of 8 numbers from 7 bits: the eighth makes their number even. */
unsigned lq_iq_signs(unsigned seven_bits);

/* 8 numbers: scale * (entry + delta), delta one eighth up or down. */
void lq_iq1_put(float *out, unsigned entry, float scale, bool down);
/* 8 numbers: scale * entry, negated where `signs` has a bit. */
void lq_iq2_put(float *out, unsigned entry, float scale, unsigned signs);
/* 4 numbers of 8 possible values, likewise. */
void lq_iq3_put(float *out, unsigned entry, const uint8_t values[8], float scale, unsigned signs);

#endif
