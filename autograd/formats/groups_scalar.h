/* The searches of groups.h for one group, whose numbers lie `stride` apart (facts: ggml-quants.c,
 * make_qx_quants, make_q3_quants, make_qkx*_quants). Sums are F32, in order of the elements: that
 * order is part of the formats' definition. */
#ifndef LOQUAT_GROUPS_SCALAR_H
#define LOQUAT_GROUPS_SCALAR_H

#include "affine_rule.h"
#include "halves_scalar.h"

/* v rounded half to even, for |v| < 2^22; NaN gives 0. Beyond, what ggml's trick gives: the low
 * bits of v + 1.5 2^23, whose last place is 1. */
LQ_SCALAR int nearest_int(float v) {
    return (int)(float_to_bits(v + 0x1.8p23f) & 0x7fffffu) - 0x400000;
}

LQ_SCALAR int nearest(float v, int low, int high) {
    const int code = nearest_int(v);
    return code < low ? low : code > high ? high : code;
}

/* Truncated, at most top; what is no number gives 0. */
LQ_SCALAR uint8_t truncated(float code, int top) {
    return (uint8_t)(isfinite(code) ? (uint8_t)fminf(code, (float)top) : 0);
}

/* d nearest(x inverse), |x inverse| below 2^22: the last place of 1.5 2^23 is 1. */
LQ_SCALAR float snapped(float x, float inverse, float d) {
    return d * (x * inverse + 0x1.8p23f - 0x1.8p23f);
}

/* 1 / d, or 0 for 0. */
LQ_SCALAR float inverse_of(float d) { return d != 0 ? 1 / d : 0; }

/* 1 / d; 0 where that is infinite: all codes are then those of 0. */
LQ_SCALAR float finite_inverse(float d) {
    const float inverse = inverse_of(d);
    return isfinite(inverse) ? inverse : 0;
}

/* The first element of largest magnitude. */
LQ_SCALAR float signed_max(const float *x, int n, int stride) {
    float best = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i * stride]) > fabsf(best)) best = x[i * stride];
    return best;
}

/* Where a search ended: x is about scale * code + min; see lq_fit, whose min is the negative. */
typedef struct group_fit {
    float scale, min, inverse, base;
} group_fit;

LQ_SCALAR group_fit make_fit(float scale, float min, float inverse, float base) {
    group_fit f;
    f.scale = scale;
    f.min = min;
    f.inverse = inverse;
    f.base = base;
    return f;
}

/* The code that the search found for x, low..high as 0... */
LQ_SCALAR uint8_t fit_code(float inverse, float base, float x, int low, int high) {
    return (uint8_t)(inverse != 0 ? nearest(inverse * (x - base), low, high) - low : 0);
}

/* The code 0..top nearest to x where the scales stay: x is step * code - low. Where the step is
 * zero every code means the same; the one that means zero without a low. */
LQ_SCALAR uint8_t kept_scale_code(float x, float step, float low, int top) {
    const float at = step != 0 ? (x + low) / step : 0;
    return (uint8_t)fminf(fmaxf(rintf(at), 0), (float)top);
}

typedef struct group_sums {
    float wl, wll, wxl; /* of weight times code, its square, its product with x */
} group_sums;

LQ_SCALAR group_sums no_sums(void) {
    group_sums s;
    s.wl = s.wll = s.wxl = 0;
    return s;
}

/* ---- codes with a sign ----------------------------------------------------------------------- */

LQ_SCALAR group_sums signed_sums(const float *x, const float *w, int n, int stride, int half,
                                 float inverse) {
    group_sums s = no_sums();
    for (int i = 0; i < n * stride; i += stride) {
        const float l = (float)nearest(inverse * x[i], -half, half - 1);
        s.wxl += w[i] * x[i] * l;
        s.wll += w[i] * l * l;
    }
    return s;
}

LQ_SCALAR group_fit fit_signed_group(const float *x, const float *w, int n, int stride, int half) {
    group_fit fit = make_fit(0, 0, 0, 0);
    const float max = signed_max(x, n, stride);
    if (fabsf(max) < 1e-15f) return fit;
    fit.inverse = (float)-half / max;
    group_sums s = signed_sums(x, w, n, stride, half, fit.inverse);
    fit.scale = s.wll != 0 ? s.wxl / s.wll : 0;
    float best = fit.scale * s.wxl;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) continue;
        const float trial = -((float)half + 0.1f * (float)step) / max;
        s = signed_sums(x, w, n, stride, half, trial);
        if (!(s.wll > 0 && s.wxl * s.wxl > best * s.wll)) continue;
        fit.inverse = trial;
        fit.scale = s.wxl / s.wll;
        best = fit.scale * s.wxl;
    }
    return fit;
}

/* Moves code i to where the scale fitted to all others would put x; true if that is better. */
LQ_SCALAR bool move_signed_code(float x, int half, float *code, group_sums *s) {
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

/* Returns the scale. codes, plus half, lie as x does; untouched where all is below 1e-15. */
LQ_SCALAR float fit_sweeping_group(const float *x, int n, int stride, int half, float *codes) {
    const float max = signed_max(x, n, stride);
    if (fabsf(max) < 1e-15f) return 0;
    const float inverse = (float)-half / max;
    group_sums s = no_sums();
    for (int i = 0; i < n * stride; i += stride) {
        const float w = x[i] * x[i];
        codes[i] = (float)nearest(inverse * x[i], -half, half - 1);
        s.wxl += w * x[i] * codes[i];
        s.wll += w * codes[i] * codes[i];
    }
    bool changed = true;
    for (int sweep = 0; sweep < 5 && changed; sweep++) {
        changed = false;
        for (int i = 0; i < n * stride; i += stride)
            if (move_signed_code(x[i], half, &codes[i], &s)) changed = true;
    }
    for (int i = 0; i < n * stride; i += stride) codes[i] += (float)half;
    return s.wll > 0 ? s.wxl / s.wll : 0;
}

/* ---- codes above a minimum ------------------------------------------------------------------- */

LQ_SCALAR float affine_error(const float *x, const float *w, int n, int stride,
                             const lq_affine_rule *rule, const group_fit *to) {
    float error = 0;
    for (int i = 0; i < n * stride; i += stride) {
        const float l = (float)nearest(to->inverse * (x[i] - to->base), 0, rule->top);
        const float miss = to->scale * l + to->min - x[i];
        error += w[i] * (rule->absolute ? fabsf(miss) : miss * miss);
    }
    return error;
}

LQ_SCALAR group_sums affine_sums(const float *x, const float *w, int n, int stride, int top,
                                 float inverse, float base) {
    group_sums s = no_sums();
    for (int i = 0; i < n * stride; i += stride) {
        const float l = (float)nearest(inverse * (x[i] - base), 0, top);
        s.wl += w[i] * l;
        s.wll += w[i] * l * l;
        s.wxl += w[i] * l * x[i];
    }
    return s;
}

/* The line through the origin of the codes with the least squared error; at code 0 at most 0. */
LQ_SCALAR bool solve_line(const group_sums *s, float sum_w, float sum_x, group_fit *to) {
    const float determinant = sum_w * s->wll - s->wl * s->wl;
    if (!(determinant > 0)) return false;
    to->scale = (sum_w * s->wxl - sum_x * s->wl) / determinant;
    to->min = (s->wll * sum_x - s->wl * s->wxl) / determinant;
    if (to->min > 0) {
        to->min = 0;
        to->scale = s->wxl / s->wll;
    }
    return true;
}

LQ_SCALAR group_fit fit_affine_group(const float *x, const float *w, int n, int stride,
                                     const lq_affine_rule *rule) {
    float low = x[0], high = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = stride; i < n * stride; i += stride) {
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (low > 0) low = 0;
    if (!(low < high)) return make_fit(0, low, 0, 0);
    const float inverse = (float)rule->top / (high - low);
    group_fit best = make_fit(1 / inverse, low, inverse, low);
    float least = affine_error(x, w, n, stride, rule, &best);
    for (int k = 0; k <= rule->steps; k++) {
        /* the minimum accepted so far, not the data's, is where the next grid starts */
        group_fit trial = make_fit(0, 0, 0, best.min);
        trial.inverse = (rule->first + rule->step * (float)k + (float)rule->top) /
                        (high - best.min);
        const group_sums s = affine_sums(x, w, n, stride, rule->top, trial.inverse, trial.base);
        if (!solve_line(&s, sum_w, sum_x, &trial)) continue;
        const float error = affine_error(x, w, n, stride, rule, &trial);
        if (!(error < least)) continue;
        least = error;
        best = trial;
    }
    return best;
}

#endif
