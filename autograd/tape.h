/* The tape: record nodes once, compile them to a flat schedule with a planned arena, run it often.
 *
 * Life: new -> record (tensors and ops of ops.h) -> compile -> alloc -> { set_rows, write the
 * inputs, forward, read outputs, backward }... -> free. Recording is sticky: after a failure every
 * call returns the poison tensor (never NULL) and compile reports the first error. Compile touches
 * no large memory, so a plan can be made for a model that does not fit (`loquat plan`). */
#ifndef LOQUAT_TAPE_H
#define LOQUAT_TAPE_H

#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_tape lq_tape;

lq_status lq_tape_new(lq_tape **out, int64_t max_rows);  /* capacity in token rows */
void lq_tape_free(lq_tape *tape);
/* Before anything is recorded: where the tape runs; without it, on the CPU. Parameters are then the
 * device's memory; weights may be the host's and get a copy there (lq_dev_resident). */
void lq_tape_on(lq_tape *tape, lq_dev *dev);

/* ---- recording. `name` is copied and may be NULL. dim points to ndim sizes. ---- */
lq_tensor *lq_tape_weight(lq_tape *tape, const char *name, const lq_format *fmt, int ndim,
                          const int64_t *dim, const void *data);
/* F32; data and grad stay the caller's. Backward adds into grad; the caller zeroes it. grad NULL: a
 * parameter that is not trained in this tape (evaluation). data NULL: planning only. */
lq_tensor *lq_tape_param(lq_tape *tape, const char *name, int ndim, const int64_t *dim, float *data,
                         float *grad);
/* (N) when cols is 0, else (N, cols). Its memory is the tape's, valid after lq_tape_alloc. */
lq_tensor *lq_tape_input(lq_tape *tape, const char *name, const lq_format *fmt, int64_t cols);
/* Records op(in...) and returns its output. attr: op->attr_bytes bytes, copied; NULL if none. */
lq_tensor *lq_tape_record(lq_tape *tape, const lq_op *op, const void *attr, int n_in,
                          lq_tensor *const *in);
/* Nodes recorded from now on belong to checkpointing segment `segment` (a layer); -1: none. */
void lq_tape_segment(lq_tape *tape, int segment);
/* Keeps t's data until the end of the run. The last output of a training tape is the loss. */
void lq_tape_output(lq_tape *tape, lq_tensor *t);
/* Records an error (first one wins); returns the poison tensor. For constructors. */
lq_tensor *lq_tape_fail(lq_tape *tape, lq_status status, const char *fmt, ...) LQ_PRINTF(3, 4);

typedef struct lq_tape_options {
    bool training;    /* plan the backward pass too */
    bool checkpoint;  /* keep only each segment's inputs; run it again in the backward pass */
} lq_tape_options;

lq_status lq_tape_compile(lq_tape *tape, const lq_tape_options *options);
size_t lq_tape_arena_bytes(const lq_tape *tape); /* compiled: activations, gradients, scratch,
                                                      and parameters' copies for the device */
lq_status lq_tape_alloc(lq_tape *tape);            /* the only large allocation */

/* ---- running ---- */
/* Rows of the next run, 1..max_rows: sets dim[0] of every input and activation. */
void lq_tape_set_rows(lq_tape *tape, int64_t rows);
/* The rows of this run of an input, from host memory. */
void lq_tape_write(lq_tape *tape, const lq_tensor *input, const void *from);
/* Rows [first, first + n) of an output as F32 on the host, when the forward pass is through: valid
 * until the next run or view. */
lq_status lq_tape_view(lq_tape *tape, const lq_tensor *output, int64_t first, int64_t n,
                       const float **out);
/* What the tape's activations are kept in. */
const lq_format *lq_tape_activation(const lq_tape *tape);
/* key: random numbers of this run. n_past: see lq_run. */
lq_status lq_tape_forward(lq_tape *tape, uint64_t key, int64_t n_past);
/* After a forward of the same rows and key: fills the loss's gradient with 1 and adds into every
 * parameter's gradient. */
lq_status lq_tape_backward(lq_tape *tape);

/* Called in every later forward pass after each node's kernel, while its inputs are still there:
 * for statistics. NULL: nobody. */
typedef void (*lq_observer_fn)(void *ctx, const lq_node *node);
void lq_tape_observe(lq_tape *tape, lq_observer_fn fn, void *ctx);

#ifdef __cplusplus
}
#endif
#endif
