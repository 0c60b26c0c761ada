/* Perplexity by llama-perplexity's protocol: windows of n_ctx tokens, the second half scored,
 * BOS at the start of each; and its logits file (--kl-divergence-base), written and read. */
#ifndef LOQUAT_PERPLEXITY_H
#define LOQUAT_PERPLEXITY_H

#include "session.h"

typedef struct lq_perplexity_options {
    const char *text_path;       /* NULL with a base file: its tokens are used */
    int64_t n_ctx, chunks;       /* chunks 0: all */
    const char *save_logits;     /* write the logits file here; NULL: not */
    const char *base_logits;     /* compare with this logits file; NULL: not */
} lq_perplexity_options;

typedef struct lq_perplexity {
    double nll, nll_squared;     /* sums over scored tokens */
    int64_t tokens;
} lq_perplexity;

/* Statistics of a comparison with a base's logits; all per scored token. */
typedef struct lq_divergence {
    int64_t n;                   /* 0: none was asked for */
    double kl_mean, kl_median, kl_90, kl_99, kl_99_9, kl_max;
    double same_top;             /* share */
    double rms_delta_p;          /* share */
    double ln_ppl_ratio, ln_ppl_ratio_error;
} lq_divergence;

lq_status lq_perplexity_run(loquat_model *s, const lq_perplexity_options *o, lq_perplexity *out,
                            lq_divergence *kl);

#endif
