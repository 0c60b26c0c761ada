/* Cases of op_cases.c for ops that only some families of models need. */
#ifndef LOQUAT_OP_CASES_FAMILIES_H
#define LOQUAT_OP_CASES_FAMILIES_H

#include "op_bench.h"

lq_tensor *case_layernorm(op_bench *b);
lq_tensor *case_layernorm_frozen(op_bench *b);
void case_layernorm_ref(const op_bench *b, double *out);
lq_tensor *case_scale(op_bench *b);
void case_scale_ref(const op_bench *b, double *out);
lq_tensor *case_clamp(op_bench *b);
void case_clamp_ref(const op_bench *b, double *out);
lq_tensor *case_gelu(op_bench *b);
void case_gelu_ref(const op_bench *b, double *out);
lq_tensor *case_gelu_alone(op_bench *b);
lq_tensor *case_tanh_alone(op_bench *b);
void case_gelu_alone_ref(const op_bench *b, double *out);
void case_tanh_alone_ref(const op_bench *b, double *out);
lq_tensor *case_alibi(op_bench *b);
void case_alibi_ref(const op_bench *b, double *out);
lq_tensor *case_columns(op_bench *b);
void case_columns_ref(const op_bench *b, double *out);
lq_tensor *case_row_gate(op_bench *b);
void case_row_gate_ref(const op_bench *b, double *out);
lq_tensor *case_route(op_bench *b);
void case_route_ref(const op_bench *b, double *out);
lq_tensor *case_route_plain(op_bench *b);
void case_route_plain_ref(const op_bench *b, double *out);
lq_tensor *case_experts_trained(op_bench *b);
lq_tensor *case_experts_gelu(op_bench *b);
lq_tensor *case_experts_q8_0(op_bench *b);
lq_tensor *case_experts_lora(op_bench *b);
lq_tensor *case_experts_rounded(op_bench *b);
void case_experts_ref(const op_bench *b, double *out);
void case_experts_gelu_ref(const op_bench *b, double *out);
void case_experts_lora_ref(const op_bench *b, double *out);
void case_experts_rounded_ref(const op_bench *b, double *out);

#endif
