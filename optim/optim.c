/* The table of update rules, one threaded step over the flat span, and the span's norm. Every
 * element is computed alone and sums have a tree fixed by n, so no result depends on the number of
 * threads. */
#include "optim.h"

#include "rules.h"

#include <math.h>
#include <strings.h>

enum {
    CHUNK = 1 << 12,   /* elements a thread takes at a time */
    LEAVES = 256,      /* leaves of the summation tree */
    LANES = 8          /* independent sums within a leaf, so that the loop vectorises */
};

const lq_optim *const lq_optims[] = {&lq_adamw, &lq_sgd, NULL};

/* Other spellings that configs of the field use. */
static const struct { const char *alias, *name; } aliases[] = {
    {"adamw_torch", "adamw"}, {"adamw_torch_fused", "adamw"}, {"adamw_hf", "adamw"},
};

const lq_optim *lq_optim_by_name(const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(aliases); i++)
        if (strcasecmp(aliases[i].alias, name) == 0) name = aliases[i].name;
    for (int i = 0; lq_optims[i]; i++)
        if (strcasecmp(lq_optims[i]->name, name) == 0) return lq_optims[i];
    return NULL;
}

void lq_optim_step(const lq_optim *rule, const lq_optim_options *o, const lq_optim_group *groups,
                   int n_groups, float lr, int64_t t, int64_t n, float *param, const float *grad,
                   float *state) {
    const lq_optim_group whole = {0, n, 1};
    if (n_groups == 0) {
        groups = &whole;
        n_groups = 1;
    }
#pragma omp parallel if (n > CHUNK)
    for (int i = 0; i < n_groups; i++) {
        const float group_lr = lr * groups[i].lr_scale;
        const int64_t end = groups[i].first + groups[i].n;
#pragma omp for schedule(dynamic) nowait
        for (int64_t first = groups[i].first; first < end; first += CHUNK)
            rule->update(o, group_lr, t, end - first < CHUNK ? end - first : CHUNK, param + first,
                         grad + first, state + first, n);
    }
}

static double sum_squares(const float *x, int64_t n) {
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < n; i++, j++) lane[j] += (double)x[i] * (double)x[i];
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

double lq_grad_norm(const float *grad, int64_t n) {
    double leaf[LEAVES];
    const int64_t per_leaf = (n + LEAVES - 1) / LEAVES;
#pragma omp parallel for schedule(static) if (n > CHUNK)
    for (int c = 0; c < LEAVES; c++) {
        const int64_t first = c * per_leaf < n ? c * per_leaf : n;
        leaf[c] = sum_squares(grad + first, n - first < per_leaf ? n - first : per_leaf);
    }
    for (int width = LEAVES / 2; width > 0; width /= 2)
        for (int c = 0; c < width; c++) leaf[c] += leaf[c + width];
    return sqrt(leaf[0]);
}

void lq_scale(float *x, int64_t n, float factor) {
#pragma omp parallel for simd schedule(static) if (n > CHUNK)
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

void lq_ema_update(float *ema, const float *param, int64_t n, float decay) {
    const float rest = (float)(1 - (double)decay);
#pragma omp parallel for simd schedule(static) if (n > CHUNK)
    for (int64_t i = 0; i < n; i++) ema[i] = decay * ema[i] + rest * param[i];
}
