/* The steps of opening a model; each file of models/ does one. */
#ifndef LOQUAT_MODEL_PARTS_H
#define LOQUAT_MODEL_PARTS_H

#include "arch.h"

/* Reads <name of arch>.* from the metadata; n_vocab is left to the caller. Unsupported features are
 * refused by key. */
lq_status lq_hparams_read(lq_hparams *out, const lq_gguf *file, const lq_arch *arch);

/* Finds every tensor of m->arch in m->file and fills m->weight; what is missing, unexpected,
 * wrong-shaped or of an unreadable type is listed in one message. */
lq_status lq_weights_bind(lq_model *m);

/* LQ_ENONFINITE names the first weight with a NaN or an infinity, and where. */
lq_status lq_weights_check_finite(const lq_model *m);

enum { LQ_TYPE_LABEL = 24 };
/* "Q4_0": a tensor type as files and tools spell it. Returns text. */
const char *lq_type_label(char text[LQ_TYPE_LABEL], int ggml_type);

#endif
