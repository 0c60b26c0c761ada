/* Kernels of the formats whose 4-bit codes stand for 16 fixed values, per instruction set. All
 * versions give the same bits; no fused multiply-add, which would move codes at ties.
 *
 * In a run of 2 half codes, element j has the low nibble of codes[j], j + half the high one.
 *   IQ4  32 numbers; the values are lq_iq4_values, a code is that of the nearest value, the larger
 *        one of a tie; what is no number counts as large
 *   FP4  the values are lq_fp4_values; a code is the first of least distance, rounded to F32 */
#ifndef LOQUAT_NIBBLES_H
#define LOQUAT_NIBBLES_H

#include <stdint.h>

enum { LQ_IQ4_BLOCK = 32, LQ_IQ4_TRIALS = 16 };

extern const int8_t lq_iq4_values[16], lq_fp4_values[16];
extern const float lq_iq4_borders[16];   /* between two values; the last is infinite */

/* How well scales 1 / inverse fit a block: the sums, in order, of w q x and w q^2, q the nearest
 * values to x * inverse. */
typedef struct lq_iq4_fits {
    float inverse[LQ_IQ4_TRIALS], wqx[LQ_IQ4_TRIALS], wqq[LQ_IQ4_TRIALS];
} lq_iq4_fits;

typedef struct lq_nibbles {
    /* out = values * d; half is 8 or 16. */
    void (*unpack)(const uint8_t *codes, int half, const int8_t values[16], float d, float *out);
    void (*fit_iq4)(const float *x, const float *w, lq_iq4_fits *fits);
    /* Of x * inverse. */
    void (*pack_iq4)(const float *x, float inverse, uint8_t codes[LQ_IQ4_BLOCK / 2]);
    /* Of x / d; half is 8 or 16. */
    void (*pack_fp4)(const float *x, float d, int half, uint8_t *codes);
} lq_nibbles;

extern const lq_nibbles lq_nibbles_avx2, lq_nibbles_avx512;
const lq_nibbles *lq_nibbles_kernels(void);   /* of the level in use */

#endif
