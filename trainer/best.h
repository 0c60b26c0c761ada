/* What a run validated best, opened again: its base model with the best parameters of its newest
 * checkpoint and the template that it was trained with. */
#ifndef LOQUAT_BEST_H
#define LOQUAT_BEST_H

#include "adapter.h"
#include "base_hash.h"
#include "config.h"
#include "types.h"

typedef struct lq_best {
    lq_model *model;
    lq_base_hash base_hash;  /* of the model's files, which must be the run's */
    lq_types types;          /* the adapter borrows them */
    lq_adapter *adapter;
    char *template_source;   /* NULL: none */
    int64_t step;
} lq_best;

/* Close it after a failure too. */
lq_status lq_best_open(lq_best *b, const lq_config *c, const char *run_dir);
void lq_best_close(lq_best *b);

#endif
