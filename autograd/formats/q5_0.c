/* Q5_0: 32 codes of 5 bits and a scale d; value = d * (code - 16). */
#include "block32.h"
#include "format.h"

enum { HALF_RANGE = 16 }; /* codes stand for -16..15 */

typedef struct block {
    uint16_t d;                    /* F16 */
    uint8_t high[4];               /* bit j: the fifth bit of element j */
    uint8_t nibbles[LQ_B32 / 2];
} block;

static void put(float d, const uint8_t codes[LQ_B32], block *b) {
    b->d = lq_f16_from_f32(d);
    lq_b32_pack5(codes, b->high, b->nibbles);
}

/* One call is one row: its mean square tempers the importance. */
static void quant_weighted(const float *x, block *b, int64_t n, const float *imatrix) {
    const float mean_square = lq_sum_squares(x, n) / (float)n;
    lq_b32_batch batch;
    for (int64_t i = 0; i < n; i += batch.blocks * LQ_B32) {
        lq_b32_fit_signed(x + i, imatrix + i, n - i, mean_square, HALF_RANGE, &batch);
        for (int k = 0; k < batch.blocks; k++) put(batch.fit.scale[k], batch.codes[k], b++);
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    block *b = out;
    if (imatrix) {
        quant_weighted(x, b, n, imatrix);
        return;
    }
    for (int64_t i = 0; i < n; i += LQ_B32, b++) {
        uint8_t codes[LQ_B32];
        put(lq_b32_signed(x + i, HALF_RANGE, codes), codes, b);
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
            m[k] = 0;
            lq_b32_unpack5(b[k].high, b[k].nibbles, codes[k]);
        }
        lq_groups()->expand(codes[0], (int)blocks, LQ_B32, HALF_RANGE, d, m, out + i);
    }
}

const lq_format lq_q5_0 = {"q5_0", "Q5_0", 6, 8, LQ_B32, sizeof(block), quant, dequant};
