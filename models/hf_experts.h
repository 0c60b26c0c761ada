/* Experts, which Hugging Face stores one by one and GGUF as one tensor. */
#ifndef LOQUAT_HF_EXPERTS_H
#define LOQUAT_HF_EXPERTS_H

#include "base.h"

/* "...mlp.experts.3.up_proj.weight" is expert 3 of "...mlp.experts.up_proj.weight"; Mixtral's names
 * are spelled as the others' too. *out: the common name, the caller's; *expert -1: not one of
 * several. */
lq_status lq_hf_expert_name(char **out, int64_t *expert, const char *name);

#endif
