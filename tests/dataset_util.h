/* Datasets made by hand for check_split, check_store and check_batch: no file, no tokenizer. */
#ifndef LOQUAT_DATASET_UTIL_H
#define LOQUAT_DATASET_UTIL_H

#include "dataset.h"
#include "random.h"

/* n examples of 2 to max_len tokens (same seed, same data). Token t of example i is i * 1000 + t;
 * the second half of each is trained. Every example is its own group with its own content. */
static inline lq_dataset test_dataset(int64_t n, int64_t max_len, uint64_t seed) {
    lq_dataset d = {.n = n, .example = lq_alloc_array(n, sizeof *d.example)};
    for (int64_t i = 0; i < n; i++) {
        lq_example *e = &d.example[i];
        *e = (lq_example){
            .first = d.n_tokens, .line = i + 1, .hash = 2 * (uint64_t)i + 1, .group = (uint64_t)i};
        e->n = (int32_t)(2 + lq_random_below(seed, (uint64_t)i, (uint64_t)max_len - 1));
        e->n_trained = e->n - e->n / 2;
        d.n_tokens += e->n;
        d.counts.trained_tokens += e->n_trained;
    }
    d.ids = lq_alloc_array(d.n_tokens, sizeof *d.ids);
    d.mask = lq_alloc_array(d.n_tokens, 1);
    for (int64_t i = 0; i < n; i++)
        for (int32_t t = 0; t < d.example[i].n; t++) {
            d.ids[d.example[i].first + t] = (int32_t)(i * 1000 + t);
            d.mask[d.example[i].first + t] = t >= d.example[i].n / 2;
        }
    d.counts.records = d.counts.examples = n;
    d.counts.tokens = d.n_tokens;
    return d;
}

#endif
