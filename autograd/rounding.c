/* See rounding.h. An 8-bit activation is x / scale rounded half to even, where a Q8_0 weight's is
 * rounded half away: the inverse scale is 127 / largest, not 1 / (largest / 127). Q8_1, for weights
 * with a minimum, holds the same numbers as Q8_0 and their sum.
 *
 *   Q8_0  32 numbers: d = F16(largest magnitude / 127)
 *   Q8_K  256 numbers: d = 1 / (-127 / largest), F32, the sign being that of the largest */
#include "rounding.h"

#include <math.h>
#include <string.h>
#include <strings.h>

enum { SMALL_BLOCK = 32, LARGE_BLOCK = 256 };

/* To the nearest integer, half to even, for |v| < 2^22. */
static float nearest(float v) { return v + 0x1.8p23f - 0x1.8p23f; }

static float absmax(const float *x, int n) {
    float most = 0;
    for (int i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* y = d * nearest(x * inverse); zeros where the block is too small to have a scale. */
static void round_block(const float *x, float *y, int n, float inverse, float d) {
    if (d == 0 || !isfinite(inverse)) {
        memset(y, 0, (size_t)n * sizeof *y);
        return;
    }
    for (int i = 0; i < n; i++) y[i] = d * nearest(x[i] * inverse);
}

static void round_q8_0(const lq_rounding *self, const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += self->block) {
        const float most = absmax(x + i, self->block);
        round_block(x + i, y + i, self->block, 127 / most,
                    lq_f32_from_f16(lq_f16_from_f32(most / 127)));
    }
}

/* Rounding is symmetric, so the sign of the scale does not show. */
static void round_q8_k(const lq_rounding *self, const float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += self->block) {
        const float inverse = 127 / absmax(x + i, self->block);
        round_block(x + i, y + i, self->block, inverse, 1 / inverse);
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
    as_q4_0 = {&lq_q4_0, SMALL_BLOCK, round_through};

const lq_rounding *lq_activation_rounding(const lq_format *weight) {
    if (weight == &lq_f32) return NULL;
    if (weight == &lq_f16) return &as_f16;
    if (weight == &lq_bf16) return &as_bf16;
    return weight->block == LARGE_BLOCK ? &as_q8_k : &as_q8_0;
}

lq_status lq_cache_rounding(const lq_rounding **out, const char *what, const char *type) {
    static const lq_rounding *const rows[] = {&as_f16, &as_bf16, &as_q8_0, &as_q4_0};
    *out = NULL;
    if (strcasecmp(type, "f32") == 0) return LQ_OK;
    for (int i = 0; i < LQ_ARRAY_LEN(rows) && !*out; i++)
        if (strcasecmp(rows[i]->fmt->name, type) == 0) *out = rows[i];
    return *out ? LQ_OK
                : lq_fail(LQ_ECONFIG, "%s: found '%s', wanted f32, f16, bf16, q8_0 or q4_0", what,
                          type);
}
