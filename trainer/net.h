/* A model recorded on a tape, compiled and allocated: what training, scoring and generation run. */
#ifndef LOQUAT_NET_H
#define LOQUAT_NET_H

#include "batch.h"
#include "model.h"

typedef struct lq_net {
    lq_tape *tape;        /* NULL: closed */
    lq_model_io io;
    int64_t capacity;     /* token rows */
    lq_dev *dev;          /* where the tape runs; borrowed */
    struct lq_net_buffers *buffers;
} lq_net;

typedef struct lq_net_options {
    lq_build_options build;
    bool training, checkpoint;
    int64_t capacity;
    lq_dev *dev;          /* NULL: the CPU */
    bool plan_only;       /* compile, allocate nothing */
} lq_net_options;

lq_status lq_net_open(lq_net *out, const lq_model *m, const lq_net_options *options);
void lq_net_close(lq_net *net);
/* Sets the rows and copies the batch into the inputs. The batch must have tokens. */
void lq_net_load(lq_net *net, const lq_batch *b);
/* The same for one plain sequence at positions first.., one segment from row 0 of the cache; no row
 * has a label. */
void lq_net_load_ids(lq_net *net, const int32_t *ids, int64_t n, int64_t first);

/* Memory for what the caller writes to the tape, and then says to have sent: zeros, or what an
 * earlier call of this many bytes left there. */
lq_status lq_net_buffer(lq_net *net, size_t bytes, void **out);
void lq_net_buffer_sent(lq_net *net);

/* Sums over rows of a loss net's output. objective: what is minimised, nll unless there is a
 * teacher; kl: the divergence from it. */
typedef struct lq_loss { double objective, nll, kl; int64_t labels, correct; } lq_loss;
/* After the forward pass of a batch: its losses are on their way to the host. */
lq_status lq_net_take_loss(lq_net *net, const lq_batch *b);
/* Waits for the losses taken since the last call and sums them. */
lq_status lq_net_sum_loss(lq_net *net, lq_loss *out);
/* `sum` of a loss per label; NaN without labels. */
double lq_loss_mean(const lq_loss *loss, double sum);

#endif
