/* Collecting an importance matrix: the sums of the squares of every linear's inputs, column by
 * column, while the model reads a text or training data. What is summed is what llama-imatrix sums:
 * the linears of the blocks, and the head on request. */
#ifndef LOQUAT_IMPORTANCE_H
#define LOQUAT_IMPORTANCE_H

#include "dataset.h"
#include "imatrix.h"
#include "model.h"

/* A text by llama-imatrix's protocol: chunks of n_ctx tokens, each with BOS in front where the
 * tokenizer adds one. chunks 0: all. */
typedef struct lq_importance_text {
    const char *path;
    int64_t n_ctx, chunks;
    bool process_output;     /* the head too */
} lq_importance_text;
lq_status lq_importance_of_text(lq_imatrix **out, const lq_model *m,
                                const lq_importance_text *text);

/* Examples of a dataset, spread over all of it, up to some ten thousand tokens. `name` goes into
 * the file as the dataset's. */
lq_status lq_importance_of_data(lq_imatrix **out, const lq_model *m, const lq_dataset *d,
                                const char *name);

#endif
