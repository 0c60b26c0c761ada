/* Cases of op_cases.c for what adapters train besides A and B. */
#ifndef LOQUAT_OP_CASES_TRAINED_H
#define LOQUAT_OP_CASES_TRAINED_H

#include "op_bench.h"

lq_tensor *case_dora(op_bench *b);
lq_tensor *case_dora_merged(op_bench *b);
void case_dora_ref(const op_bench *b, double *out);
void case_dora_merged_ref(const op_bench *b, double *out);
lq_tensor *case_scaled_q4_0(op_bench *b);
lq_tensor *case_scaled_q8_0(op_bench *b);
void case_scaled_ref(const op_bench *b, double *out);

#endif
