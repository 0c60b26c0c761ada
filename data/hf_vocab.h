/* What the readers of Hugging Face tokenizer files share: the directory's descriptions, and the
 * vocabulary that they fill. */
#ifndef LOQUAT_HF_VOCAB_H
#define LOQUAT_HF_VOCAB_H

#include "gguf.h"
#include "str.h"

#include <jansson.h>

typedef struct lq_hf_files {
    const char *dir;
    json_t *config, *tokenizer_config, *tokenizer;   /* NULL: not there; tokenizer: its JSON */
} lq_hf_files;

typedef struct lq_hf_text { size_t start, n; } lq_hf_text;   /* in lq_hf_vocab.bytes */

/* type: as in GGUF; 0: no token has this id. */
typedef struct lq_hf_token { lq_hf_text text; float score; int32_t type; } lq_hf_token;

typedef struct lq_hf_vocab {
    bool spm;                /* model `llama` with scores, else `gpt2` with merges */
    const char *pre;         /* a name of pretokenizer.c, for `gpt2` */
    int space_prefix;        /* -1: nothing is known of it, else whether a space goes in front */
    lq_str bytes;
    lq_hf_token *token;
    lq_hf_text *merge;       /* "left right" */
    int64_t n, cap, n_merges, cap_merges;
} lq_hf_vocab;
#define LQ_HF_VOCAB_INIT {false, NULL, -1, LQ_STR_INIT, NULL, NULL, 0, 0, 0, 0}

void lq_hf_vocab_clear(lq_hf_vocab *v);
/* Replaces what the id had before. */
lq_status lq_hf_vocab_set(lq_hf_vocab *v, int64_t id, const char *text, size_t n, float score,
                          int type);
lq_status lq_hf_vocab_merge(lq_hf_vocab *v, const char *left, size_t n_left, const char *right,
                            size_t n_right);
/* An added token: control, or user-defined with its marks turned into spaces. */
lq_status lq_hf_vocab_added(lq_hf_vocab *v, int64_t id, const json_t *content, bool special);
/* Brings the vocabulary to n_vocab tokens: unused ones fill it up. 0: as many as there are. */
lq_status lq_hf_vocab_fit(lq_hf_vocab *v, int64_t n_vocab);
lq_status lq_hf_vocab_write(const lq_hf_vocab *v, lq_gguf_writer *w);

/* An object's member by name: NULL when the object is none or has it not. */
json_t *lq_hf_get(const json_t *object, const char *key);
/* A key of config.json, or of its text_config where the model is a part of a larger one. */
json_t *lq_hf_config(const lq_hf_files *f, const char *key);
/* Is this (the first of) `architectures` in config.json? */
bool lq_hf_is_arch(const lq_hf_files *f, const char *name);
bool lq_hf_is_llama(const lq_hf_files *f);   /* or one that is converted as it is */

/* ---- the readers, one per kind of file ---- */
lq_status lq_hf_read_sentencepiece(lq_hf_vocab *v, const char *path, const char *bytes, size_t n);
lq_status lq_hf_read_tekken(lq_hf_vocab *v, const lq_hf_files *f, lq_gguf_writer *w);
lq_status lq_hf_read_tokenizer_json(lq_hf_vocab *v, const lq_hf_files *f);
lq_status lq_hf_read_vocab_json(lq_hf_vocab *v, const lq_hf_files *f);

/* What tokenizer.json's normalizer and pre_tokenizer do: v->pre becomes the name that
 * pretokenizer.c has for it, or v->spm is set, with v->space_prefix. */
lq_status lq_hf_find_pre(lq_hf_vocab *v, const json_t *tokenizer);
/* The same where only tokenizer_config.json's tokenizer_class tells. */
lq_status lq_hf_pre_of_class(const char **pre, const json_t *tokenizer_class);
/* Models share regexes under several names. The ids of one probe text tell which model it is, as
 * llama.cpp's converter does; `pre` stays when they tell nothing. w: the metadata so far. */
lq_status lq_hf_refine_pre(lq_gguf_writer *w, const char *pre);

/* Special ids, add_*_token and chat templates. */
lq_status lq_hf_write_special(lq_gguf_writer *w, const lq_hf_files *f, const lq_hf_vocab *v);
lq_status lq_hf_write_template(lq_gguf_writer *w, const lq_hf_files *f);

#endif
