/* A model on every example of a dataset: loss of each, and the divergence from a reference at every
 * trained token. */
#ifndef LOQUAT_EXAMPLE_SCORES_H
#define LOQUAT_EXAMPLE_SCORES_H

#include "dataset.h"
#include "divergence.h"
#include "session.h"

/* A JSONL file as the model's own template has it, nothing dropped or cut. */
lq_status lq_session_dataset(lq_dataset *out, const loquat_model *s, const char *path);

/* nll (n examples): summed over an example's trained tokens; NULL: not wanted. reference NULL: no
 * divergence; else the caller has room for every trained token in it. */
lq_status lq_score_examples(loquat_model *s, loquat_model *reference, const lq_dataset *d,
                            double *nll, lq_divergence *divergence);
int64_t lq_trained_tokens(const lq_dataset *d, const lq_example *e);

#endif
