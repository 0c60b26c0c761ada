/* Tensors of a Hugging Face directory under their names and in their layout in GGUF. */
#ifndef LOQUAT_HF_TENSORS_H
#define LOQUAT_HF_TENSORS_H

#include "arch.h"
#include "hf_parts.h"
#include "safetensors.h"

typedef struct lq_hf_tensors {
    lq_safetensors *files;        /* owned */
    lq_gguf_tensor *tensor;       /* owned, and so are their names */
    int64_t n, cap;
    void **copy;                  /* what could not stay where it is */
    int64_t n_copies, cap_copies;
    int64_t n_expert_parts;       /* tensors of single experts put together */
} lq_hf_tensors;

/* Takes t->files, which is set, through all steps. */
lq_status lq_hf_tensors_make(lq_hf_tensors *t, const lq_hf_config *c, const lq_hf_family *f,
                             const lq_arch *arch);
void lq_hf_tensors_clear(lq_hf_tensors *t);

#endif
