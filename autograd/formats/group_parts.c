/* Shared steps of the formats with searched scales. See group_parts.h; the arithmetic is in
 * scales_scalar.h. */
#include "group_parts.h"

#include "scales_scalar.h"

float lq_sum_squares(const float *x, int64_t n) { return sum_squares(x, n); }

void lq_importance(const float *x, const float *imatrix, int64_t n, float mean_square, float *w) {
    for (int64_t i = 0; i < n; i++) w[i] = tempered(imatrix[i], mean_square, x[i]);
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

void lq_fit_codes(const lq_fit *fit, int g, const float *x, int size, int low, int high,
                  uint8_t *codes) {
    const float inverse = fit->inverse[g], base = fit->base[g];
    for (int i = 0; i < size; i++) codes[i] = fit_code(inverse, base, x[i], low, high);
}
