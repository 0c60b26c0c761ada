/* What the formats with blocks of 32 share: their packing, and the searches that importance weights
 * call for, sixteen blocks at a time. In a byte element j is the low nibble, j + 16 the high
 * one. */
#ifndef LOQUAT_BLOCK32_H
#define LOQUAT_BLOCK32_H

#include "group_parts.h"

enum { LQ_B32 = 32 };

/* How many blocks of n numbers the next step takes: at most LQ_GROUPS. */
int lq_b32_count(int64_t n);

void lq_b32_pack(const uint8_t codes[LQ_B32], uint8_t nibbles[LQ_B32 / 2]);
void lq_b32_unpack(const uint8_t nibbles[LQ_B32 / 2], uint8_t codes[LQ_B32]);
/* Codes of 5 bits: bit j % 8 of high[j / 8] is the fifth of element j. */
void lq_b32_pack5(const uint8_t codes[LQ_B32], uint8_t high[4], uint8_t nibbles[LQ_B32 / 2]);
void lq_b32_unpack5(const uint8_t high[4], const uint8_t nibbles[LQ_B32 / 2],
                    uint8_t codes[LQ_B32]);

/* Codes 0..2 half - 1 of d = m / -half, m the first element of largest magnitude. */
float lq_b32_signed(const float x[LQ_B32], int half, uint8_t codes[LQ_B32]);

typedef struct lq_b32_batch {
    int blocks;                              /* at most LQ_GROUPS */
    lq_fit fit;
    uint8_t codes[LQ_GROUPS][LQ_B32];
} lq_b32_batch;

/* The first blocks of n weighted numbers; mean_square is that of their row. */
void lq_b32_fit_signed(const float *x, const float *imatrix, int64_t n, float mean_square, int half,
                       lq_b32_batch *batch);

/* Q4_1 and Q5_1: a block is a scale d and a minimum, both F16, and codes 0..top as `pack` packs
 * them; value = d code + minimum. */
typedef struct lq_b32_affine {
    int top, code_bytes;
    void (*pack)(const uint8_t codes[LQ_B32], uint8_t *out);
    void (*unpack)(const uint8_t *in, uint8_t codes[LQ_B32]);
} lq_b32_affine;

enum { LQ_B32_AFFINE_HEAD = 4 }; /* bytes in front of the codes */

/* One call is one row: its mean square tempers the importance (NULL: none). */
void lq_b32_affine_quant(const lq_b32_affine *kind, const float *x, void *out, int64_t n,
                         const float *imatrix);
void lq_b32_affine_dequant(const lq_b32_affine *kind, const void *in, float *out, int64_t n);

#endif
