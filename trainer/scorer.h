/* Mean masked loss and accuracy over a dataset, forward only: validation and `evaluate --data`. */
#ifndef LOQUAT_SCORER_H
#define LOQUAT_SCORER_H

#include "teacher.h"

typedef struct lq_scorer lq_scorer;

/* `d`, `m` and `patch` are borrowed and must outlive the scorer, as must `teacher` (NULL: none),
 * which is to be prepared for lq_scorer_capacity rows. */
lq_status lq_scorer_new(lq_scorer **out, lq_dev *dev, const lq_model *m, const lq_patch *patch,
                        const lq_dataset *d, int64_t rows, lq_teacher *teacher);
/* Rows of its batches: `rows`, or the longest example's. */
int64_t lq_scorer_capacity(const lq_dataset *d, int64_t rows);
void lq_scorer_free(lq_scorer *s);
/* Scores every example once, in order. Non-finite losses are LQ_ENONFINITE. */
lq_status lq_scorer_run(lq_scorer *s, lq_loss *out);

#endif
