/* The descriptor row of an architecture: which tensors a model has, under which names and with
 * which shapes, and the traits in which its blocks differ. The builder follows the traits and the
 * tensors that are there; it never asks which architecture it is building. */
#ifndef LOQUAT_ARCH_H
#define LOQUAT_ARCH_H

#include "model.h"

/* Sizes that tensors' shapes are made of. */
typedef enum lq_dim {
    LQ_DIM_ONE,        /* rows of a vector */
    LQ_DIM_EMBD, LQ_DIM_VOCAB, LQ_DIM_FF,
    LQ_DIM_CTX,               /* learned positions */
    LQ_DIM_GATE_UP,           /* both, gate first */
    LQ_DIM_Q, LQ_DIM_KV,      /* all query heads, all key/value heads */
    LQ_DIM_QKV,               /* queries, keys, values */
    LQ_DIM_HEAD,       /* one head */
    LQ_DIM_EXPERTS, LQ_DIM_FF_EXPERT, LQ_DIM_FF_SHARED,
    LQ_DIM_HALF_ROT,   /* rotated pairs */
    LQ_N_DIMS
} lq_dim;

/* Which models of an architecture have a slot. */
typedef enum lq_when { LQ_ALWAYS, LQ_IF_DENSE, LQ_IF_EXPERTS } lq_when;

/* One tensor, or one per block where the names have a '#' for the block's number. */
typedef struct lq_slot {
    lq_role role;
    const char *gguf;      /* without ".weight" */
    const char *module;    /* the same thing in Hugging Face's tree */
    lq_dim rows, cols;
    bool optional;
    bool bias;             /* may have a ".bias" of `rows` numbers */
    lq_when when;
    bool stacked;          /* (rows, cols) once per expert */
} lq_slot;

struct lq_arch {
    const char *name;          /* general.architecture */
    const lq_slot *slot;
    int n_slots;
    lq_act act;                /* of the feed-forward */
    bool neox;                 /* rotary pairs (i, i + n_rot/2), else (2i, 2i+1) */
    bool layer_norm;           /* norms subtract the mean; their epsilon has a key of its own */
    bool no_rope;
    bool partial_rotary;       /* n_rot may be less than the head's size */
    int rope_period;           /* every n-th layer has no RoPE; 0: all have */
    bool normalises_shares;    /* of the chosen experts, to a sum of 1 */
    bool scales_embedding;     /* by sqrt(n_embd) */
    int local_period;          /* all but every n-th layer are local; 0: windows are ignored */
    int window;                /* of local layers where the file has none */
    bool local_scales_rope;    /* linear RoPE scaling also on local layers */
    float local_freq_base;     /* of local layers where the file has none; 0: the others' */
    float attn_softcap, final_softcap;   /* where the file has none */
    bool reads_final_softcap;
    bool granite_scales;       /* of embeddings, residuals, q.k and logits, by their keys */
    bool alibi;                /* and clamped q, k, v: by their keys */
    int wide_query_layers;     /* with as many layers, q.k is scaled by 1/sqrt(n_embd/n_head) */
};

/* LQ_EUNSUPPORTED says what it would need, and names those that there are. */
lq_status lq_arch_find(const lq_arch **out, const char *name);
/* Does any row have a slot of this GGUF name ("blk.#.attn_q")? */
bool lq_arch_has_tensor(const char *gguf);

#endif
