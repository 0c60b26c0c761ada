/* IQ4_NL: 32 codes of 4 bits and one F16 scale d; value = d * values[code]. Of the scales that put
 * the largest number on -127 to within 7, either way round, the one with the least weighted squared
 * error is kept, refined by least squares. Sums are F32, in order: the order is part of the format's
 * definition. IQ4_XS searches the scale of each 32 numbers in the same way. */
#include "format.h"
#include "block_parts.h"
#include "iq4_parts.h"

#include <math.h>

const int8_t lq_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

typedef struct block {
    uint16_t d;                           /* F16 */
    uint8_t codes[LQ_IQ4_BLOCK / 2];
} block;

/* How many of the half ways between two neighbouring values are not above x; NaN counts as above
 * all. */
static int nearest_code(float x) {
    int code = 0;
    for (int i = 1; i < 16; i++)
        code += !(2 * x < (float)(lq_iq4_values[i - 1] + lq_iq4_values[i]));
    return code;
}

typedef struct fit {
    float sum_wqx, sum_wqq; /* over the block: w q x and w q^2 */
} fit;

static fit fit_of(const float *x, const float *weight, float inverse) {
    fit f = {0, 0};
    for (int i = 0; i < LQ_IQ4_BLOCK; i++) {
        const float q = lq_iq4_values[nearest_code(inverse * x[i])];
        f.sum_wqx += weight[i] * q * x[i];
        f.sum_wqq += weight[i] * q * q;
    }
    return f;
}

float lq_iq4_sigma2(const float *x, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    return sum * (2.0f / (float)n);
}

float lq_iq4_scale(const float *x, const float *imatrix, float sigma2) {
    float weight[LQ_IQ4_BLOCK];
    for (int i = 0; i < LQ_IQ4_BLOCK; i++)
        weight[i] = imatrix ? imatrix[i] * sqrtf(sigma2 + x[i] * x[i]) : x[i] * x[i];
    const float max = lq_signed_max(x, LQ_IQ4_BLOCK);
    if (fabsf(max) < 1e-15f) return 0;
    fit f = fit_of(x, weight, 1 / (-max / lq_iq4_values[0]));
    float scale = f.sum_wqq > 0 ? f.sum_wqx / f.sum_wqq : 0;
    float best = scale * f.sum_wqx;
    for (int step = -7; step <= 7; step++) {
        f = fit_of(x, weight, (float)(step + lq_iq4_values[0]) / max);
        if (!(f.sum_wqq > 0 && f.sum_wqx * f.sum_wqx > best * f.sum_wqq)) continue;
        scale = f.sum_wqx / f.sum_wqq;
        best = scale * f.sum_wqx;
    }
    return scale;
}

void lq_iq4_pack(const float *x, float inverse, uint8_t codes[LQ_IQ4_BLOCK / 2]) {
    for (int i = 0; i < LQ_IQ4_BLOCK / 2; i++)
        codes[i] = (uint8_t)(nearest_code(inverse * x[i]) |
                             nearest_code(inverse * x[i + LQ_IQ4_BLOCK / 2]) << 4);
}

void lq_iq4_unpack(const uint8_t codes[LQ_IQ4_BLOCK / 2], float d, float *out) {
    for (int i = 0; i < LQ_IQ4_BLOCK / 2; i++) {
        out[i] = d * lq_iq4_values[codes[i] & 15];
        out[i + LQ_IQ4_BLOCK / 2] = d * lq_iq4_values[codes[i] >> 4];
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    block *b = out;
    for (int64_t i = 0; i < n; i += LQ_IQ4_BLOCK, b++) {
        const float sigma2 = imatrix ? lq_iq4_sigma2(x + i, LQ_IQ4_BLOCK) : 0;
        const float d = lq_iq4_scale(x + i, imatrix ? imatrix + i : NULL, sigma2);
        b->d = lq_f16_from_f32(d);
        lq_iq4_pack(x + i, lq_inverse(d), b->codes); /* by the scale as it was before rounding */
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += LQ_IQ4_BLOCK, b++)
        lq_iq4_unpack(b->codes, lq_f32_from_f16(b->d), out + i);
}

const lq_format lq_iq4_nl = {
    "iq4_nl", "IQ4_NL", 20, 25, LQ_IQ4_BLOCK, sizeof(block), quant, dequant,
};
