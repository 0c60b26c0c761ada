/* See divergence.h. Per token, with base log-probabilities q and the model's p:
 * KL = sum over q > -16 of exp(q) (q - p): below that a logits file holds no number. Errors are
 * standard errors of the mean; the variance is two-pass. */
#include "divergence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

double lq_log_sum_exp(const float *x, int64_t n) {
    float max = x[0];
    for (int64_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)expf(x[i] - max);
    return (double)max + log(sum);
}

void lq_log_softmax(const float *logits, float *log_p, int64_t V) {
    const double lse = lq_log_sum_exp(logits, V);
    for (int64_t i = 0; i < V; i++) log_p[i] = (float)((double)logits[i] - lse);
}

lq_status lq_divergence_init(lq_divergence *d, int64_t capacity) {
    *d = (lq_divergence){.capacity = capacity};
    d->kl = lq_alloc_array(capacity, sizeof *d->kl);
    d->delta_p = lq_alloc_array(capacity, sizeof *d->delta_p);
    d->ratio = lq_alloc_array(capacity, sizeof *d->ratio);
    if (d->kl && d->delta_p && d->ratio) return LQ_OK;
    lq_divergence_clear(d);
    return LQ_EMEM;
}

void lq_divergence_clear(lq_divergence *d) {
    lq_free(d->kl);
    lq_free(d->delta_p);
    lq_free(d->ratio);
    *d = (lq_divergence){0};
}

static int64_t top(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

void lq_divergence_add(lq_divergence *d, const float *base_log_p, const float *logits, double lse,
                       int64_t V, int32_t target) {
    assert(d->n < d->capacity);
    double kl = 0;
    for (int64_t i = 0; i < V; i++) {
        const double q = (double)base_log_p[i];
        if (q > -16) kl += exp(q) * (q - ((double)logits[i] - lse));
    }
    const double q = (double)base_log_p[target], p = (double)logits[target] - lse;
    d->kl[d->n] = kl;
    d->delta_p[d->n] = exp(p) - exp(q);
    d->ratio[d->n] = q - p;
    d->n++;
    d->same_top += top(logits, V) == top(base_log_p, V);
}

static double mean(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum / (double)n;
}

/* Standard error of the mean m: variance over n, divided by n - 1. */
static double mean_error(const double *x, int64_t n, double m) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (x[i] - m) * (x[i] - m);
    return n > 1 ? sqrt(sum / (double)n / (double)(n - 1)) : 0;
}

static double root_mean_square(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum / (double)n);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Between the two nearest ranks, linearly. */
static double percentile(const double *sorted, int64_t n, double share) {
    const double at = share * (double)(n - 1);
    const int64_t i = (int64_t)at;
    const double rest = at - (double)i;
    return i + 1 < n ? (1 - rest) * sorted[i] + rest * sorted[i + 1] : sorted[n - 1];
}

void lq_divergence_summarize(lq_divergence *d, lq_divergence_summary *out) {
    const int64_t n = d->n;
    assert(n > 0);
    const double kl = mean(d->kl, n), ratio = mean(d->ratio, n);
    qsort(d->kl, (size_t)n, sizeof *d->kl, ascending);
    *out = (lq_divergence_summary){
        .kl_mean = kl,
        .kl_error = mean_error(d->kl, n, kl),
        .kl_median = percentile(d->kl, n, 0.5),
        .kl_90 = percentile(d->kl, n, 0.9),
        .kl_99 = percentile(d->kl, n, 0.99),
        .kl_99_9 = percentile(d->kl, n, 0.999),
        .kl_max = d->kl[n - 1],
        .same_top = (double)d->same_top / (double)n,
        .mean_delta_p = mean(d->delta_p, n),
        .rms_delta_p = root_mean_square(d->delta_p, n),
        .ln_ppl_ratio = ratio,
        .ln_ppl_ratio_error = mean_error(d->ratio, n, ratio),
    };
}
