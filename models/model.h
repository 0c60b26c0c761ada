/* A base model: its architecture row, hyper-parameters, weights bound by role and shape, tokenizer.
 * Weights stay in the mapped file, in the file's format; nothing is expanded. */
#ifndef LOQUAT_MODEL_H
#define LOQUAT_MODEL_H

#include "gguf.h"
#include "ops.h"
#include "tokenizer.h"

/* What a tensor is to the model. The role decides names and shapes (arch.c: one row each). */
typedef enum lq_role {
    LQ_ROLE_TOKEN_EMBD, LQ_ROLE_POSITION_EMBD, LQ_ROLE_OUTPUT, LQ_ROLE_OUTPUT_NORM,
    LQ_ROLE_ROPE_FREQS, LQ_ROLE_ROPE_LONG, LQ_ROLE_ROPE_SHORT,   /* constants, never trained */
    LQ_ROLE_ATTN_NORM, LQ_ROLE_ATTN_NORM_2,
    LQ_ROLE_ATTN_QKV, LQ_ROLE_ATTN_Q, LQ_ROLE_ATTN_K, LQ_ROLE_ATTN_V, LQ_ROLE_ATTN_OUTPUT,
    LQ_ROLE_ATTN_Q_NORM, LQ_ROLE_ATTN_K_NORM, LQ_ROLE_ATTN_POST_NORM,
    LQ_ROLE_FFN_NORM, LQ_ROLE_FFN_GATE_UP, LQ_ROLE_FFN_GATE, LQ_ROLE_FFN_UP, LQ_ROLE_FFN_DOWN,
    LQ_ROLE_FFN_POST_NORM,
    LQ_ROLE_ROUTER, LQ_ROLE_EXPERTS_GATE, LQ_ROLE_EXPERTS_UP, LQ_ROLE_EXPERTS_DOWN,
    LQ_ROLE_SHARED_ROUTER, LQ_ROLE_SHARED_GATE, LQ_ROLE_SHARED_UP, LQ_ROLE_SHARED_DOWN,
    LQ_N_ROLES
} lq_role;

enum { LQ_MAX_LAYERS = 512 };

typedef struct lq_hparams {
    int64_t n_vocab, n_embd, n_layer, n_head, n_head_kv, head_dim, n_ff, n_ctx_train, n_rot;
    int64_t n_expert, n_expert_used;            /* 0: no mixture of experts */
    int64_t n_ff_expert, n_ff_shared;
    int64_t n_ctx_orig;                         /* up to which RoPE needs no scaling */
    float norm_eps, rope_freq_base, rope_freq_scale, rope_attn_factor;
    float yarn_factor, yarn_beta_fast, yarn_beta_slow;   /* yarn_factor 0: no YaRN */
    float attn_softcap, final_softcap;
    float embed_scale, attn_scale;              /* of embeddings; of q.k */
    float residual_scale, logit_scale;          /* of what a block adds; logits are divided */
    float clamp_qkv, alibi;                     /* 0: none */
    int64_t sliding_window;                     /* of local layers; 0: there are none */
    float local_freq_base, local_freq_scale;    /* RoPE of local layers */
    bool local[LQ_MAX_LAYERS];                  /* layers that attend within the window */
} lq_hparams;

typedef struct lq_weight {
    lq_role role;
    int layer;               /* -1: not in a block */
    bool is_bias;
    const char *name;        /* GGUF name "blk.3.attn_q.weight"; the model's */
    const char *module;      /* Hugging Face path "model.layers.3.self_attn.q_proj"; the model's */
    const lq_format *fmt;
    int64_t rows, cols;      /* (rows, cols); a vector has rows 1 */
    int64_t n_mats;          /* experts stacked along the rows (the file's 3rd dimension); else 1 */
    const void *data;
} lq_weight;

typedef struct lq_arch lq_arch;   /* arch.h: the descriptor row */

/* What the runtime that a model is made for rounds (rounding.h). All zero: nothing. */
typedef struct lq_runtime {
    bool activations;        /* inputs of products with weights, as each weight's format wants it */
    const lq_rounding *queries, *keys, *values;   /* NULL: F32 */
} lq_runtime;

typedef struct lq_model {
    const lq_arch *arch;
    lq_hparams hp;
    lq_gguf *file;            /* owned */
    lq_tokenizer *tokenizer;  /* owned; NULL if the file has none */
    lq_weight *weight;        /* owned array, in file order of roles and layers */
    int n_weights;
    bool tied;                /* the head is the token embedding */
    lq_runtime runtime;       /* of all builds from now on; whoever opened the model sets it */
    float *yarn;              /* owned (n_rot / 2): what YaRN divides frequencies by; NULL: none */
    int64_t n_ctx;            /* see lq_build_options.n_ctx, where that is 0 */
} lq_model;

/* Opens a GGUF or a Hugging Face directory (hf.h); validates architecture, every tensor's presence,
 * shape and type; lists all mismatches in one message. `check_finite` also scans the weights for
 * NaN and infinity (names the tensor). */
lq_status lq_model_open(lq_model **out, const char *path, bool check_finite);
/* The same with its matrices re-quantized in memory (gguf_requantize.h); type: the name of a GGUF
 * type that can be written; NULL or "": as they are. */
lq_status lq_model_open_as(lq_model **out, const char *path, bool check_finite, const char *type);
/* The scan alone; LQ_ENONFINITE names the first weight with a NaN or an infinity, and where. */
lq_status lq_model_check_finite(const lq_model *m);
void lq_model_close(lq_model *m);
/* Index of a weight, or -1. */
int lq_model_find(const lq_model *m, lq_role role, int layer, bool is_bias);
int lq_model_find_name(const lq_model *m, const char *gguf_name);
int lq_model_head(const lq_model *m);    /* index of the weight that makes the logits */
/* True for the matrices that a LoRA may sit on (linears of the blocks; also the head if untied). */
bool lq_weight_is_linear(const lq_weight *w);
/* True for those of them that are stacks of experts' matrices, or choose the experts: targets only
 * by name. */
bool lq_weight_is_experts(const lq_weight *w);
bool lq_weight_is_router(const lq_weight *w);
/* True for tables of constants (RoPE factors), which are no parameters. */
bool lq_weight_is_constant(const lq_weight *w);
int64_t lq_model_n_params(const lq_model *m);

/* How one weight takes part in a tape when it is not simply frozen. Index: the weight's. */
typedef struct lq_patch {
    const lq_format *fmt;    /* of the effective (fake-quantized) weight; NULL: the file's own */
    const void *data;        /* NULL with fmt set: planning only */
    int rank;                /* > 0: an adapter A (n_mats * rank, cols), B (rows, rank) */
    float *a, *da, *b, *db;  /* da, db NULL: not trained here */
    const float *a0, *b0;    /* as a and b: scale * b0 a0 is what an initialisation took from W into
                                them, and data with fmt has no more; NULL: nothing */
    float *m, *dm;           /* (rows) DoRA's magnitudes; NULL: none */
    const float *norm;       /* (rows) with m: lengths of the rows of W + scale * B A */
    float scale, dropout;
    bool merged;             /* data already contains scale * B A (straight-through backward) */
    const uint32_t *clipped; /* merged: mask of the weights that pass no gradient; NULL: all pass */
    float *d, *dd;           /* (rows, cols / block) trained block scales of fmt; NULL: none */
    bool full;               /* w (rows, cols) F32 and its gradient replace the weight */
    float *w, *dw;
} lq_patch;

/* How the head learns from a teacher besides the labels (kd_head in ops.h). */
typedef struct lq_distil {
    const lq_model *teacher;       /* whose head turns its hidden states into logits; top_k: NULL */
    int64_t top_k;                 /* > 0: the teacher comes as its most likely tokens */
    float alpha, temperature;
    bool reverse;
} lq_distil;

typedef struct lq_build_options {
    const lq_patch *patch;   /* n_weights of them, or NULL */
    bool loss;               /* end in ce_head, or kd_head with distil; else in logits (N,V) */
    bool hidden;             /* end in what the head is multiplied with (N,D): a teacher's */
    const lq_distil *distil; /* NULL: labels only */
    bool exact;              /* its runtime rounds nothing here: before quantization, a teacher */
    float noise_alpha;       /* NEFTune, on the embedding */
    float *const *k_cache, *const *v_cache; /* per layer (n_ctx, K*d) F32 for generation, or NULL */
    /* Longest sequence, and rows of the caches. Beyond the original context RoPE takes a model's
     * long factors, where it has two sets, as llama.cpp does by its context. */
    int64_t n_ctx;
} lq_build_options;

typedef struct lq_model_io {
    lq_tensor *ids, *pos, *starts, *labels;   /* inputs (N) i32; labels NULL without loss */
    lq_tensor *teacher, *teacher_log_p;       /* inputs with distil, else NULL: hidden states (N,Dt)
                                                 and no other; top_k: ids (N,K), (N,K+1) */
    lq_tensor *out;                           /* (N,2) of ce_head, (N,4) of kd_head, logits (N,V) */
    lq_tensor *shares[LQ_MAX_LAYERS];         /* (N,E) of each layer's experts; NULL: it has none */
} lq_model_io;

/* Records the whole decoder on a fresh tape. */
lq_status lq_model_build(const lq_model *m, const lq_build_options *options, lq_tape *tape,
                         lq_model_io *io);

#endif
