/* Perplexity by llama-perplexity's protocol: windows of n_ctx tokens, the second half scored,
 * BOS at the start of each; and what is compared on the way: a reference model, or its logits
 * file (--kl-divergence-base), which is also written. */
#ifndef LOQUAT_PERPLEXITY_H
#define LOQUAT_PERPLEXITY_H

#include "divergence.h"
#include "session.h"

typedef struct lq_perplexity_options {
    const char *text_path;       /* NULL with a base file: its tokens are used */
    int64_t n_ctx, chunks;       /* chunks 0: all; with a base file n_ctx is the file's */
    const char *save_logits;     /* write the logits file here; NULL: not */
    const char *base_logits;     /* compare with this logits file; NULL: not */
    loquat_model *reference;     /* compare with this model (same vocabulary); NULL: not */
} lq_perplexity_options;

typedef struct lq_perplexity {
    double nll, nll_squared;     /* sums over scored tokens */
    int64_t tokens;
    lq_divergence divergence;    /* n 0: no comparison was asked for; the caller clears it */
} lq_perplexity;

lq_status lq_perplexity_run(loquat_model *s, const lq_perplexity_options *o, lq_perplexity *out);

#endif
