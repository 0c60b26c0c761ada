/* From a configuration to tokenized data: template, sources, cache, split. Used by training and
 * preprocess. */
#ifndef LOQUAT_PREPARE_H
#define LOQUAT_PREPARE_H

#include "config.h"
#include "dataset.h"
#include "hash.h"

typedef struct lq_prepared {
    lq_template *chat_template;           /* NULL: none */
    char *template_source;
    lq_dataset train, val;
    char key[LQ_SHA256_HEX];              /* of everything that decides train and val */
} lq_prepared;

/* Reads (or takes from the cache under dataset_prepared_path) the configured files and splits
 * them. now: the time that templates print, in seconds since 1970; 0: the clock. */
lq_status lq_prepare(lq_prepared *out, const lq_config *c, const lq_tokenizer *tok, int64_t now);
void lq_prepared_clear(lq_prepared *p);

/* The template that a configuration means: chat_template_jinja (source or file), chat_template
 * (a built-in name), else the model's own; *out NULL if there is none. *source: the caller's,
 * for the cache key. */
lq_status lq_choose_template(lq_template **out, char **source, const char *name, const char *jinja,
                             const lq_tokenizer *tok);

#endif
