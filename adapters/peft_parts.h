/* What the files that read PEFT's tensors share. */
#ifndef LOQUAT_PEFT_PARTS_H
#define LOQUAT_PEFT_PARTS_H

#include "peft_config.h"
#include "safetensors.h"
#include "str.h"

typedef enum lq_peft_part { LQ_PEFT_A, LQ_PEFT_B, LQ_PEFT_M } lq_peft_part;

/* The tensors of the adapter GGUF so far; the assembled file owns them. */
typedef struct lq_peft_tensors {
    lq_safetensors *file;
    lq_gguf_tensor *tensor;    /* with owned names */
    void **copy;               /* per tensor, owned; NULL: the file's own bytes */
    int64_t n, cap, cap_copies;
} lq_peft_tensors;

/* Everything that one adapter's tensors depend on. */
typedef struct lq_peft_reader {
    const lq_model *m;
    const lq_peft_config *config;
    lq_peft_tensors *out;
    int64_t n_b, n_m;          /* tensors of these parts so far */
    lq_str errors;
} lq_peft_reader;

/* Index of the model's weight with the path of n bytes, or -1. */
int lq_peft_find_module(const lq_model *m, const char *path, size_t n);
/* What adapter_config.json gives the module or parameter of this path: *scale is alpha / r or
 * alpha / sqrt r. */
lq_status lq_peft_scale(double *rank, double *scale, const lq_peft_reader *r, const char *path);
/* What B is multiplied by: the reader of adapter GGUFs will scale by the common alpha / rank. */
float lq_peft_factor(const lq_peft_reader *r, double scale, int64_t rank);
/* Does target_parameters name the parameter of this path? */
bool lq_peft_is_parameter(const lq_peft_config *c, const char *path);
/* Adds a tensor named after `part` of the weight (or of a path that no weight has); its type, shape
 * and data are left to be set. */
lq_status lq_peft_add(int64_t *index, lq_peft_reader *r, const char *weight, lq_peft_part part);

/* ---- experts (peft_experts.c) ---- */
/* Is it the module of all experts, or one of several wrapped around it? */
bool lq_peft_is_fused(const char *path);
/* Half of an adapter on a parameter of all experts together. */
lq_status lq_peft_add_fused(lq_peft_reader *r, const lq_st_tensor *in, const char *path,
                            lq_peft_part part);
/* Part of the adapter on one expert. path: as in the file, for patterns; weight: of all experts. */
lq_status lq_peft_add_expert(lq_peft_reader *r, const lq_st_tensor *in, const char *path,
                             int weight, int64_t expert, lq_peft_part part);

#endif
