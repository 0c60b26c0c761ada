/* What the files of the tokenizer share: its struct, the table of models, and their steps. */
#ifndef LOQUAT_TOKENIZER_PARTS_H
#define LOQUAT_TOKENIZER_PARTS_H

#include "hash.h"
#include "intern.h"
#include "pretokenizer.h"
#include "tokenizer.h"

enum {
    LQ_TOKEN_NORMAL = 1,
    LQ_TOKEN_UNKNOWN,
    LQ_TOKEN_CONTROL,
    LQ_TOKEN_USER,
    LQ_TOKEN_UNUSED,
    LQ_TOKEN_BYTE
};

/* Two symbols that merge. Open addressing over (left, right). */
typedef struct lq_merge { uint64_t pair; int32_t rank, result; } lq_merge;
#define LQ_NO_PAIR UINT64_MAX

/* A stretch of the text: a token written in it, or raw text (id -1). */
typedef struct lq_span { int64_t start, end; int32_t id; } lq_span;

/* `next` has the same first byte; -1 ends. */
typedef struct lq_special { int32_t id, next; } lq_special;

/* `llama` and `gpt2`. */
typedef struct lq_vocab_kind {
    const char *name;
    int32_t bos, eos, unknown;   /* what llama.cpp assumes when the file does not say */
    bool add_bos, space_prefix, clean_spaces;
    lq_status (*load)(lq_tokenizer *t, const lq_gguf *g);   /* after tokens, types and flags */
    /* Tokens of raw text[0..n), which starts at byte `base` of the whole; prefix: at its front or
     * behind a token. */
    lq_status (*encode)(const lq_tokenizer *t, const char *text, size_t n, int64_t base,
                        bool prefix, lq_tokens *out);
    /* A normal token's stored text as it appears. */
    void (*decode)(const char *text, size_t n, lq_str *out);
} lq_vocab_kind;

extern const lq_vocab_kind lq_spm, lq_bpe;

struct lq_tokenizer {
    const lq_vocab_kind *model;
    const lq_pre *pre;           /* NULL for SPM */
    lq_intern strings;           /* the first n_vocab are the tokens, then what only merges name */
    int32_t n_vocab;
    uint8_t *type;               /* (n_vocab) */
    float *score;                /* (n_vocab) */
    bool *is_eog, *strips_right; /* (n_vocab) */
    int32_t bos, eos, eot, unknown;
    bool add_bos, add_eos, space_prefix, clean_spaces;
    char *chat_template;
    char fingerprint[LQ_SHA256_HEX];

    lq_special *special;         /* longest first */
    int32_t n_special, special_head[256];

    int32_t byte_id[256];        /* SPM: its token where no other has it; BPE: its symbol */
    int32_t raw_byte_id[256];    /* BPE: the token that is this one byte, as stored */
    bool spans_words;            /* SPM: a token has a space inside, behind something else */
    lq_merge *merge;
    int merge_bits, longest;     /* bytes of the longest token */
    lq_splitter *splitter;
};

/* The loader's steps. */
lq_status lq_tokenizer_load_vocab(lq_tokenizer *t, const lq_gguf *g);
/* Special ids, types that a token's text decides, the end-of-generation set. */
lq_status lq_tokenizer_load_special(lq_tokenizer *t, const lq_gguf *g);
/* The order in which partitioning looks for tokens. */
lq_status lq_tokenizer_index_special(lq_tokenizer *t);

/* Cuts text at the tokens written in it; *spans is the caller's. */
lq_status lq_partition(const lq_tokenizer *t, const char *text, size_t n, bool control,
                       lq_span **spans, int64_t *n_spans);

#endif
