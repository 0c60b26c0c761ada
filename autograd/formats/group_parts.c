/* Shared steps of the formats with searched scales. See group_parts.h (facts: ggml-quants.c,
 * make_qp_quants). Sums are F32, in order: the order is part of the formats' definition. */
#include "group_parts.h"

#include "block_parts.h"

#include <math.h>
#include <string.h>

float lq_sum_squares(const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

void lq_importance(const float *x, const float *imatrix, int64_t n, float mean_square, float *w) {
    for (int64_t i = 0; i < n; i++) w[i] = imatrix[i] * sqrtf(mean_square + x[i] * x[i]);
}

static void transpose(float *columns, const float *x, int groups, int size) {
    for (int i = 0; i < size; i++) {
        for (int g = 0; g < groups; g++) columns[i * LQ_GROUPS + g] = x[g * size + i];
        for (int g = groups; g < LQ_GROUPS; g++) columns[i * LQ_GROUPS + g] = 0;
    }
}

void lq_columns_fill(lq_columns *c, const float *x, const float *w, int groups, int size) {
    c->groups = groups;
    c->size = size;
    transpose(c->x, x, groups, size);
    transpose(c->w, w, groups, size);
}

void lq_columns_weight_sums(const lq_columns *c, float sums[LQ_GROUPS]) {
    memset(sums, 0, LQ_GROUPS * sizeof *sums);
    for (int i = 0; i < c->size; i++)
        for (int g = 0; g < LQ_GROUPS; g++) sums[g] += c->w[i * LQ_GROUPS + g];
}

static int limited(int code, int low, int high) {
    return code < low ? low : code > high ? high : code;
}

void lq_fit_codes(const lq_fit *fit, int g, const float *x, int size, int low, int high,
                  uint8_t *codes) {
    const float inverse = fit->inverse[g], base = fit->base[g];
    for (int i = 0; i < size; i++) {
        const int code = limited(lq_nearest_int(inverse * (x[i] - base)), low, high);
        codes[i] = inverse != 0 ? (uint8_t)(code - low) : 0;
    }
}

static int at_most(int code, int top) { return code < top ? code : top; }

float lq_round_scales(const float *x, int n, int top, uint8_t *codes) {
    float max = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    const float inverse = max > 0 ? (float)top / max : 0;
    for (int i = 0; i < n; i++) codes[i] = (uint8_t)lq_nearest_int(inverse * x[i]);
    return max / (float)top;
}

/* A scale below zero, which importance can bring about, wraps around as ggml's codes do. */
static float first_error(const float *x, const float *w, int n, float inverse) {
    const float scale = 1 / inverse;
    float error = 0;
    for (int i = 0; i < n; i++) {
        const float miss = x[i] - scale * (float)(uint8_t)lq_nearest_int(inverse * x[i]);
        error += w[i] * miss * miss;
    }
    return error;
}

static float grid_error(const float *x, const float *w, int n, int top, float inverse) {
    const float scale = 1 / inverse;
    float error = 0;
    for (int i = 0; i < n; i++) {
        const float miss = x[i] - scale * (float)at_most(lq_nearest_int(inverse * x[i]), top);
        error += w[i] * miss * miss;
    }
    return error;
}

typedef struct sums {
    float wxl, wll; /* of weight times code times x, and times code squared */
} sums;

/* Moves one code to where the scale fitted to all others would put x; true if that is better. */
static bool move_code(float x, float w, int top, uint8_t *code, sums *s) {
    const float old = (float)*code;
    const float without = s->wxl - w * x * old, rest = s->wll - w * old * old;
    if (!(without > 0 && rest > 0)) return false;
    const int moved = at_most(lq_nearest_int(x * rest / without), top);
    if (moved == *code) return false;
    const sums now = {without + w * x * (float)moved, rest + w * (float)moved * (float)moved};
    if (!(now.wxl * now.wxl * s->wll > s->wxl * s->wxl * now.wll)) return false;
    *code = (uint8_t)moved;
    *s = now;
    return true;
}

float lq_fit_scales(const float *x, const float *w, int n, int top, uint8_t *codes) {
    memset(codes, 0, (size_t)n);
    float max = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    if (max < 1e-15f) return 0;
    float inverse = (float)top / max, least = first_error(x, w, n, inverse);
    for (int step = -4; step <= 4; step++) {
        if (step == 0) continue;
        const float trial = (0.1f * (float)step + (float)top) / max;
        const float error = grid_error(x, w, n, top, trial);
        if (!(error < least)) continue;
        least = error;
        inverse = trial;
    }
    sums s = {0, 0};
    for (int i = 0; i < n; i++) {
        const int code = at_most(lq_nearest_int(inverse * x[i]), top);
        codes[i] = (uint8_t)code;
        s.wxl += w[i] * x[i] * (float)code;
        s.wll += w[i] * (float)code * (float)code;
    }
    bool changed = true;
    for (int sweep = 0; sweep < 5 && changed; sweep++) {
        changed = false;
        for (int i = 0; i < n; i++) changed |= move_code(x[i], w[i], top, &codes[i], &s);
    }
    return s.wll > 0 ? s.wxl / s.wll : 0;
}
