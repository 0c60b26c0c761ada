/* What Q2_K, Q3_K and Q6_K share: super-blocks of sixteen groups of 16. */
#ifndef LOQUAT_KQUANT_PARTS_H
#define LOQUAT_KQUANT_PARTS_H

#include "group_parts.h"

enum { LQ_K16_SIZE = LQ_K_BLOCK / LQ_GROUPS };

/* The low two bits of each code: per half of 128 elements, byte i holds those of i, i + 32, i + 64
 * and i + 96. */
void lq_k_pack2(const uint8_t codes[LQ_K_BLOCK], uint8_t out[LQ_K_BLOCK / 4]);
void lq_k_unpack2(const uint8_t in[LQ_K_BLOCK / 4], uint8_t codes[LQ_K_BLOCK]);


/* Codes of nearest((x + m) / d) limited to low..high as 0.., per group. A group whose d is 0 keeps
 * its codes. */
void lq_k_round(const float *x, const float d[LQ_GROUPS], const float m[LQ_GROUPS], int low,
                int high, uint8_t codes[LQ_K_BLOCK]);

#endif
