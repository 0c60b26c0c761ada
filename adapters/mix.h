/* File mixes: llama-quantize's file types (Q4_K_M, ...) and the type that each tensor of a model
 * gets in such a file. A pure function of the tensor list and a few numbers of the metadata, for
 * any architecture. Facts: llama.cpp's src/llama-quant.cpp. mix.c holds the table, mix_assign.c
 * what is common to all mixes. */
#ifndef LOQUAT_MIX_H
#define LOQUAT_MIX_H

#include "gguf.h"

/* What a tensor is to the rules. */
typedef enum lq_part {
    LQ_PART_OTHER, LQ_PART_EMBEDDING, LQ_PART_HEAD,
    LQ_PART_ATTN_V,      /* also a fused QKV and MLA's kv_b */
    LQ_PART_ATTN_K, LQ_PART_ATTN_Q, LQ_PART_ATTN_OUTPUT, LQ_PART_FFN_DOWN,
    LQ_PART_ANY          /* in a rule: every part but the head */
} lq_part;

/* What a rule's condition may ask. */
typedef struct lq_place {
    int64_t i, n;        /* number i of n tensors of its part; with experts layer i of n */
    int64_t gqa;         /* query heads per key head */
    int64_t n_expert;
    bool falcon, stacked /* experts in one 3-D tensor */, has_imatrix;
} lq_place;

typedef struct lq_mix_rule {
    lq_part part;
    bool (*when)(const lq_place *at);
    int type;
} lq_mix_rule;

typedef struct lq_mix {
    const char *name, *alias;    /* as llama-quantize spells it; another name for it, or NULL */
    int file_type;               /* enum llama_ftype: general.file_type */
    int type;                    /* ggml type of every tensor that no rule names */
    const lq_mix_rule *rule;     /* the first that fits holds; NULL-conditioned at the end */
} lq_mix;

extern const lq_mix lq_mixes[];  /* ends with a NULL name */

const lq_mix *lq_mix_by_name(const char *name);   /* any case, also the alias; NULL: none */
/* LQ_ECONFIG says `what`, the name and what there is; LQ_EUNSUPPORTED, of a mix that cannot be
 * written, the nearest that can. */
lq_status lq_mix_find(const lq_mix **out, const char *what, const char *name);
/* The mix that `type` alone stands for: its head and embedding rules go with that type. */
const lq_mix *lq_mix_of_type(int type);

enum { LQ_TYPE_BY_RULE = -1 };

typedef struct lq_type_override { const char *regex; int type; } lq_type_override;

/* A whole demand: a mix and what is said otherwise. */
typedef struct lq_mix_request {
    const lq_mix *mix;
    /* false: all parts but embedding and head simply get the mix's type (a plain type under QAT) */
    bool mixed;
    bool pure;                   /* embedding and head too */
    bool leave_output;           /* output.weight stays as it is */
    const struct lq_imatrix *imatrix;   /* NULL: none */
    int embedding, output;       /* ggml types, or LQ_TYPE_BY_RULE */
    const lq_type_override *override; int n_overrides;  /* the first whose regex is found holds */
} lq_mix_request;

/* A file of one type, with the embedding and head that go with it. */
lq_mix_request lq_mix_plain(int type);
/* "Q4_K_M"; "Q4_K" of a plain type. */
const char *lq_mix_label(const lq_mix_request *request);

typedef struct lq_mix_type {
    int type;          /* ggml type, also one that Loquat cannot write */
    bool fell_back;    /* no block of the wanted type divides the rows */
} lq_mix_type;

/* out[i]: what tensor i of g becomes. LQ_ESHAPE and LQ_EVALUE name the tensor. */
lq_status lq_mix_assign(lq_mix_type *out, const lq_mix_request *request, const lq_gguf *g);

/* Indices of g's tensors in llama.cpp's order: by layer, then by name. */
void lq_mix_order(int64_t *order, const lq_gguf *g);

#endif
