/* Does the model answer as the data has it? */
#ifndef LOQUAT_EXACT_MATCH_H
#define LOQUAT_EXACT_MATCH_H

#include "dataset.h"
#include "session.h"

/* The share of examples answered exactly. max_new_tokens 0: 128. predictions: a JSONL file to write
 * {"prompt", "expected", "got", "match"} to; NULL: none. */
lq_status lq_exact_match(loquat_model *s, const lq_dataset *d, int64_t max_new_tokens,
                         const char *predictions, double *out_share);

#endif
