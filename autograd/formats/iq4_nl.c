/* IQ4_NL: 32 codes of 4 bits and one F16 scale d; value = d * values[code]. Of the scales that put
 * the largest number on -127 to within 7, either way round, the one with the least weighted squared
 * error is kept, refined by least squares. Sums are F32, in order: the order is part of the
 * format's definition. IQ4_XS searches the scale of each 32 numbers in the same way. */
#include "format.h"
#include "block_parts.h"
#include "iq4_parts.h"
#include "nibbles_scalar.h"
#include "scales_scalar.h"

typedef struct block {
    uint16_t d;                           /* F16 */
    uint8_t codes[LQ_IQ4_BLOCK / 2];
} block;

float lq_iq4_sigma2(const float *x, int n) {
    return sum_squares(x, n) * (2.0f / (float)n);
}

/* That of least error at its own least-squares scale; the first of equals. */
static float best_scale(const lq_iq4_fits *f) {
    float scale = 0, best = 0;
    for (int t = 0; t < LQ_IQ4_TRIALS; t++)
        iq4_keep_best(t, f->wqx[t], f->wqq[t], &scale, &best);
    return scale;
}

float lq_iq4_scale(const float *x, const float *imatrix, float sigma2) {
    float weight[LQ_IQ4_BLOCK];
    for (int i = 0; i < LQ_IQ4_BLOCK; i++)
        weight[i] = imatrix ? tempered(imatrix[i], sigma2, x[i]) : x[i] * x[i];
    const float max = lq_signed_max(x, LQ_IQ4_BLOCK);
    if (fabsf(max) < 1e-15f) return 0;
    lq_iq4_fits f;
    for (int t = 0; t < LQ_IQ4_TRIALS; t++) f.inverse[t] = iq4_trial(t, max);
    lq_nibbles_kernels()->fit_iq4(x, weight, &f);
    return best_scale(&f);
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    const lq_nibbles *const k = lq_nibbles_kernels();
    block *b = out;
    for (int64_t i = 0; i < n; i += LQ_IQ4_BLOCK, b++) {
        const float sigma2 = imatrix ? lq_iq4_sigma2(x + i, LQ_IQ4_BLOCK) : 0;
        const float d = lq_iq4_scale(x + i, imatrix ? imatrix + i : NULL, sigma2);
        b->d = lq_f16_from_f32(d);
        k->pack_iq4(x + i, lq_inverse(d), b->codes); /* by the scale as it was before rounding */
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const lq_nibbles *const k = lq_nibbles_kernels();
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ4_BLOCK, b++)
        k->unpack(b->codes, LQ_IQ4_BLOCK / 2, lq_iq4_values, lq_f32_from_f16(b->d), out + i);
}

const lq_format lq_iq4_nl = {
    "iq4_nl", "IQ4_NL", 20, 25, LQ_IQ4_BLOCK, sizeof(block), quant, dequant,
};
