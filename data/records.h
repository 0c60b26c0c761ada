/* What one record of a data file says to the model: its text, tokens and training mask. The rules
 * are dataset.h's; the one place where they are carried out.
 *
 * A prompt and its completion are tokenized apart, so that whoever generates after tokenizing the
 * prompt alone sees the same ids; the completion gets neither a second BOS nor a second SPM space
 * prefix. Special tokens written in the data are parsed in messages, prompts and completions (as
 * llama.cpp does when it generates), not in plain text (as llama-perplexity does). */
#ifndef LOQUAT_RECORDS_H
#define LOQUAT_RECORDS_H

#include "dataset.h"

#include <jansson.h>

typedef struct lq_record_type lq_record_type;

/* The type called `name`, or with "" or NULL the one that the record's fields show. LQ_ECONFIG: no
 * such name; LQ_EFORMAT: the fields fit none (the message lists the types and their fields). */
lq_status lq_record_type_of(const lq_record_type **out, const char *name, const json_t *record);
const char *lq_record_type_name(const lq_record_type *type);

/* Reused from record to record. */
typedef struct lq_encoding {
    lq_str text;         /* what was tokenized: a rendered conversation, prompt + completion */
    lq_tokens tokens;
    uint8_t *mask;       /* (tokens.n) 1: a training target; never the first: nothing predicts it */
    int64_t mask_cap;
    lq_spans spans;
    bool *train;         /* per message */
    int64_t train_cap;
} lq_encoding;
#define LQ_ENCODING_INIT {LQ_STR_INIT, LQ_TOKENS_INIT, NULL, 0, LQ_SPANS_INIT, NULL, 0}

void lq_encoding_clear(lq_encoding *e);

/* Replaces what `out` holds. Used of the options: chat_template, train_on_inputs, roles_to_train,
 * now. generation_prompt: ends with the header of the next answer (conversations only). */
lq_status lq_record_encode(lq_encoding *out, json_t *record, const lq_record_type *type,
                           const lq_tokenizer *tok, const lq_data_options *options,
                           bool generation_prompt);

#endif
