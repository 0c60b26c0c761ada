/* In which format each weight enters the forward pass and the file: llama-quantize's rules as far
 * as our formats go (INTEROP-style facts of src/llama-quant.cpp: 1-D tensors stay, rows that no
 * block divides become F16). */
#ifndef LOQUAT_TYPE_PLAN_H
#define LOQUAT_TYPE_PLAN_H

#include "adapter.h"

/* What the caller wants of each kind of matrix; NULL: as it is in the base file. */
typedef struct lq_type_plan { const lq_format *linear, *embd, *output; } lq_type_plan;

/* The format w gets; NULL: as it is. */
const lq_format *lq_type_plan_format(const lq_type_plan *plan, const lq_weight *w);

/* Logs "WHAT: 210 linears Q4_0, ...", and which rows no block divides. fmt: n_weights, NULL as
 * above. */
lq_status lq_type_plan_log(const lq_model *m, const lq_type_plan *plan, const char *what);

#endif
