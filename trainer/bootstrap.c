/* See bootstrap.h. The interval lies between the 2.5 % and the 97.5 % point of the differences that
 * the resamples give. */
#include "bootstrap.h"

#include "random.h"

#include <assert.h>
#include <stdlib.h>

enum { RESAMPLES = 2000, KEY = 0x626f6f74 };

typedef struct draws {
    uint64_t key;
    int64_t *count;          /* (n_examples): how often each was drawn */
    int64_t n_examples;
} draws;

static void draw_examples(draws *d) {
    for (int64_t e = 0; e < d->n_examples; e++) d->count[e] = 0;
    for (int64_t e = 0; e < d->n_examples; e++)
        d->count[lq_random_below(d->key, (uint64_t)e, (uint64_t)d->n_examples)]++;
}

/* Mean loss over the drawn examples of n drawn seeds; stream: which numbers the seeds take. */
static double mean_loss(const draws *d, const lq_bootstrap_side *side, uint64_t stream,
                        const int64_t *tokens) {
    const uint64_t key = lq_random_key(d->key, stream);
    double nll = 0, n = 0;
    for (int s = 0; s < side->n_seeds; s++) {
        const double *x = side->nll[lq_random_below(key, (uint64_t)s, (uint64_t)side->n_seeds)];
        for (int64_t e = 0; e < d->n_examples; e++) {
            nll += (double)d->count[e] * x[e];
            n += (double)(d->count[e] * tokens[e]);
        }
    }
    return n > 0 ? nll / n : 0;
}

static double plain_mean(const lq_bootstrap_side *side, const int64_t *tokens, int64_t n_examples) {
    double nll = 0, n = 0;
    for (int s = 0; s < side->n_seeds; s++)
        for (int64_t e = 0; e < n_examples; e++) {
            nll += side->nll[s][e];
            n += (double)tokens[e];
        }
    return nll / n;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

lq_status lq_bootstrap(lq_interval *out, const lq_bootstrap_side *a, const lq_bootstrap_side *b,
                       bool paired, const int64_t *tokens, int64_t n_examples) {
    lq_status status = LQ_OK;
    draws d = {.n_examples = n_examples};
    assert(!paired || a->n_seeds == b->n_seeds);
    double *difference = lq_alloc_array(RESAMPLES, sizeof *difference);
    d.count = lq_alloc_array(n_examples, sizeof *d.count);
    LQ_GOTO(status, difference && d.count ? LQ_OK : LQ_EMEM);
    for (int i = 0; i < RESAMPLES; i++) {
        d.key = lq_random_key(KEY, (uint64_t)i);
        draw_examples(&d);
        difference[i] = mean_loss(&d, a, 1, tokens) - mean_loss(&d, b, paired ? 1 : 2, tokens);
    }
    qsort(difference, RESAMPLES, sizeof *difference, ascending);
    out->difference = plain_mean(a, tokens, n_examples) - plain_mean(b, tokens, n_examples);
    out->low = difference[RESAMPLES / 40];
    out->high = difference[RESAMPLES - 1 - RESAMPLES / 40];
done:
    lq_free(difference);
    lq_free(d.count);
    return status;
}
