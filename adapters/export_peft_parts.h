/* What the files that write PEFT's directory share. */
#ifndef LOQUAT_EXPORT_PEFT_PARTS_H
#define LOQUAT_EXPORT_PEFT_PARTS_H

#include "adapter.h"
#include "safetensors.h"

#include <jansson.h>

/* The tensors so far, with owned names and data. */
typedef struct lq_peft_written {
    lq_st_tensor *t;
    int64_t n, cap;
    const lq_format *type;     /* of all */
} lq_peft_written;

/* Adds MODULE.PART as a copy of x (rows, cols); cols 0: a vector. */
lq_status lq_peft_put(lq_peft_written *out, const char *module, const char *part, int64_t rows,
                      int64_t cols, const float *x);
/* Rank and alpha of the module of this path, where they are not the run's. */
void lq_peft_set_patterns(json_t *ranks, json_t *alphas, const lq_adapter *a, const char *path,
                          int rank, double scale);

/* ---- experts (export_peft_experts.c) ---- */
/* The list `target_parameters`, and their patterns; json null: no expert is adapted. */
json_t *lq_peft_parameters(json_t *ranks, json_t *alphas, const lq_adapter *a);
lq_status lq_peft_put_experts(lq_peft_written *out, const lq_adapter *a);

#endif
