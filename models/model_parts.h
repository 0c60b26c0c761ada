/* The steps of opening a model; each file of models/ does one. */
#ifndef LOQUAT_MODEL_PARTS_H
#define LOQUAT_MODEL_PARTS_H

#include "arch.h"

/* Reads <name of arch>.* from the metadata; n_vocab is left to the caller. Unsupported features are
 * refused by key. */
lq_status lq_hparams_read(lq_hparams *out, const lq_gguf *file, const lq_arch *arch);

/* (n_rot / 2) numbers, the caller's; *out is NULL without YaRN. */
lq_status lq_yarn_factors(float **out, const lq_hparams *hp);

/* What an architecture that has no row would need, in words; NULL where that is not known. */
const char *lq_arch_needs(const char *name);
/* Adds to the message of lq_arch_find's failure which tensors of the file no row has. */
lq_status lq_arch_explain(lq_status status, const lq_gguf *file);

/* Finds every tensor of m->arch in m->file and fills m->weight; what is missing, unexpected,
 * wrong-shaped or of an unreadable type is listed in one message. */
lq_status lq_weights_bind(lq_model *m);

enum { LQ_TYPE_LABEL = 24 };
/* "Q4_0": a tensor type as files and tools spell it. Returns text. */
const char *lq_type_label(char text[LQ_TYPE_LABEL], int ggml_type);

#endif
