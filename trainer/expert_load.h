/* How many tokens each expert of a mixture got in one optimizer step. */
#ifndef LOQUAT_EXPERT_LOAD_H
#define LOQUAT_EXPERT_LOAD_H

#include "net.h"
#include "str.h"

/* Tokens by layer and expert (n_layer * n_expert), zero; *out is NULL for a model without
 * experts. */
lq_status lq_expert_load_new(int64_t **out, const lq_model *m);
void lq_expert_load_reset(int64_t *load, const lq_model *m);
/* After a forward run: counts its tokens. */
lq_status lq_expert_load_add(int64_t *load, const lq_model *m, const lq_net *net);
/* One line per layer for those who ask for details; none where load is NULL. */
void lq_expert_load_log(const int64_t *load, const lq_model *m);
/* Appends ", "expert_load": [[...], ...]", a list per layer; nothing where load is NULL. */
void lq_expert_load_print(lq_str *out, const int64_t *load, const lq_model *m);

#endif
