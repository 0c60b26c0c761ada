/* Packing of blocks of 32, and their codes with and without importance weights. See block32.h. */
#include "block32.h"

#include "block_parts.h"
#include "format.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { HALF = LQ_B32 / 2 };

int lq_b32_count(int64_t n) {
    return n < LQ_GROUPS * LQ_B32 ? (int)(n / LQ_B32) : LQ_GROUPS;
}

void lq_b32_pack(const uint8_t codes[restrict LQ_B32], uint8_t nibbles[restrict HALF]) {
    for (int i = 0; i < HALF; i++)
        nibbles[i] = (uint8_t)((codes[i] & 15) | (codes[i + HALF] & 15) << 4);
}

void lq_b32_unpack(const uint8_t nibbles[restrict HALF], uint8_t codes[restrict LQ_B32]) {
    for (int i = 0; i < HALF; i++) {
        codes[i] = nibbles[i] & 15;
        codes[i + HALF] = nibbles[i] >> 4;
    }
}

void lq_b32_pack5(const uint8_t codes[LQ_B32], uint8_t high[4], uint8_t nibbles[HALF]) {
    lq_b32_pack(codes, nibbles);
    for (int k = 0; k < 4; k++) {
        int bits = 0;
        for (int i = 0; i < 8; i++) bits |= codes[8 * k + i] >> 4 << i;
        high[k] = (uint8_t)bits;
    }
}

void lq_b32_unpack5(const uint8_t high[4], const uint8_t nibbles[HALF], uint8_t codes[LQ_B32]) {
    lq_b32_unpack(nibbles, codes);
    for (int k = 0; k < 4; k++) {
        uint64_t eight;
        memcpy(&eight, codes + 8 * k, sizeof eight);
        eight |= lq_spread_bits(high[k]) << 4;
        memcpy(codes + 8 * k, &eight, sizeof eight);
    }
}

float lq_b32_signed(const float x[LQ_B32], int half, uint8_t codes[LQ_B32]) {
    float low, high;
    lq_groups()->range(x, LQ_B32, &low, &high);
    const float max = -low == high ? lq_signed_max(x, LQ_B32) : -low > high ? low : high;
    const float d = max / (float)-half;
    lq_groups()->truncate(x, LQ_B32, 0, lq_inverse(d), (float)half + 0.5f, 2 * half - 1, codes);
    return d;
}

static void fill(const float *x, const float *imatrix, int64_t n, float mean_square,
                 lq_b32_batch *batch, lq_columns *c) {
    float w[LQ_GROUPS * LQ_B32];
    batch->blocks = lq_b32_count(n);
    lq_importance(x, imatrix, batch->blocks * LQ_B32, mean_square, w);
    lq_columns_fill(c, x, w, batch->blocks, LQ_B32);
}

static void take_codes(const float *x, int low, int high, lq_b32_batch *batch) {
    for (int b = 0; b < batch->blocks; b++)
        lq_fit_codes(&batch->fit, b, x + b * LQ_B32, LQ_B32, low, high, batch->codes[b]);
}

void lq_b32_fit_signed(const float *x, const float *imatrix, int64_t n, float mean_square, int half,
                       lq_b32_batch *batch) {
    lq_columns c;
    fill(x, imatrix, n, mean_square, batch, &c);
    lq_groups()->fit_signed(&c, half, &batch->fit);
    take_codes(x, -half, half - 1, batch);
}

/* ---- Q4_1 and Q5_1 --------------------------------------------------------------------------- */

/* Zeros are equal, but the sign of the first one is what the file gets. */
static float first_of_equals(const float *x, float value) {
    int i = 0;
    while (x[i] != value) i++;
    return x[i];
}

/* Without importance weights: the codes 0..top of d = (largest - least) / top, and the least. */
static void span(const float x[LQ_B32], int top, float *d, float *min, uint8_t codes[LQ_B32]) {
    float low, high;
    lq_groups()->range(x, LQ_B32, &low, &high);
    *min = low != 0 ? low : first_of_equals(x, low);
    *d = high > low ? (high - low) / (float)top : 0; /* also of zeros with different signs */
    lq_groups()->truncate(x, LQ_B32, low, lq_inverse(*d), 0.5f, top, codes);
}

static void fit_affine(const float *x, const float *imatrix, int64_t n, float mean_square, int top,
                       lq_b32_batch *batch) {
    const lq_affine_rule rule = {top, -0.9f, 0.05f, 36, .absolute = 0};
    lq_columns c;
    fill(x, imatrix, n, mean_square, batch, &c);
    lq_groups()->fit_affine(&c, &rule, &batch->fit);
    take_codes(x, 0, top, batch);
}

/* Writes a block and returns the place of the next. */
static uint8_t *put(const lq_b32_affine *kind, float d, float min, const uint8_t codes[LQ_B32],
                    uint8_t *block) {
    const uint16_t head[] = {lq_f16_from_f32(d), lq_f16_from_f32(min)};
    static_assert(sizeof head == LQ_B32_AFFINE_HEAD, "two F16");
    memcpy(block, head, sizeof head);
    kind->pack(codes, block + sizeof head);
    return block + sizeof head + kind->code_bytes;
}

static void quant_weighted(const lq_b32_affine *kind, const float *x, uint8_t *block, int64_t n,
                           const float *imatrix) {
    const float mean_square = lq_sum_squares(x, n) / (float)n;
    lq_b32_batch batch;
    for (int64_t i = 0; i < n; i += batch.blocks * LQ_B32) {
        fit_affine(x + i, imatrix + i, n - i, mean_square, kind->top, &batch);
        for (int k = 0; k < batch.blocks; k++)
            block = put(kind, batch.fit.scale[k], -batch.fit.min[k], batch.codes[k], block);
    }
}

void lq_b32_affine_quant(const lq_b32_affine *kind, const float *x, void *out, int64_t n,
                         const float *imatrix) {
    uint8_t *block = out;
    if (imatrix) {
        quant_weighted(kind, x, block, n, imatrix);
        return;
    }
    for (int64_t i = 0; i < n; i += LQ_B32) {
        float d, min;
        uint8_t codes[LQ_B32];
        span(x + i, kind->top, &d, &min, codes);
        block = put(kind, d, min, codes, block);
    }
}

void lq_b32_affine_dequant(const lq_b32_affine *kind, const void *in, float *out, int64_t n) {
    const uint8_t *block = in;
    for (int64_t i = 0, blocks; i < n; i += blocks * LQ_B32) {
        float d[LQ_GROUPS], m[LQ_GROUPS];
        uint8_t codes[LQ_GROUPS][LQ_B32];
        blocks = lq_b32_count(n - i);
        for (int k = 0; k < blocks; k++, block += LQ_B32_AFFINE_HEAD + kind->code_bytes) {
            uint16_t head[2];
            memcpy(head, block, sizeof head);
            d[k] = lq_f32_from_f16(head[0]);
            m[k] = -lq_f32_from_f16(head[1]);
            kind->unpack(block + sizeof head, codes[k]);
        }
        lq_groups()->expand(codes[0], (int)blocks, LQ_B32, 0, d, m, out + i);
    }
}
