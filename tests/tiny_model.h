/* Writes random models of the llama family (also qwen2, qwen3) in any shape and format: small ones
 * for tests, large ones for benchmarks. The same options give the same bytes. */
#ifndef LOQUAT_TINY_MODEL_H
#define LOQUAT_TINY_MODEL_H

#include "gguf.h"

typedef struct tiny_model {
    const char *arch;           /* NULL: "llama" */
    /* 0: the default in brackets */
    int64_t n_vocab;            /* [320]; with a tokenizer at least that */
    int64_t n_embd;             /* [64] */
    int64_t n_layer;            /* [2] */
    int64_t n_head, n_head_kv;  /* [4], [2] */
    int64_t head_dim;           /* [n_embd / n_head] */
    int64_t n_ff;               /* [96] */
    int64_t n_ctx;              /* [256] */
    float rope_base;            /* [10000] */
    float rope_factor;          /* linear scaling; [none] */
    bool tied;                  /* no output.weight */
    bool biases;                /* on every linear of the blocks */
    bool qk_norms;
    bool rope_freqs;
    int64_t n_expert;           /* a mixture, two of them used; [0: dense] */
    const lq_format *fmt;       /* of the matrices [F32]; F16 for rows its blocks do not divide */
    bool no_tokenizer;          /* else SPM: control tokens, bytes, letters, words, unused */
    const char *chat_template;  /* NULL: none */
    uint64_t seed;
} tiny_model;

lq_status tiny_model_write(const char *path, const tiny_model *options);

/* The path of a model of all defaults with a ChatML template, below the test's own directory. */
const char *test_tiny_model(void);

#endif
