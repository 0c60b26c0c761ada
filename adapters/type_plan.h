/* In which format each tensor enters the forward pass and the file, and which of its columns matter
 * to the quantizer: a file mix (mix.h) applied, for training, export and `quantize` alike. */
#ifndef LOQUAT_TYPE_PLAN_H
#define LOQUAT_TYPE_PLAN_H

#include "mix.h"
#include "model.h"

typedef struct lq_planned {
    const lq_format *fmt;        /* NULL: as it is */
    const float *importance;     /* (matrices, cols) of the request's imatrix; NULL: none */
    bool fell_back;              /* no block of the wanted format divides the rows */
} lq_planned;

/* Per tensor of g; *out is the caller's to lq_free. Fails for a type that Loquat cannot write and
 * for an imatrix that does not fit; logs which tensors it lacks. */
lq_status lq_type_plan_file(lq_planned **out, const lq_mix_request *request, const lq_gguf *g);
/* Per weight of m. */
lq_status lq_type_plan_model(lq_planned **out, const lq_mix_request *request, const lq_model *m);

/* Logs "WHAT: 210 matrices Q4_K, 1 matrix Q6_K", and which rows no block divides. */
lq_status lq_type_plan_log(const lq_planned *plan, int64_t n, const char *what);

#endif
