/* The group kernels over vectors: the text of both groups_avx2.c and groups_avx512.c, which include
 * their lanes_*.h first. One lane is one group, so each lane adds up in the order of groups_ref.c
 * and gets its bits; where that file goes on to the next case, a mask keeps the lane as it was. */
#include "groups.h"

#include <string.h>

static const float negligible = 1e-15f;

/* nearest of groups_ref.c, also far outside the codes' range. */
static inline ints nearest(lanes v, ints low, ints high) {
    const ints low_bits = and_int(bits_of(v + all(0x1.8p23f)), all_int(0x7fffff));
    return min_int(max_int(minus_int(low_bits, all_int(0x400000)), low), high);
}

static lanes signed_max(const float *x, int size) {
    lanes best = all(0), most = all(0);
    for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        const lanes v = load(x + i), m = magnitude(v);
        best = pick(below(most, m), v, best);
        most = greater(most, m);
    }
    return best;
}

typedef struct sums {
    lanes wl, wll, wxl; /* of weight times code, its square, its product with x */
} sums;

static inline sums signed_sums(const float *x, const float *w, int size, int half, lanes inverse) {
    sums s = {all(0), all(0), all(0)};
    const ints low = all_int(-half), high = all_int(half - 1);
    for (int i = 0; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        const lanes v = load(x + i), weight = load(w + i);
        const lanes l = to_float(nearest(inverse * v, low, high));
        s.wxl += weight * v * l;
        s.wll += weight * l * l;
    }
    return s;
}

static void fit_signed_lanes(const float *x, const float *w, int size, int half, float *scale_out,
                             float *inverse_out) {
    const lanes max = signed_max(x, size), zero = all(0);
    const mask live = at_least(magnitude(max), all(negligible));
    lanes inverse = all((float)-half) / max;
    sums s = signed_sums(x, w, size, half, inverse);
    lanes scale = pick(differs(s.wll, zero), s.wxl / s.wll, zero);
    lanes best = scale * s.wxl;
    for (int step = -9; step <= 9; step++) {
        if (step == 0) continue;
        const lanes trial = all(-((float)half + 0.1f * (float)step)) / max;
        s = signed_sums(x, w, size, half, trial);
        const mask better = both(below(zero, s.wll), below(best * s.wll, s.wxl * s.wxl));
        inverse = pick(better, trial, inverse);
        scale = pick(better, s.wxl / s.wll, scale);
        best = pick(better, scale * s.wxl, best);
    }
    store(scale_out, pick(live, scale, zero));
    store(inverse_out, pick(live, inverse, zero));
}

static void fit_signed(const lq_columns *c, int half, lq_fit *fit) {
    memset(fit, 0, sizeof *fit);
    for (int g = 0; g < c->groups; g += LANES)
        fit_signed_lanes(c->x + g, c->w + g, c->size, half, fit->scale + g, fit->inverse + g);
}

/* move_code of groups_ref.c; the lanes whose code moved. */
static inline mask move_code(lanes x, int half, lanes *code, sums *s) {
    const lanes w = x * x, wx = w * x, zero = all(0);
    const lanes without = s->wxl - wx * *code, rest = s->wll - w * *code * *code;
    const lanes moved =
        to_float(nearest(x * rest / without, all_int(-half), all_int(half - 1)));
    const lanes wxl = without + wx * moved, wll = rest + w * moved * moved;
    const mask better = both(both(below(zero, without), differs(moved, *code)),
                             both(below(zero, wll),
                                  below(s->wxl * s->wxl * wll, wxl * wxl * s->wll)));
    *code = pick(better, moved, *code);
    s->wxl = pick(better, wxl, s->wxl);
    s->wll = pick(better, wll, s->wll);
    return better;
}

/* A lane in which nothing changed stays as it is in later sweeps: each step has the same input. */
static void fit_sweeping_lanes(const float *x, int size, int half, float *scale, float *codes) {
    const lanes max = signed_max(x, size), inverse = all((float)-half) / max, zero = all(0);
    const mask live = at_least(magnitude(max), all(negligible));
    lanes code[LQ_GROUP_MAX];
    sums s = {zero, zero, zero};
    for (int i = 0; i < size; i++) {
        const lanes v = load(x + i * LQ_GROUPS), w = v * v;
        code[i] = to_float(nearest(inverse * v, all_int(-half), all_int(half - 1)));
        s.wxl += w * v * code[i];
        s.wll += w * code[i] * code[i];
    }
    bool changed = true;
    for (int sweep = 0; sweep < 5 && changed; sweep++) {
        changed = false;
        for (int i = 0; i < size; i++)
            changed |= any(move_code(load(x + i * LQ_GROUPS), half, &code[i], &s));
    }
    for (int i = 0; i < size; i++)
        store(codes + i * LQ_GROUPS, pick(live, code[i] + all((float)half), zero));
    store(scale, pick(both(live, below(zero, s.wll)), s.wxl / s.wll, zero));
}

static void fit_sweeping(const lq_columns *c, int half, lq_fit *fit, float *codes) {
    memset(fit, 0, sizeof *fit);
    for (int g = 0; g < c->groups; g += LANES)
        fit_sweeping_lanes(c->x + g, c->size, half, fit->scale + g, codes + g);
}

typedef struct line {
    lanes scale, min;
} line;

/* Codes of the grid from base on, and their sums. */
static inline sums affine_sums(const float *x, const float *w, int size, int top, lanes inverse,
                               lanes base, lanes *code) {
    sums s = {all(0), all(0), all(0)};
    const ints low = all_int(0), high = all_int(top);
    for (int i = 0; i < size; i++) {
        const lanes v = load(x + i * LQ_GROUPS), weight = load(w + i * LQ_GROUPS);
        const lanes l = to_float(nearest(inverse * (v - base), low, high)), wl = weight * l;
        code[i] = l;
        s.wl += wl;
        s.wll += wl * l;
        s.wxl += wl * v;
    }
    return s;
}

static inline lanes affine_error(const float *x, const float *w, int size, bool absolute, line to,
                                 const lanes *code) {
    lanes error = all(0);
    for (int i = 0; i < size; i++) {
        const lanes miss = to.scale * code[i] + to.min - load(x + i * LQ_GROUPS);
        const lanes weight = load(w + i * LQ_GROUPS);
        if (absolute) error += weight * magnitude(miss);
        else error += weight * (miss * miss);
    }
    return error;
}

/* The solution of groups_ref.c; only where `valid` does it exist. */
static inline line solve(sums s, lanes sum_w, lanes sum_x, mask *valid) {
    const lanes determinant = sum_w * s.wll - s.wl * s.wl, zero = all(0);
    *valid = below(zero, determinant);
    const lanes scale = (sum_w * s.wxl - sum_x * s.wl) / determinant;
    const lanes min = (s.wll * sum_x - s.wl * s.wxl) / determinant;
    const mask above = below(zero, min);
    return (line){pick(above, s.wxl / s.wll, scale), pick(above, zero, min)};
}

typedef struct spread {
    lanes low, high, sum_w, sum_x; /* least and largest x, sum of weights, sum of weight times x */
} spread;

static spread spread_of(const float *x, const float *w, int size) {
    spread s = {load(x), load(x), load(w), load(w) * load(x)};
    for (int i = LQ_GROUPS; i < size * LQ_GROUPS; i += LQ_GROUPS) {
        const lanes v = load(x + i), weight = load(w + i);
        s.low = pick(below(v, s.low), v, s.low);
        s.high = pick(below(s.high, v), v, s.high);
        s.sum_w += weight;
        s.sum_x += weight * v;
    }
    s.low = pick(below(all(0), s.low), all(0), s.low);
    return s;
}

static void fit_affine_lanes(const lq_columns *c, int g, const lq_affine_rule *rule, lq_fit *fit) {
    const float *const x = c->x + g, *const w = c->w + g;
    const lanes zero = all(0), top = all((float)rule->top);
    const spread d = spread_of(x, w, c->size);
    const mask live = below(d.low, d.high);
    lanes code[LQ_GROUP_MAX], inverse = top / (d.high - d.low), base = d.low;
    line best = {all(1) / inverse, d.low};
    affine_sums(x, w, c->size, rule->top, inverse, base, code);
    lanes least_error = affine_error(x, w, c->size, rule->absolute, best, code);
    for (int k = 0; k <= rule->steps; k++) {
        const lanes trial_base = best.min;
        const lanes trial = all(rule->first + rule->step * (float)k + (float)rule->top) /
                            (d.high - trial_base);
        const sums s = affine_sums(x, w, c->size, rule->top, trial, trial_base, code);
        mask valid;
        const line to = solve(s, d.sum_w, d.sum_x, &valid);
        const lanes error = affine_error(x, w, c->size, rule->absolute, to, code);
        const mask better = both(valid, below(error, least_error));
        least_error = pick(better, error, least_error);
        best.scale = pick(better, to.scale, best.scale);
        best.min = pick(better, to.min, best.min);
        inverse = pick(better, trial, inverse);
        base = pick(better, trial_base, base);
    }
    store(fit->scale + g, pick(live, best.scale, zero));
    store(fit->min + g, all(-0.0f) - pick(live, best.min, d.low));
    store(fit->inverse + g, pick(live, inverse, zero));
    store(fit->base + g, pick(live, base, zero));
}

static void fit_affine(const lq_columns *c, const lq_affine_rule *rule, lq_fit *fit) {
    memset(fit, 0, sizeof *fit);
    for (int g = 0; g < c->groups; g += LANES) fit_affine_lanes(c, g, rule, fit);
}

static void round_codes(const float *x, int n, float shift, float d, int low, int high,
                        uint8_t *codes) {
    const ints least_code = all_int(low), most = all_int(high);
    for (int i = 0; i < n; i += LANES)
        store_bytes(codes + i, minus_int(nearest((load(x + i) + all(shift)) / all(d), least_code,
                                                 most),
                                         least_code));
}

/* What is no number or too large for an integer becomes the least integer, whose low byte is 0. */
static void truncate(const float *x, int n, float base, float inverse, float offset, int top,
                     uint8_t *codes) {
    for (int i = 0; i < n; i += LANES) {
        const lanes code = (load(x + i) - all(base)) * all(inverse) + all(offset);
        store_bytes(codes + i, max_int(min_int(trunc_int(code), all_int(top)), all_int(0)));
    }
}

static void range(const float *x, int n, float *low, float *high) {
    lanes down = load(x), up = down;
    for (int i = LANES; i < n; i += LANES) {
        down = lesser(down, load(x + i));
        up = greater(up, load(x + i));
    }
    *low = least(down);
    *high = largest(up);
}

static float largest_magnitude(const float *x, int n) {
    lanes most = all(0);
    for (int i = 0; i < n; i += LANES) most = greater(magnitude(load(x + i)), most);
    return largest(most);
}

static void snap(const float *x, int n, float inverse, float d, float *y) {
    const lanes by = all(inverse), scale = all(d), magic = all(0x1.8p23f);
    for (int i = 0; i < n; i += LANES)
        store(y + i, scale * (load(x + i) * by + magic - magic));
}

static void trits(const float *x, int n, float inverse, uint8_t *codes) {
    const lanes by = all(inverse), half = all(0.5f);
    for (int i = 0; i < n; i += LANES) {
        const lanes v = load(x + i) * by;
        const lanes not_above = pick(at_least(-half, v), all(0), all(1));
        store_bytes(codes + i, trunc_int(pick(at_least(v, half), all(2), not_above)));
    }
}

/* Fractions of 8 bits, and three times them, are exact. */
static void expand_trits(const uint8_t *bytes, int n, int digits, float d, float *out) {
    const lanes scale = all(d), three = all(3), one = all(1);
    for (int i = 0; i < n; i += LANES) {
        lanes rest = to_float(load_bytes(bytes + i)) * all(0x1p-8f);
        for (int k = 0; k < digits; k++) {
            rest *= three;
            const lanes digit = to_float(trunc_int(rest));
            store(out + k * n + i, (digit - one) * scale);
            rest -= digit;
        }
    }
}

__attribute__((always_inline)) static inline void
expand_groups(const uint8_t *codes, int groups, int size, int offset, const float *d,
              const float *m, float *out) {
    for (int g = 0; g < groups; g++) {
        const lanes scale = all(d[g]), min = all(m[g]);
#pragma GCC unroll 4
        for (int i = 0; i < size; i += LANES) {
            const int at = g * size + i;
            const ints code = minus_int(load_bytes(codes + at), all_int(offset));
            store(out + at, scale * to_float(code) - min);
        }
    }
}

/* Q4_1, Q5_1, Q4_K and Q5_K have 32 and 0: as constants they unroll, a quarter faster. */
static void expand(const uint8_t *codes, int groups, int size, int offset, const float *d,
                   const float *m, float *out) {
    if (size == 32 && offset == 0) expand_groups(codes, groups, 32, 0, d, m, out);
    else expand_groups(codes, groups, size, offset, d, m, out);
}
