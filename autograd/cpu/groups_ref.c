/* The group kernels in plain C, one group after the other: the definition of what the vector
 * versions compute. The searches are in groups_scalar.h. */
#include "groups.h"

#include "nibbles_scalar.h"

#include <stddef.h>

static void fit_signed(const lq_columns *c, int half, lq_fit *fit) {
    memset(fit, 0, sizeof *fit);
    for (int g = 0; g < c->groups; g++) {
        const group_fit found = fit_signed_group(c->x + g, c->w + g, c->size, LQ_GROUPS, half);
        fit->scale[g] = found.scale;
        fit->inverse[g] = found.inverse;
    }
}

static void fit_sweeping(const lq_columns *c, int half, lq_fit *fit, float *codes) {
    memset(fit, 0, sizeof *fit);
    memset(codes, 0, (size_t)(c->size * LQ_GROUPS) * sizeof *codes);
    for (int g = 0; g < c->groups; g++)
        fit->scale[g] = fit_sweeping_group(c->x + g, c->size, LQ_GROUPS, half, codes + g);
}

static void fit_affine(const lq_columns *c, const lq_affine_rule *rule, lq_fit *fit) {
    memset(fit, 0, sizeof *fit);
    for (int g = 0; g < c->groups; g++) {
        const group_fit best = fit_affine_group(c->x + g, c->w + g, c->size, LQ_GROUPS, rule);
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
    for (int i = 0; i < n; i++) codes[i] = truncated((x[i] - base) * inverse + offset, top);
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

static void snap(const float *x, int n, float inverse, float d, float *y) {
    for (int i = 0; i < n; i++) y[i] = snapped(x[i], inverse, d);
}

static void trits(const float *x, int n, float inverse, uint8_t *codes) {
    for (int i = 0; i < n; i++) codes[i] = trit(x[i], inverse);
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
