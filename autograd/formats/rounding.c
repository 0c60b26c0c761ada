/* See rounding.h. An 8-bit activation is x / scale rounded half to even, where a Q8_0 weight's is
 * rounded half away: the inverse scale is 127 / largest, not 1 / (largest / 127). Q8_1, for weights
 * with a minimum (Q4_1, Q5_1), holds the same numbers as Q8_0 and their sum in F16; what the
 * rounding of that sum does to a product is not computed.
 *
 *   Q8_0  32 numbers: d = F16(largest magnitude / 127)
 *   Q8_K  256 numbers: d = 1 / (-127 / largest), F32, the sign being that of the largest */
#include "rounding.h"

#include "block_parts.h"
#include "groups.h"
#include "nibbles.h"

#include <math.h>
#include <string.h>
#include <strings.h>

enum { SMALL_BLOCK = 32, LARGE_BLOCK = 256 };

/* Zeros where the block is too small to have a scale. */
static void round_block(const float *x, float *y, int n, float inverse, float d) {
    if (d == 0 || !isfinite(inverse)) memset(y, 0, (size_t)n * sizeof *y);
    else lq_groups()->snap(x, n, inverse, d, y);
}

static void round_q8_0(const lq_rounding *self, const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += self->block) {
        const float most = lq_groups()->largest(x + i, self->block);
        round_block(x + i, y + i, self->block, 127 / most,
                    lq_f32_from_f16(lq_f16_from_f32(most / 127)));
    }
}

/* Rounding is symmetric, so the sign of the scale does not show. */
static void round_q8_k(const lq_rounding *self, const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += self->block) {
        const float inverse = 127 / lq_groups()->largest(x + i, self->block);
        round_block(x + i, y + i, self->block, inverse, 1 / inverse);
    }
}

/* The scale is not searched as a weight's is: the largest number gets the first value, and least
 * squares refine the scale but not the codes. */
static void round_iq4_nl(const lq_rounding *self, const float *x, float *y, int64_t n) {
    const lq_nibbles *const k = lq_nibbles_kernels();
    for (int64_t i = 0; i < n; i += self->block) {
        const float largest = lq_signed_max(x + i, self->block);
        const float inverse = 1 / (largest / lq_iq4_values[0]);
        const bool live = fabsf(largest) >= 1e-15f;
        uint8_t codes[SMALL_BLOCK / 2];
        float squares[SMALL_BLOCK];
        lq_iq4_fits f;
        for (int j = 0; j < SMALL_BLOCK; j++) squares[j] = x[i + j] * x[i + j];
        for (int t = 0; t < LQ_IQ4_TRIALS; t++) f.inverse[t] = inverse;
        k->fit_iq4(x + i, squares, &f);
        k->pack_iq4(x + i, inverse, codes);
        const float d = live && f.wqq[0] > 0 ? f.wqx[0] / f.wqq[0] : 0;
        k->unpack(codes, SMALL_BLOCK / 2, lq_iq4_values, lq_f32_from_f16(lq_f16_from_f32(d)),
                  y + i);
    }
}

/* As a weight of that format, through its bytes. */
static void round_through(const lq_rounding *self, const float *x, float *y, int64_t n) {
    uint8_t bytes[512];
    const int64_t chunk = (int64_t)sizeof bytes / self->fmt->bytes * self->block;
    for (int64_t i = 0; i < n; i += chunk) {
        const int64_t some = n - i < chunk ? n - i : chunk;
        self->fmt->quant(x + i, bytes, some, NULL);
        self->fmt->dequant(bytes, y + i, some);
    }
}

static const lq_rounding
    as_f16 = {&lq_f16, 1, round_through}, as_bf16 = {&lq_bf16, 1, round_through},
    as_q8_0 = {&lq_q8_0, SMALL_BLOCK, round_q8_0}, as_q8_k = {NULL, LARGE_BLOCK, round_q8_k},
    as_q4_0 = {&lq_q4_0, SMALL_BLOCK, round_through},
    as_q4_1 = {&lq_q4_1, SMALL_BLOCK, round_through},
    as_q5_0 = {&lq_q5_0, SMALL_BLOCK, round_through},
    as_q5_1 = {&lq_q5_1, SMALL_BLOCK, round_through},
    as_iq4_nl = {&lq_iq4_nl, SMALL_BLOCK, round_iq4_nl};

const lq_rounding *lq_activation_rounding(const lq_format *weight) {
    if (weight == &lq_f32) return NULL;
    if (weight == &lq_f16) return &as_f16;
    if (weight == &lq_bf16) return &as_bf16;
    return weight->block == LARGE_BLOCK ? &as_q8_k : &as_q8_0;
}

lq_status lq_cache_rounding(const lq_rounding **out, const char *what, const char *type) {
    static const lq_rounding *const rows[] = {&as_f16, &as_bf16, &as_q8_0,  &as_q4_0,
                                             &as_q4_1, &as_q5_0, &as_q5_1, &as_iq4_nl};
    *out = NULL;
    if (strcasecmp(type, "f32") == 0) return LQ_OK;
    for (int i = 0; i < LQ_ARRAY_LEN(rows) && !*out; i++)
        if (strcasecmp(rows[i]->fmt->name, type) == 0) *out = rows[i];
    return *out ? LQ_OK
                : lq_fail(LQ_ECONFIG,
                          "%s: found '%s', wanted f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or "
                          "iq4_nl", what, type);
}
