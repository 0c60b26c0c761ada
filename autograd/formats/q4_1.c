/* Q4_1: 32 codes of 4 bits, a scale d and a minimum; value = d * code + min. */
#include "block32.h"
#include "format.h"

enum { TOP = 15 }; /* the largest code */

typedef struct block {
    uint16_t d;                    /* F16 */
    uint16_t min;                  /* F16 */
    uint8_t nibbles[LQ_B32 / 2];
} block;

static void put(float d, float min, const uint8_t codes[LQ_B32], block *b) {
    b->d = lq_f16_from_f32(d);
    b->min = lq_f16_from_f32(min);
    lq_b32_pack(codes, b->nibbles);
}

/* One call is one row: its mean square tempers the importance. */
static void quant_weighted(const float *x, block *b, int64_t n, const float *imatrix) {
    const float mean_square = lq_sum_squares(x, n) / (float)n;
    lq_b32_batch batch;
    for (int64_t i = 0; i < n; i += batch.blocks * LQ_B32) {
        lq_b32_fit_affine(x + i, imatrix + i, n - i, mean_square, TOP, &batch);
        for (int k = 0; k < batch.blocks; k++)
            put(batch.fit.scale[k], -batch.fit.min[k], batch.codes[k], b++);
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    block *b = out;
    if (imatrix) {
        quant_weighted(x, b, n, imatrix);
        return;
    }
    for (int64_t i = 0; i < n; i += LQ_B32, b++) {
        float d, min;
        uint8_t codes[LQ_B32];
        lq_b32_span(x + i, TOP, &d, &min, codes);
        put(d, min, codes, b);
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0, blocks; i < n; i += blocks * LQ_B32, b += blocks) {
        float d[LQ_GROUPS], m[LQ_GROUPS];
        uint8_t codes[LQ_GROUPS][LQ_B32];
        blocks = lq_b32_count(n - i);
        for (int k = 0; k < blocks; k++) {
            d[k] = lq_f32_from_f16(b[k].d);
            m[k] = -lq_f32_from_f16(b[k].min);
            lq_b32_unpack(b[k].nibbles, codes[k]);
        }
        lq_groups()->expand(codes[0], (int)blocks, LQ_B32, 0, d, m, out + i);
    }
}

const lq_format lq_q4_1 = {"q4_1", "Q4_1", 3, 3, LQ_B32, sizeof(block), quant, dequant};
