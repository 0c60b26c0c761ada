/* Tokenizers with exactly llama.cpp's behaviour (llama-vocab.cpp): SPM (`llama`) and byte-level BPE
 * (`gpt2`) from GGUF metadata. Where Hugging Face differs (Unicode normalisation), llama.cpp
 * wins. */
#ifndef LOQUAT_TOKENIZER_H
#define LOQUAT_TOKENIZER_H

#include "gguf.h"
#include "str.h"

typedef struct lq_tokenizer lq_tokenizer;

/* A growing list of tokens. start/end: the bytes of the input text that the token stands for
 * (equal for tokens that stand for nothing: BOS, EOS, an SPM space prefix belongs to the token
 * after it). */
typedef struct lq_tokens {
    int32_t *id;
    int64_t *start, *end;
    int64_t n, cap;
} lq_tokens;
#define LQ_TOKENS_INIT {NULL, NULL, NULL, 0, 0}
void lq_tokens_clear(lq_tokens *t);
lq_status lq_tokens_add(lq_tokens *t, int32_t id, int64_t start, int64_t end);

enum {
    LQ_TOK_BOS = 1,      /* add BOS if the model's add_bos_token says so */
    LQ_TOK_EOS = 2,      /* add EOS if the model's add_eos_token says so */
    LQ_TOK_SPECIAL = 4   /* parse control tokens written in the text (user-defined: always) */
};

lq_status lq_tokenizer_from_gguf(lq_tokenizer **out, const lq_gguf *g);
void lq_tokenizer_close(lq_tokenizer *t);

/* Appends the tokens of text[0..n) to out. Thread-safe on a const tokenizer. */
lq_status lq_tokenize(const lq_tokenizer *t, const char *text, size_t n, unsigned flags,
                      lq_tokens *out);

/* The text of ids: control tokens are dropped unless `special`; an SPM space prefix is removed
 * from the front, as llama_detokenize does (remove_special=false). */
lq_status lq_detokenize(const lq_tokenizer *t, const int32_t *ids, int64_t n, bool special,
                        lq_str *out);
/* The bytes of one token as they appear inside a text (may be part of a UTF-8 character). */
lq_status lq_token_piece(const lq_tokenizer *t, int32_t id, bool special, lq_str *out);
/* For streaming: how many leading bytes of s[0..n) are whole UTF-8 characters (or can never
 * become one). */
size_t lq_utf8_complete(const char *s, size_t n);

int32_t lq_tokenizer_n_vocab(const lq_tokenizer *t);
const char *lq_token_text(const lq_tokenizer *t, int32_t id);   /* as stored in the vocabulary */
int lq_token_type(const lq_tokenizer *t, int32_t id);           /* GGUF token type 1..6 */
int32_t lq_token_find(const lq_tokenizer *t, const char *text); /* -1: no such token */
int32_t lq_tokenizer_bos(const lq_tokenizer *t);                /* -1: none */
int32_t lq_tokenizer_eos(const lq_tokenizer *t);
int32_t lq_tokenizer_eot(const lq_tokenizer *t);
bool lq_tokenizer_adds_bos(const lq_tokenizer *t);
bool lq_tokenizer_adds_eos(const lq_tokenizer *t);
bool lq_token_is_eog(const lq_tokenizer *t, int32_t id);        /* of llama.cpp's EOG set */
const char *lq_tokenizer_model(const lq_tokenizer *t);          /* "llama" or "gpt2" */
const char *lq_tokenizer_pre(const lq_tokenizer *t);            /* "" for SPM */
const char *lq_tokenizer_chat_template(const lq_tokenizer *t);  /* Jinja source or NULL */
/* SHA-256 hex over everything that decides the ids (tokens, types, scores, merges, pre, flags). */
const char *lq_tokenizer_fingerprint(const lq_tokenizer *t);

#endif
