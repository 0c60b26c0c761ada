/* How far a model's next-token distribution is from a base's, per scored token: the statistics that
 * llama-perplexity prints for --kl-divergence (tools/perplexity/perplexity.cpp of llama.cpp,
 * kl_divergence), over any source of log-probabilities. */
#ifndef LOQUAT_DIVERGENCE_H
#define LOQUAT_DIVERGENCE_H

#include "base.h"

typedef struct lq_divergence {
    int64_t n, capacity;         /* tokens compared */
    double *kl;                  /* (n) KL(base || model), nats */
    double *delta_p;             /* (n) p - p of the base, of the token that came */
    double *ratio;               /* (n) nll - nll of the base */
    int64_t same_top;
} lq_divergence;

typedef struct lq_divergence_summary {
    double kl_mean, kl_error, kl_median, kl_90, kl_99, kl_99_9, kl_max;
    double same_top;                             /* share */
    double mean_delta_p, rms_delta_p;            /* shares */
    double ln_ppl_ratio, ln_ppl_ratio_error;
} lq_divergence_summary;

double lq_log_sum_exp(const float *x, int64_t n);
/* log_p (V): logits less their log-sum-exp. */
void lq_log_softmax(const float *logits, float *log_p, int64_t V);

lq_status lq_divergence_init(lq_divergence *d, int64_t capacity);
void lq_divergence_clear(lq_divergence *d);
/* One token: base_log_p (V), the model's logits (V) and their log-sum-exp, and what came. Room for
 * it must be left. */
void lq_divergence_add(lq_divergence *d, const float *base_log_p, const float *logits, double lse,
                       int64_t V, int32_t target);
/* Sorts d->kl. n must be 1 or more. */
void lq_divergence_summarize(lq_divergence *d, lq_divergence_summary *out);

#endif
