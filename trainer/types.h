/* What a configuration or a command line says about the types of a file's tensors, as a request to
 * adapters/mix.h. */
#ifndef LOQUAT_TYPES_H
#define LOQUAT_TYPES_H

#include "config.h"
#include "imatrix.h"
#include "mix.h"

typedef struct lq_types {
    lq_mix_request request;          /* points into what follows */
    lq_type_override *override;      /* owned */
    lq_imatrix *imatrix;             /* owned; NULL: none */
} lq_types;

typedef struct lq_types_text {
    const char *what;                /* the key or argument, for messages */
    const char *type;                /* "Q4_K_M"; with `plain`, "q4_k" is a type for every linear */
    bool plain;
    const char *embedding, *output;  /* NULL or "": by rule */
    const char *const *tensor_type; int n_tensor_type;   /* "REGEX=TYPE" */
    const char *imatrix;             /* a file; NULL or "": none */
} lq_types_text;

/* Clear it after a failure too. */
lq_status lq_types_open(lq_types *out, const lq_types_text *text);
void lq_types_clear(lq_types *t);

/* In a run's directory: the importance matrix that the run was made with. */
#define LQ_RUN_IMATRIX "imatrix.gguf"

/* Of the section qat; request.mix NULL without it. run_dir: where the run keeps the importance
 * matrix that it was made with; NULL: not made yet, only planned. */
lq_status lq_types_from_config(lq_types *out, const lq_config *c, const char *run_dir);

#endif
