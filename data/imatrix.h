/* Importance matrices: for every linear of a model, the sums over a text of its inputs' squares,
 * column by column. llama.cpp's GGUF file is read and written, its older binary file read. */
#ifndef LOQUAT_IMATRIX_H
#define LOQUAT_IMATRIX_H

#include "base.h"

typedef struct lq_imatrix_entry {
    char *name;              /* of the weight, "blk.0.attn_q.weight" */
    int64_t n, n_counts;     /* n_counts matrices (experts) of n / n_counts columns */
    float *sum;              /* (n) */
    float *count;            /* (n_counts) rows that were summed */
    float *mean;             /* (n) what quantizers take: sum / count; 1 if never counted */
} lq_imatrix_entry;

typedef struct lq_imatrix {
    lq_imatrix_entry *entry; int64_t n, capacity;   /* by name */
    char *path;              /* of the file that it was read from; NULL: none */
    char *dataset;           /* the text's path; "" when unknown */
    uint32_t n_chunks, chunk_size;
} lq_imatrix;

/* Every statistic is checked: LQ_EFORMAT, LQ_ENONFINITE name the entry. */
lq_status lq_imatrix_read(lq_imatrix **out, const char *path);
void lq_imatrix_free(lq_imatrix *im);

/* In the making: entries in any order, then finish, then write. The entry's sum
 * and count are zero and the caller's to fill. */
lq_status lq_imatrix_new(lq_imatrix **out, const char *dataset, uint32_t chunk_size);
lq_status lq_imatrix_add(lq_imatrix_entry **out, lq_imatrix *im, const char *name, int64_t n,
                         int64_t n_counts);
lq_status lq_imatrix_finish(lq_imatrix *im);   /* sorts, checks, means */
lq_status lq_imatrix_write(const lq_imatrix *im, const char *path);

/* *out: the n weights of a tensor, NULL when it has none. LQ_ESHAPE: made for another model. */
lq_status lq_imatrix_weights(const float **out, const lq_imatrix *im, const char *name, int64_t n);

#endif
