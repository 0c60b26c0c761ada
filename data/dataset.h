/* JSONL (or JSON array) records in, tokenized examples out; validation split; what was dropped is
 * counted.
 *
 * Records, type guessed per file or given: `messages` ({messages:[{role,content}], tools?}),
 * `sharegpt` ({conversations:[{from,value}]}), `alpaca` ({instruction,input?,output}),
 * `completion` ({prompt,completion}), `text` ({text}). Records with the same "group" stay on one
 * side of the split.
 *   text:              BOS? + text + EOS, everything trained
 *   prompt/completion: BOS? + prompt + completion + EOS; completion and EOS trained (alpaca:
 *                      through the template if the model has one, else Alpaca's own prompt text)
 *   messages:          exactly what the template renders, special tokens parsed, BOS not doubled */
#ifndef LOQUAT_DATASET_H
#define LOQUAT_DATASET_H

#include "template.h"
#include "tokenizer.h"

typedef struct lq_data_source {
    const char *path;    /* .jsonl, or .json holding an array */
    const char *type;    /* "" or NULL: guess */
    double weight;       /* 1: every record once per epoch, 2: twice, 0.5: half of them */
} lq_data_source;

typedef enum lq_excess { LQ_EXCESS_DROP, LQ_EXCESS_TRUNCATE, LQ_EXCESS_RAISE } lq_excess;

typedef struct lq_data_options {
    int64_t sequence_len;
    lq_excess excess;
    bool train_on_inputs;                 /* also the prompt / user turns */
    const char *const *roles_to_train;    /* NULL-terminated; NULL: {"assistant"} */
    const lq_template *chat_template;     /* NULL: the model has none (messages are then refused) */
    const char *chat_template_source;     /* for the cache key */
    double val_set_size;                  /* < 1: share; >= 1: examples; 0: none */
    uint64_t seed;                        /* of the split and of fractional weights */
    int64_t now;                          /* what strftime_now shows, in seconds; 0: the clock */
} lq_data_options;

typedef struct lq_example {
    int64_t first;       /* index of its first token in the dataset's ids/mask */
    int32_t n;           /* tokens */
    int32_t n_trained;   /* tokens with mask 1 (as targets) */
    int32_t source;      /* index of the file */
    int64_t line;        /* 1-based record number in the file (line for JSONL) */
    uint64_t hash;       /* of the record's canonical content: exact duplicates share it */
    uint64_t group;      /* examples of one group never straddle the split */
} lq_example;

typedef struct lq_data_counts {
    int64_t records;          /* read from the files */
    int64_t examples;         /* in the dataset: after dropping and after weights */
    int64_t too_long_dropped, truncated, nothing_trained;   /* records */
    int64_t duplicates;       /* records whose content an earlier one has */
    int64_t tokens, trained_tokens;                         /* of the examples */
} lq_data_counts;

/* Plain data: what the cache stores and batches read. */
typedef struct lq_dataset {
    lq_example *example;
    int64_t n;
    int32_t *ids;        /* all examples' tokens */
    uint8_t *mask;       /* 1: the token is a training target */
    int64_t n_tokens;
    lq_data_counts counts;
} lq_dataset;

void lq_dataset_clear(lq_dataset *d);

/* Reads and tokenizes the files. Every broken record is an error "FILE:LINE: what"; up to 20 of
 * them are gathered into one message. An empty result is an error. */
lq_status lq_dataset_load(lq_dataset *out, const lq_data_source *sources, int n_sources,
                          const lq_tokenizer *tok, const lq_data_options *options);

/* Splits by group and exact duplicate (union of both): `val` gets about options->val_set_size.
 * Deterministic in seed. d keeps the rest. With val_set_size 0, or one group, val is empty. */
lq_status lq_dataset_split(lq_dataset *d, lq_dataset *val, const lq_data_options *options);

/* Examples of `d` whose content hash also occurs in `other` (leaks across a given split). */
int64_t lq_dataset_overlap(const lq_dataset *d, const lq_dataset *other);

/* One example as text for `preprocess --debug`: decoded tokens, trained ones in green when `color`,
 * in [[...]] otherwise. */
lq_status lq_dataset_show(const lq_dataset *d, int64_t i, const lq_tokenizer *tok, bool color,
                          lq_str *out);

#endif
