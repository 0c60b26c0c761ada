/* The tokenized cache: an lq_dataset in an HDF5 file named by its key, and the key itself. */
#ifndef LOQUAT_STORE_H
#define LOQUAT_STORE_H

#include "dataset.h"
#include "hash.h"

/* SHA-256 over the files' bytes, types and weights, the tokenizer's fingerprint and every option
 * that decides the result. A template that prints the date (strftime_now) adds the day. */
lq_status lq_store_key(char out[LQ_SHA256_HEX], const lq_data_source *sources, int n_sources,
                       const lq_tokenizer *tok, const lq_data_options *options);
lq_status lq_store_write(const char *path, const char *key, const lq_dataset *d);
/* LQ_OK with *found false when the file is absent, or when it has another key or version or is
 * damaged (said in the log). */
lq_status lq_store_read(bool *found, lq_dataset *out, const char *path, const char *key);

#endif
