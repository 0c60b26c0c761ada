/* Laying examples end to end. See batch.h; which examples, is loader.c's. */
#include "batch.h"

#include <assert.h>
#include <string.h>

lq_status lq_batch_init(lq_batch *b, int64_t capacity) {
    *b = (lq_batch){.capacity = capacity};
    b->ids = lq_alloc_array(capacity, sizeof *b->ids);
    b->labels = lq_alloc_array(capacity, sizeof *b->labels);
    b->pos = lq_alloc_array(capacity, sizeof *b->pos);
    b->starts = lq_alloc_array(capacity, sizeof *b->starts);
    b->token = lq_alloc_array(capacity, sizeof *b->token);
    if (b->ids && b->labels && b->pos && b->starts && b->token) return LQ_OK;
    lq_batch_clear(b);
    return LQ_EMEM;
}

void lq_batch_clear(lq_batch *b) {
    lq_free(b->ids);
    lq_free(b->labels);
    lq_free(b->pos);
    lq_free(b->starts);
    lq_free(b->token);
    *b = (lq_batch){0};
}

static void append(lq_batch *b, const lq_dataset *d, const lq_example *e) {
    const int32_t *ids = d->ids + e->first;
    const uint8_t *mask = d->mask + e->first;
    const int64_t start = b->n_tokens;
    assert(start + e->n <= b->capacity);
    memcpy(b->ids + start, ids, (size_t)e->n * sizeof *ids);
    for (int32_t t = 0; t < e->n; t++) {
        const bool trained = t + 1 < e->n && mask[t + 1];
        b->labels[start + t] = trained ? ids[t + 1] : -1;
        b->pos[start + t] = t;
        b->starts[start + t] = (int32_t)start;
        b->token[start + t] = e->first + t;
        b->n_labels += trained;
    }
    b->n_tokens += e->n;
    b->n_examples++;
}

static void begin(lq_batch *b, const lq_dataset *d) {
    b->n_tokens = b->n_labels = b->n_examples = 0;
    b->data = d;
}

void lq_batch_fill(lq_batch *b, const lq_dataset *d, const int64_t *example, int64_t n) {
    begin(b, d);
    for (int64_t i = 0; i < n; i++) append(b, d, &d->example[example[i]]);
}

int64_t lq_batch_fill_from(lq_batch *b, const lq_dataset *d, int64_t first) {
    begin(b, d);
    int64_t i = first;
    for (; i < d->n && b->n_tokens + d->example[i].n <= b->capacity; i++)
        append(b, d, &d->example[i]);
    assert(i > first);
    return i;
}
