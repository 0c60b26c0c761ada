/* An adapter GGUF as llama.cpp's --lora takes it, or a PEFT directory (peft_file.h), read and
 * checked against a model. */
#ifndef LOQUAT_LORA_FILE_H
#define LOQUAT_LORA_FILE_H

#include "model.h"

typedef struct lq_lora_pair {
    const lq_gguf_tensor *a,
        *b; /* A ne {cols, rank}, B ne {rank, rows}; both NULL: not in the file */
    const lq_gguf_tensor *m;         /* ne {rows}, DoRA's magnitudes (PEFT only); NULL: none */
    int rank;
    float scale;                     /* alpha / rank; 1 when the file has no alpha, as llama.cpp */
} lq_lora_pair;

typedef struct lq_lora {
    lq_gguf *file;
    lq_lora_pair *pair;              /* n_weights of the model */
} lq_lora;

/* All mistakes of the tensors in one message. A base other than the one that the adapter was
 * trained on is a warning in the log. */
lq_status lq_lora_open(lq_lora *out, const lq_model *m, const char *path);
void lq_lora_clear(lq_lora *lora);

/* The n numbers of a pair's tensor as F32; LQ_ENONFINITE names the tensor. */
lq_status lq_lora_read(float *out, const lq_lora *lora, const lq_gguf_tensor *t);

#endif
