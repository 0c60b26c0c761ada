/* The scales of a super-block's groups: the weights that temper a search, the search for codes of
 * the scales themselves (facts: ggml-quants.c, make_qp_quants), and how each K format stores them.
 * Sums are F32, in order: the order is part of the formats' definition. */
#ifndef LOQUAT_SCALES_SCALAR_H
#define LOQUAT_SCALES_SCALAR_H

#include "groups_scalar.h"

LQ_SCALAR float sum_squares(const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

LQ_SCALAR float tempered(float importance, float mean_square, float x) {
    return importance * sqrtf(mean_square + x * x);
}

LQ_SCALAR int at_most(int code, int top) { return code < top ? code : top; }

/* Codes of n scales such that the largest becomes top; returns the scale of the scales. */
LQ_SCALAR float round_scales(const float *x, int n, int top, uint8_t *codes) {
    float max = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    const float inverse = max > 0 ? (float)top / max : 0;
    for (int i = 0; i < n; i++) codes[i] = (uint8_t)nearest_int(inverse * x[i]);
    return max / (float)top;
}

/* ---- scales weighted by importance ----------------------------------------------------------- */

/* A scale below zero, which importance can bring about, wraps around as ggml's codes do. */
LQ_SCALAR float first_scale_error(const float *x, const float *w, int n, float inverse) {
    const float scale = 1 / inverse;
    float error = 0;
    for (int i = 0; i < n; i++) {
        const float miss = x[i] - scale * (float)(uint8_t)nearest_int(inverse * x[i]);
        error += w[i] * miss * miss;
    }
    return error;
}

LQ_SCALAR float scale_error(const float *x, const float *w, int n, int top, float inverse) {
    const float scale = 1 / inverse;
    float error = 0;
    for (int i = 0; i < n; i++) {
        const float miss = x[i] - scale * (float)at_most(nearest_int(inverse * x[i]), top);
        error += w[i] * miss * miss;
    }
    return error;
}

/* Moves one code to where the scale fitted to all others would put x; true if that is better. */
LQ_SCALAR bool move_scale_code(float x, float w, int top, uint8_t *code, group_sums *s) {
    const float old = (float)*code;
    const float without = s->wxl - w * x * old, rest = s->wll - w * old * old;
    if (!(without > 0 && rest > 0)) return false;
    const int moved = at_most(nearest_int(x * rest / without), top);
    if (moved == *code) return false;
    const float wxl = without + w * x * (float)moved;
    const float wll = rest + w * (float)moved * (float)moved;
    if (!(wxl * wxl * s->wll > s->wxl * s->wxl * wll)) return false;
    *code = (uint8_t)moved;
    s->wxl = wxl;
    s->wll = wll;
    return true;
}

/* Codes 0..top of n scales, none negative; returns the scale of the scales. */
LQ_SCALAR float fit_scales(const float *x, const float *w, int n, int top, uint8_t *codes) {
    float max = 0;
    for (int i = 0; i < n; i++) codes[i] = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    if (max < 1e-15f) return 0;
    float inverse = (float)top / max, least = first_scale_error(x, w, n, inverse);
    for (int step = -4; step <= 4; step++) {
        if (step == 0) continue;
        const float trial = (0.1f * (float)step + (float)top) / max;
        const float error = scale_error(x, w, n, top, trial);
        if (!(error < least)) continue;
        least = error;
        inverse = trial;
    }
    group_sums s = no_sums();
    for (int i = 0; i < n; i++) {
        const int code = at_most(nearest_int(inverse * x[i]), top);
        codes[i] = (uint8_t)code;
        s.wxl += w[i] * x[i] * (float)code;
        s.wll += w[i] * (float)code * (float)code;
    }
    bool changed = true;
    for (int sweep = 0; sweep < 5 && changed; sweep++) {
        changed = false;
        for (int i = 0; i < n; i++)
            if (move_scale_code(x[i], w[i], top, &codes[i], &s)) changed = true;
    }
    return s.wll > 0 ? s.wxl / s.wll : 0;
}

/* w: NULL without importance. */
LQ_SCALAR float code_scales(const float *x, const float *w, int n, int top, uint8_t *codes) {
    return w ? fit_scales(x, w, n, top, codes) : round_scales(x, n, top, codes);
}

/* ---- how they are stored --------------------------------------------------------------------- */

/* Q3_K, 16 scales of 6 bits. Byte j: the low four bits of scales j and j + 8; byte 8 + j: the high
 * two of j, j + 4, ... */
LQ_SCALAR void pack_q3_scales(const uint8_t *scale, uint8_t *out) {
    for (int j = 0; j < 8; j++) out[j] = (uint8_t)((scale[j] & 15) | (scale[j + 8] & 15) << 4);
    for (int j = 0; j < 4; j++)
        out[8 + j] = (uint8_t)(scale[j] >> 4 | scale[j + 4] >> 4 << 2 | scale[j + 8] >> 4 << 4 |
                               scale[j + 12] >> 4 << 6);
}

/* Q3_K: that of group g, -32..31. */
LQ_SCALAR int q3_scale(const uint8_t *scales, int g) {
    const int low = scales[g % 8] >> (g < 8 ? 0 : 4) & 15;
    const int high = scales[8 + g % 4] >> 2 * (g / 4) & 3;
    return (low | high << 4) - 32;
}

/* Q3_K without importance: codes 0..63 of 16 scales such that the one of largest magnitude becomes
 * -32; returns the scale of the scales. */
LQ_SCALAR float code_q3_scales(const float *x, uint8_t *codes) {
    const float max = signed_max(x, 16, 1), inverse = max != 0 ? -32 / max : 0;
    for (int g = 0; g < 16; g++) {
        const int code = (int8_t)nearest_int(inverse * x[g]);
        codes[g] = (uint8_t)((code < -32 ? -32 : code > 31 ? 31 : code) + 32);
    }
    return max != 0 ? 1 / inverse : 0;
}

/* Q4_K and Q5_K, 8 scales and 8 minima of 6 bits. */
LQ_SCALAR void pack_q4_scales(const uint8_t *scale, const uint8_t *min, uint8_t *out) {
    for (int g = 0; g < 4; g++) {
        out[g] = (uint8_t)(scale[g] | scale[g + 4] >> 4 << 6);
        out[g + 4] = (uint8_t)(min[g] | min[g + 4] >> 4 << 6);
        out[g + 8] = (uint8_t)((scale[g + 4] & 15) | (min[g + 4] & 15) << 4);
    }
}

LQ_SCALAR int q4_scale(const uint8_t *s, int g) {
    return g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
}

LQ_SCALAR int q4_min(const uint8_t *s, int g) {
    return g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
}

/* Q6_K: codes of 16 scales such that the one of largest magnitude becomes -128; returns the scale
 * of the scales. 0: all are below 1e-15, and so is the block, whose bytes are 0. */
LQ_SCALAR float code_q6_scales(const float *x, int8_t *codes) {
    const float max = signed_max(x, 16, 1);
    if (fabsf(max) < 1e-15f) return 0;
    const float inverse = -128 / max;
    for (int g = 0; g < 16; g++) codes[g] = (int8_t)at_most(nearest_int(inverse * x[g]), 127);
    return 1 / inverse;
}

#endif
