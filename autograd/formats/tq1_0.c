/* TQ1_0: 256 ternary codes 0, 1, 2 and one F16 scale d = the largest magnitude; value = d * (code -
 * 1). Five codes t0..t4 share a byte: as the fraction 0.t0t1t2t3t4 in base 3, in 256ths, rounded
 * up, so that multiplying by 3 moves one code after the other out at the top. Bytes come in runs; a
 * byte's codes are a run's length apart. The last run has four codes per byte. An importance
 * matrix does not change it. */
#include "format.h"
#include "block_parts.h"

enum { BLOCK = 256, BYTES = 52, N_RUNS = 3 };

typedef struct block {
    uint8_t codes[BYTES];
    uint16_t d;    /* F16 */
} block;

static const struct run { int bytes, codes; } runs[N_RUNS] = {{32, 5}, {16, 5}, {4, 4}};

/* The codes of x[0], x[stride], ... */
static uint8_t pack(const float *x, int stride, int n, float inverse) {
    int number = 0;
    for (int k = 0; k < 5; k++)
        number = number * 3 + (k < n ? lq_trit(x[k * stride] * inverse) : 0);
    return (uint8_t)((number * 256 + 242) / 243);
}

static void quant_block(const float *x, block *b) {
    const float d = lq_absmax(x, BLOCK), inverse = lq_finite_inverse(d);
    b->d = lq_f16_from_f32(d);
    uint8_t *code = b->codes;
    for (int r = 0; r < N_RUNS; r++) {
        for (int i = 0; i < runs[r].bytes; i++)
            *code++ = pack(x + i, runs[r].bytes, runs[r].codes, inverse);
        x += runs[r].bytes * runs[r].codes;
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK) quant_block(x + i, b++);
}

static void dequant_block(const block *b, float *out) {
    static const uint8_t power_of_3[5] = {1, 3, 9, 27, 81};
    const float d = lq_f32_from_f16(b->d);
    const uint8_t *code = b->codes;
    for (int r = 0; r < N_RUNS; code += runs[r++].bytes) {
        for (int k = 0; k < runs[r].codes; k++) {
            for (int i = 0; i < runs[r].bytes; i++) {
                const uint8_t rest = (uint8_t)(code[i] * power_of_3[k]);
                *out++ = (float)((rest * 3 >> 8) - 1) * d;
            }
        }
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK) dequant_block(b++, out + i);
}

const lq_format lq_tq1_0 = {"tq1_0", "TQ1_0", 34, 36, BLOCK, sizeof(block), quant, dequant};
