/* Micro-batches: examples laid end to end, never padded. A row's segment start keeps examples from
 * seeing each other: packing changes speed, never the loss. Order and position are reproducible. */
#ifndef LOQUAT_BATCH_H
#define LOQUAT_BATCH_H

#include "dataset.h"

typedef struct lq_batch {
    int64_t n_tokens;    /* rows used, <= capacity */
    int64_t n_labels;    /* labels >= 0 */
    int64_t n_examples;
    int32_t *ids;        /* (capacity) */
    int32_t *labels;     /* (capacity) the example's next token if it is trained, else -1 */
    int32_t *pos;        /* (capacity) position within the example */
    int32_t *starts;     /* (capacity) row where the example starts */
    int64_t *token;      /* (capacity) index of the row's token in the dataset's ids */
    const lq_dataset *data;  /* the dataset of the rows; borrowed */
    int64_t capacity;
} lq_batch;

lq_status lq_batch_init(lq_batch *b, int64_t capacity);
void lq_batch_clear(lq_batch *b);
/* Fills b with the n examples listed (in that order); capacity must suffice. */
void lq_batch_fill(lq_batch *b, const lq_dataset *d, const int64_t *example, int64_t n);
/* Fills b with the examples from `first` on, as many as fit (one must); returns the next. */
int64_t lq_batch_fill_from(lq_batch *b, const lq_dataset *d, int64_t first);

typedef enum lq_order { LQ_ORDER_SHUFFLE, LQ_ORDER_SEQUENTIAL, LQ_ORDER_BUCKETED } lq_order;

typedef struct lq_loader_options {
    int64_t micro_batch_size;   /* examples per micro-batch; with packing: bins of sequence_len */
    int64_t sequence_len;
    bool packing;               /* first-fit into bins of sequence_len */
    lq_order order;             /* BUCKETED: near-equal lengths together, batches shuffled */
    uint64_t seed;
} lq_loader_options;

typedef struct lq_loader lq_loader;

lq_status lq_loader_new(lq_loader **out, const lq_dataset *d, const lq_loader_options *options);
void lq_loader_free(lq_loader *l);
/* Micro-batches; the last may be short; the same every epoch. */
int64_t lq_loader_batches_per_epoch(const lq_loader *l);
int64_t lq_loader_max_tokens(const lq_loader *l);     /* capacity that any batch needs */
/* The position is one number: micro-batches served since the start of the run. */
int64_t lq_loader_position(const lq_loader *l);
void lq_loader_seek(lq_loader *l, int64_t position);  /* O(1): the seed gives an epoch's order */
lq_status lq_loader_next(lq_loader *l, lq_batch *b);  /* goes on into the next epoch */

#endif
