/* A teacher's most likely tokens for every label of the training and validation data, and the file
 * that keeps them between runs. */
#ifndef LOQUAT_TEACHER_TOP_H
#define LOQUAT_TEACHER_TOP_H

#include "net.h"
#include "prepare.h"

typedef struct lq_top_table {
    const lq_dataset *data;   /* borrowed */
    int64_t *row;             /* of each token of the data: its row below; -1: it has no label */
    int64_t n;                /* rows */
    int32_t *ids;             /* (n,K), the most likely first */
    float *log_p;             /* (n,K+1); the last: of all other tokens together */
} lq_top_table;

typedef struct lq_top_options {
    int64_t K;
    double temperature;
    const char *key;          /* of teacher, data and these options */
} lq_top_options;

/* Tables for d, without values yet. */
lq_status lq_top_init(lq_top_table *out, const lq_dataset *d, int64_t K);
void lq_top_clear(lq_top_table *t);
size_t lq_top_bytes(const lq_dataset *d, int64_t K);

/* Runs `net` (of model m, ending in hidden states) over the table's data. */
lq_status lq_top_compute(lq_top_table *t, const lq_model *m, lq_net *net,
                         const lq_top_options *options);
/* n tables in one file. *found false: absent, damaged or of another key (said in the log). */
lq_status lq_top_read(bool *found, lq_top_table *t, int n, const char *path,
                      const lq_top_options *options);
lq_status lq_top_write(const lq_top_table *t, int n, const char *path,
                       const lq_top_options *options);
/* The rows of a batch of the table's data into the inputs of a distilling head. */
lq_status lq_top_load(const lq_top_table *t, const lq_batch *b, lq_net *student, int64_t K);

#endif
