/* Mean masked loss and accuracy over a dataset, forward only: validation and `evaluate --data`. */
#ifndef LOQUAT_SCORER_H
#define LOQUAT_SCORER_H

#include "net.h"

typedef struct lq_scorer lq_scorer;

/* The batch plan over `d` is made once; `d`, `m` and `patch` are borrowed and must outlive the
 * scorer. */
lq_status lq_scorer_new(lq_scorer **out, const lq_model *m, const lq_patch *patch,
                        const lq_dataset *d, int64_t rows);
void lq_scorer_free(lq_scorer *s);
/* Scores every example once, in order. Non-finite losses are LQ_ENONFINITE. */
lq_status lq_scorer_run(lq_scorer *s, lq_loss *out);

#endif
