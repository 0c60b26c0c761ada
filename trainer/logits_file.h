/* llama-perplexity's logits file: header "_logits_", n_ctx, n_vocab, n_chunk, the tokens; then
 * for every scored position a row of log-probabilities in 16 bits: f32 scale, f32 min, one u16
 * code per token, padded to even. Source: tools/perplexity/perplexity.cpp of llama.cpp
 * (log_softmax, kl_divergence). */
#ifndef LOQUAT_LOGITS_FILE_H
#define LOQUAT_LOGITS_FILE_H

#include "atomic_file.h"

typedef struct lq_logits_writer {
    lq_atomic_file file;
    uint16_t *row;
    int64_t n_vocab;
} lq_logits_writer;

lq_status lq_logits_create(lq_logits_writer *w, const char *path, int64_t n_ctx, int64_t n_vocab,
                           int64_t n_chunk, const int32_t *tokens);
lq_status lq_logits_write(lq_logits_writer *w, const float *logits);   /* one row (V) */
lq_status lq_logits_commit(lq_logits_writer *w);
void lq_logits_abort(lq_logits_writer *w);

typedef struct lq_logits_reader {
    FILE *f;
    char *path;
    int64_t n_ctx, n_vocab, n_chunk;
    int32_t *tokens;     /* (n_chunk * n_ctx) */
    uint16_t *row;
} lq_logits_reader;

lq_status lq_logits_open(lq_logits_reader *r, const char *path);
lq_status lq_logits_read(lq_logits_reader *r, float *log_p); /* one row (V) of log-probabilities */
void lq_logits_close(lq_logits_reader *r);

#endif
