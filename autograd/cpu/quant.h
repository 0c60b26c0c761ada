/* Block quantizers and dequantizers per instruction set; the codecs of the formats point here.
 * Every version of a quantizer writes the same bytes: those of ggml's reference on x86-64. No
 * contraction, no fused multiply-add: either would move codes at ties. */
#ifndef LOQUAT_QUANT_H
#define LOQUAT_QUANT_H

#include <stdint.h>

enum { LQ_Q_BLOCK = 32 };

typedef struct lq_q4_0_block {
    uint16_t d;                       /* F16 */
    uint8_t codes[LQ_Q_BLOCK / 2];    /* low nibble element j, high nibble element j + 16 */
} lq_q4_0_block;

typedef struct lq_q8_0_block {
    uint16_t d;                       /* F16 */
    int8_t codes[LQ_Q_BLOCK];
} lq_q8_0_block;

void lq_quant_q4_0_ref(const float *x, void *out, int64_t n);
void lq_quant_q4_0_avx2(const float *x, void *out, int64_t n);
void lq_quant_q4_0_avx512(const float *x, void *out, int64_t n);

void lq_quant_q8_0_ref(const float *x, void *out, int64_t n);
void lq_quant_q8_0_avx2(const float *x, void *out, int64_t n);
void lq_quant_q8_0_avx512(const float *x, void *out, int64_t n);

void lq_dequant_q4_0_ref(const void *in, float *out, int64_t n);
void lq_dequant_q4_0_avx2(const void *in, float *out, int64_t n);
void lq_dequant_q4_0_avx512(const void *in, float *out, int64_t n);

void lq_dequant_q8_0_ref(const void *in, float *out, int64_t n);
void lq_dequant_q8_0_avx2(const void *in, float *out, int64_t n);
void lq_dequant_q8_0_avx512(const void *in, float *out, int64_t n);

void lq_dequant_f16_ref(const void *in, float *out, int64_t n);
void lq_dequant_f16_avx2(const void *in, float *out, int64_t n);
void lq_dequant_f16_avx512(const void *in, float *out, int64_t n);

void lq_dequant_bf16_ref(const void *in, float *out, int64_t n);
void lq_dequant_bf16_avx2(const void *in, float *out, int64_t n);
void lq_dequant_bf16_avx512(const void *in, float *out, int64_t n);

#endif
