/* Pre-tokenizers of byte-level BPE: the table of `tokenizer.ggml.pre` names, and the splitter that
 * cuts a text into the words inside which merges happen. */
#ifndef LOQUAT_PRETOKENIZER_H
#define LOQUAT_PRETOKENIZER_H

#include "base.h"

enum {
    LQ_PRE_IGNORE_MERGES = 1, /* a word that is a token is that token, whatever the merges say */
    LQ_PRE_ADD_BOS = 2,       /* unless add_bos_token says otherwise */
    LQ_PRE_NO_BOS = 4,        /* there is no BOS unless bos_token_id names one */
    LQ_PRE_KEEP_SPACES = 8    /* detokenizing does not tidy " ." and " 's" */
};

typedef struct lq_pre {
    const char *name;
    const char *const *regex; /* applied one after the other to the pieces so far; NULL ends them */
    unsigned flags;
} lq_pre;

const lq_pre *lq_pre_find(const char *name); /* NULL: unknown */
const lq_pre *lq_pre_at(int i);              /* NULL: no more rows */

typedef struct lq_splitter lq_splitter;

lq_status lq_splitter_new(lq_splitter **out, const lq_pre *pre);
void lq_splitter_free(lq_splitter *s);
/* The bytes of every word of text, in order; *words is the caller's. The text must be structurally
 * whole UTF-8 (surrogates may be in it). Thread-safe. */
lq_status lq_splitter_run(const lq_splitter *s, const char *text, size_t n, int32_t **words,
                          int64_t *n_words);

#endif
