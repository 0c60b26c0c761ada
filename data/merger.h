/* The merge loop that SPM and BPE share: a list of pieces, and a heap of neighbours that may join.
 * The best key joins first, ties from the left; what a join leaves stale in the heap is skipped. */
#ifndef LOQUAT_MERGER_H
#define LOQUAT_MERGER_H

#include "base.h"

typedef struct lq_piece {
    int32_t id;              /* what the rule says it is; -1: nothing */
    int32_t prev, next;      /* -1: none */
    int32_t start, bytes;    /* in the text; 0 bytes: swallowed by the piece before */
} lq_piece;

/* May these neighbours join? Gives the key (smallest first) and the id of the joined piece. */
typedef bool (*lq_join_rule)(const void *ctx, const lq_piece *left, const lq_piece *right,
                             double *key, int32_t *id);

typedef struct lq_merger {
    lq_piece *piece;
    struct lq_join *heap;
    int64_t n, cap, n_heap, cap_heap;
} lq_merger;
#define LQ_MERGER_INIT {NULL, NULL, 0, 0, 0, 0}

void lq_merger_clear(lq_merger *m);
void lq_merger_reset(lq_merger *m);
lq_status lq_merger_add(lq_merger *m, int32_t id, int32_t start, int32_t bytes);
/* Joins until nothing may; what is left is piece[0], then along next. */
lq_status lq_merger_run(lq_merger *m, lq_join_rule rule, const void *ctx);

#endif
