/* The definition of the block formats in plain C (facts: ggml-quants.c, quantize_row_*_ref).
 *
 * Codes are made with the scale before it is rounded to F16. A scale so small that its inverse
 * overflows gives codes 0, as ggml's conversion to integers does on x86-64. */
#include "format.h"
#include "quant.h"

#include <math.h>

static float inverse_of(float d) { return d != 0 ? 1 / d : 0; }

/* d = m / -8 for m the first element of largest magnitude, with its sign; code =
 * trunc(x / d + 8.5). */
static void quant_q4_0_block(const float *x, lq_q4_0_block *block) {
    float m = 0;
    for (int i = 0; i < LQ_Q_BLOCK; i++)
        if (fabsf(x[i]) > fabsf(m)) m = x[i];
    const float d = m / -8, inverse = inverse_of(d);
    uint8_t code[LQ_Q_BLOCK];
    for (int i = 0; i < LQ_Q_BLOCK; i++) {
        const float v = x[i] * inverse + 8.5f;
        code[i] = isfinite(inverse) ? (uint8_t)fminf(v, 15) : 0;
    }
    block->d = lq_f16_from_f32(d);
    for (int i = 0; i < LQ_Q_BLOCK / 2; i++)
        block->codes[i] = (uint8_t)(code[i] | code[i + LQ_Q_BLOCK / 2] << 4);
}

void lq_quant_q4_0_ref(const float *x, void *out, int64_t n) {
    lq_q4_0_block *block = out;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK) quant_q4_0_block(x + i, block++);
}

/* d = largest magnitude / 127; code = x / d rounded, half away from zero. */
static void quant_q8_0_block(const float *x, lq_q8_0_block *block) {
    float m = 0;
    for (int i = 0; i < LQ_Q_BLOCK; i++) m = fmaxf(m, fabsf(x[i]));
    const float d = m / 127, inverse = inverse_of(d);
    block->d = lq_f16_from_f32(d);
    for (int i = 0; i < LQ_Q_BLOCK; i++)
        block->codes[i] = isfinite(inverse) ? (int8_t)roundf(x[i] * inverse) : 0;
}

void lq_quant_q8_0_ref(const float *x, void *out, int64_t n) {
    lq_q8_0_block *block = out;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK) quant_q8_0_block(x + i, block++);
}

void lq_dequant_q4_0_ref(const void *in, float *out, int64_t n) {
    const lq_q4_0_block *block = in;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const float d = lq_f32_from_f16(block->d);
        for (int j = 0; j < LQ_Q_BLOCK / 2; j++) {
            out[i + j] = (float)((block->codes[j] & 15) - 8) * d;
            out[i + j + LQ_Q_BLOCK / 2] = (float)((block->codes[j] >> 4) - 8) * d;
        }
    }
}

void lq_dequant_q8_0_ref(const void *in, float *out, int64_t n) {
    const lq_q8_0_block *block = in;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const float d = lq_f32_from_f16(block->d);
        for (int j = 0; j < LQ_Q_BLOCK; j++) out[i + j] = (float)block->codes[j] * d;
    }
}

void lq_dequant_f16_ref(const void *in, float *out, int64_t n) {
    const uint16_t *half = in;
    for (int64_t i = 0; i < n; i++) out[i] = lq_f32_from_f16(half[i]);
}

void lq_dequant_bf16_ref(const void *in, float *out, int64_t n) {
    const uint16_t *half = in;
    for (int64_t i = 0; i < n; i++) out[i] = lq_f32_from_bf16(half[i]);
}
