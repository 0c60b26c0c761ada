/* A paired bootstrap interval for the difference of two losses: held-out examples and seeds are
 * both drawn with replacement, the same ones for either side. */
#ifndef LOQUAT_BOOTSTRAP_H
#define LOQUAT_BOOTSTRAP_H

#include "base.h"

/* One side: nll[s] (n_examples) are the summed losses of seed s. */
typedef struct lq_bootstrap_side { const double *const *nll; int n_seeds; } lq_bootstrap_side;

typedef struct lq_interval { double difference, low, high; } lq_interval;   /* 95 % */

/* a - b in mean nats per token; tokens (n_examples). Seeds are drawn as pairs if `paired`, which
 * needs as many on either side. The same input gives the same interval. */
lq_status lq_bootstrap(lq_interval *out, const lq_bootstrap_side *a, const lq_bootstrap_side *b,
                       bool paired, const int64_t *tokens, int64_t n_examples);

#endif
