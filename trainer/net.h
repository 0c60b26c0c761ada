/* A model recorded on a tape, compiled and allocated: what training, scoring and generation run. */
#ifndef LOQUAT_NET_H
#define LOQUAT_NET_H

#include "batch.h"
#include "model.h"

typedef struct lq_net {
    lq_tape *tape;        /* NULL: closed */
    lq_model_io io;
    int64_t capacity;     /* token rows */
} lq_net;

typedef struct lq_net_options {
    lq_build_options build;
    bool training, checkpoint;
    int64_t capacity;
    bool plan_only;       /* compile, allocate nothing */
} lq_net_options;

lq_status lq_net_open(lq_net *out, const lq_model *m, const lq_net_options *options);
void lq_net_close(lq_net *net);
/* Sets the rows and copies the batch into the inputs. The batch must have tokens. */
void lq_net_load(lq_net *net, const lq_batch *b);
/* The same for one plain sequence at positions first.., one segment from row 0 of the cache. */
void lq_net_load_ids(lq_net *net, const int32_t *ids, int64_t n, int64_t first);

/* Sums over the rows of a loss net's output after a forward. objective: what is minimised, nll
 * unless there is a teacher; kl: the divergence from it. */
typedef struct lq_loss { double objective, nll, kl; int64_t labels, correct; } lq_loss;
/* `sum` of a loss per label; NaN without labels. */
double lq_loss_mean(const lq_loss *loss, double sum);
void lq_net_add_loss(const lq_net *net, const lq_batch *b, lq_loss *sum);

#endif
