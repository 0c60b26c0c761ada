/* The group kernels in plain C, one group after the other: the definition of what the vector
 * versions compute (facts: ggml-quants.c, make_qx_quants, make_q3_quants, make_qkx*_quants). */
#include "groups.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const float negligible = 1e-15f;

/* v rounded half to even, limited. Far outside the codes' range it is what the low bits of
 * v + 1.5 2^23 happen to be, as in ggml. */
static int nearest(float v, int low, int high) {
    const float shifted = v + 0x1.8p23f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    const int code = (int)(bits & 0x7fffffu) - 0x400000;
    return code < low ? low : code > high ? high : code;
}

static float signed_max(const float *x, int size) {
    float best = 0;
    for (int i = 0; i < size; i++)
        if (fabsf(x[i * LQ_GROUPS]) > fabsf(best)) best = x[i * LQ_GROUPS];
    return best;
}

typedef struct sums {
    float wl, wll, wxl; /* of weight times code, its square, its product with x */
} sums;

static sums signed_sums(const float *x, const float *w, int size, int half, float inverse) {
    sums s = {0, 0, 0};
    for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        const float l = (float)nearest(inverse * x[i], -half, half - 1);
        s.wxl += w[i] * x[i] * l;
        s.wll += w[i] * l * l;
    }
    return s;
}

static void fit_signed_group(const float *x, const float *w, int size, int half, float *scale,
                             float *inverse) {
    const float max = signed_max(x, size);
    if (fabsf(max) < negligible) return;
    *inverse = (float)-half / max;
    sums s = signed_sums(x, w, size, half, *inverse);
    *scale = s.wll != 0 ? s.wxl / s.wll : 0;
    float best = *scale * s.wxl;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) continue;
        const float trial = -((float)half + 0.1f * (float)step) / max;
        s = signed_sums(x, w, size, half, trial);
        if (!(s.wll > 0 && s.wxl * s.wxl > best * s.wll)) continue;
        *inverse = trial;
        *scale = s.wxl / s.wll;
        best = *scale * s.wxl;
    }
}

static void fit_signed(const lq_columns *c, int half, lq_fit *fit) {
    memset(fit, 0, sizeof *fit);
    for (int g = 0; g < c->groups; g++)
        fit_signed_group(c->x + g, c->w + g, c->size, half, &fit->scale[g], &fit->inverse[g]);
}

/* Moves code i to where the scale fitted to all others would put x; true if that is better. */
static bool move_code(float x, int half, float *code, sums *s) {
    const float w = x * x, without = s->wxl - w * x * *code;
    if (!(without > 0)) return false;
    const float rest = s->wll - w * *code * *code;
    const float moved = (float)nearest(x * rest / without, -half, half - 1);
    if (moved == *code) return false;
    const float wxl = without + w * x * moved, wll = rest + w * moved * moved;
    if (!(wll > 0 && wxl * wxl * s->wll > s->wxl * s->wxl * wll)) return false;
    *code = moved;
    s->wxl = wxl;
    s->wll = wll;
    return true;
}

static float fit_sweeping_group(const float *x, int size, int half, float *codes) {
    const float max = signed_max(x, size);
    if (fabsf(max) < negligible) return 0;
    const float inverse = (float)-half / max;
    sums s = {0, 0, 0};
    for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        const float w = x[i] * x[i];
        codes[i] = (float)nearest(inverse * x[i], -half, half - 1);
        s.wxl += w * x[i] * codes[i];
        s.wll += w * codes[i] * codes[i];
    }
    bool changed = true;
    for (int sweep = 0; sweep < 5 && changed; sweep++) {
        changed = false;
        for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS)
            changed |= move_code(x[i], half, &codes[i], &s);
    }
    for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS) codes[i] += (float)half;
    return s.wll > 0 ? s.wxl / s.wll : 0;
}

static void fit_sweeping(const lq_columns *c, int half, lq_fit *fit, float *codes) {
    memset(fit, 0, sizeof *fit);
    memset(codes, 0, (size_t)(c->size * LQ_GROUPS) * sizeof *codes);
    for (int g = 0; g < c->groups; g++)
        fit->scale[g] = fit_sweeping_group(c->x + g, c->size, half, codes + g);
}

typedef struct line {
    float scale, min, inverse, base;
} line;

static float affine_error(const float *x, const float *w, int size, const lq_affine_rule *rule,
                          line to) {
    float error = 0;
    for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        const float l = (float)nearest(to.inverse * (x[i] - to.base), 0, rule->top);
        const float miss = to.scale * l + to.min - x[i];
        error += w[i] * (rule->absolute ? fabsf(miss) : miss * miss);
    }
    return error;
}

static sums affine_sums(const float *x, const float *w, int size, int top, float inverse,
                        float base) {
    sums s = {0, 0, 0};
    for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        const float l = (float)nearest(inverse * (x[i] - base), 0, top);
        s.wl += w[i] * l;
        s.wll += w[i] * l * l;
        s.wxl += w[i] * l * x[i];
    }
    return s;
}

/* The line through the origin of the codes with the least squared error; at code 0 at most 0. */
static bool solve(sums s, float sum_w, float sum_x, line *to) {
    const float determinant = sum_w * s.wll - s.wl * s.wl;
    if (!(determinant > 0)) return false;
    to->scale = (sum_w * s.wxl - sum_x * s.wl) / determinant;
    to->min = (s.wll * sum_x - s.wl * s.wxl) / determinant;
    if (to->min > 0) {
        to->min = 0;
        to->scale = s.wxl / s.wll;
    }
    return true;
}

static line fit_affine_group(const float *x, const float *w, int size, const lq_affine_rule *rule) {
    float low = x[0], high = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = LQ_GROUPS; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (low > 0) low = 0;
    if (!(low < high)) return (line){0, low, 0, 0};
    const float inverse = (float)rule->top / (high - low);
    line best = {1 / inverse, low, inverse, low};
    float least = affine_error(x, w, size, rule, best);
    for (int k = 0; k <= rule->steps; k++) {
        /* the minimum accepted so far, not the data's, is where the next grid starts */
        line trial = {0, 0, 0, best.min};
        trial.inverse = (rule->first + rule->step * (float)k + (float)rule->top) /
                        (high - best.min);
        const sums s = affine_sums(x, w, size, rule->top, trial.inverse, trial.base);
        if (!solve(s, sum_w, sum_x, &trial)) continue;
        const float error = affine_error(x, w, size, rule, trial);
        if (!(error < least)) continue;
        least = error;
        best = trial;
    }
    return best;
}

static void fit_affine(const lq_columns *c, const lq_affine_rule *rule, lq_fit *fit) {
    memset(fit, 0, sizeof *fit);
    for (int g = 0; g < c->groups; g++) {
        const line best = fit_affine_group(c->x + g, c->w + g, c->size, rule);
        fit->scale[g] = best.scale;
        fit->min[g] = -best.min;
        fit->inverse[g] = best.inverse;
        fit->base[g] = best.base;
    }
}

static void round_codes(const float *x, int n, float shift, float d, int low, int high,
                        uint8_t *codes) {
    for (int i = 0; i < n; i++)
        codes[i] = (uint8_t)(nearest((x[i] + shift) / d, low, high) - low);
}

static void truncate(const float *x, int n, float base, float inverse, float offset, int top,
                     uint8_t *codes) {
    for (int i = 0; i < n; i++) {
        const float code = (x[i] - base) * inverse + offset;
        codes[i] = isfinite(code) ? (uint8_t)fminf(code, (float)top) : 0;
    }
}

static void range(const float *x, int n, float *low, float *high) {
    *low = *high = x[0];
    for (int i = 1; i < n; i++) {
        if (x[i] < *low) *low = x[i];
        if (x[i] > *high) *high = x[i];
    }
}

static float largest(const float *x, int n) {
    float most = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > most) most = fabsf(x[i]);
    return most;
}

/* The last place of 1.5 2^23 is 1. */
static void snap(const float *x, int n, float inverse, float d, float *y) {
    for (int i = 0; i < n; i++) y[i] = d * (x[i] * inverse + 0x1.8p23f - 0x1.8p23f);
}

static void trits(const float *x, int n, float inverse, uint8_t *codes) {
    for (int i = 0; i < n; i++) {
        const float v = x[i] * inverse;
        codes[i] = (uint8_t)(1 + (v >= 0.5f) - (v <= -0.5f));
    }
}

static void expand_trits(const uint8_t *bytes, int n, int digits, float d, float *out) {
    for (int i = 0; i < n; i++) {
        int rest = bytes[i];
        for (int k = 0; k < digits; k++) {
            rest *= 3;
            out[k * n + i] = (float)(rest / 256 - 1) * d;
            rest %= 256;
        }
    }
}

static void expand(const uint8_t *codes, int groups, int size, int offset, const float *d,
                   const float *m, float *out) {
    for (int g = 0; g < groups; g++)
        for (int i = g * size; i < (g + 1) * size; i++)
            out[i] = d[g] * (float)(codes[i] - offset) - m[g];
}

const lq_group_kernels lq_groups_ref = {
    .fit_signed = fit_signed,
    .fit_sweeping = fit_sweeping,
    .fit_affine = fit_affine,
    .round = round_codes,
    .truncate = truncate,
    .range = range,
    .largest = largest,
    .snap = snap,
    .trits = trits,
    .expand_trits = expand_trits,
    .expand = expand,
};
