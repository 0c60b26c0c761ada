/* The inside of a tape, shared by tape.c (recording), tape_compile.c, tape_run.c and tape_print.c.
 * Not for anybody else. */
#ifndef LOQUAT_TAPE_PARTS_H
#define LOQUAT_TAPE_PARTS_H

#include "tape.h"

typedef enum lq_entry_kind { LQ_ENTRY_FORWARD, LQ_ENTRY_ZERO, LQ_ENTRY_BACKWARD } lq_entry_kind;

/* One step of the flat schedule. */
typedef struct lq_entry {
    lq_entry_kind kind;
    lq_node *node;       /* FORWARD, BACKWARD */
    lq_tensor *tensor;   /* ZERO: a gradient, right before its first use */
    size_t scratch;      /* bytes that the kernel may use */
} lq_entry;

/* An input, an activation or its gradient. */
typedef struct lq_local {
    lq_tensor *tensor;
    bool by_rows;        /* dim[0] follows lq_tape_set_rows */
} lq_local;

/* Neighbouring parameters that are converted together. */
typedef struct lq_narrow_span { const float *from; void *to; int64_t n; } lq_narrow_span;

struct lq_tape {
    int64_t max_rows;
    int segment;                     /* of the nodes being recorded */
    lq_tensor **tensor;              /* all, with gradients and clones; owned */
    int64_t n_tensors, cap_tensors;
    lq_node **node;                  /* as recorded; owned, with their attr */
    int64_t n_nodes, cap_nodes;
    lq_node **clone;                 /* recomputed nodes; owned, but attr is the original's */
    int64_t n_clones, cap_clones;
    lq_tensor **output;
    int64_t n_outputs, cap_outputs;
    lq_status status;                /* the first error of recording */
    char *error;                     /* its message; NULL when memory was out */
    lq_tensor poison;

    lq_entry *entry;                 /* the schedule */
    int64_t n_entries, cap_entries;
    int64_t n_forward;               /* its forward pass; the backward pass follows */
    lq_tensor *loss;                 /* the last output of a training tape, else NULL */
    lq_local *local;                 /* the first n_residents are in the arena, the others have a */
    int64_t n_locals, n_residents;   /* shape but no memory */
    size_t scratch_offset, scratch_bytes, arena_bytes;

    void *block;                     /* the arena's allocation */
    char *arena;                     /* in it, 64-byte aligned; NULL before lq_tape_alloc */
    void *inputs;                    /* a copy of the inputs where the device's are out of reach */
    void *narrow_block;              /* the parameters' copies (tape_narrow.c); NULL: none */
    lq_narrow_span *narrow;
    int64_t n_narrow;
    lq_run run;                      /* run.dev: where the tape runs */
    float *view; int64_t cap_view;   /* lq_tape_view's copy */
    lq_observer_fn observer;         /* NULL: none */
    void *observer_ctx;
};

/* A new tensor owned by the tape: F32, no shape. NULL when memory is out. */
lq_tensor *lq_tape_add_tensor(lq_tape *tape, lq_kind kind, const char *name);

/* ---- tape_narrow.c ---- */
size_t lq_tape_narrow_bytes(const lq_tape *tape);
lq_status lq_tape_alloc_narrow(lq_tape *tape);
void lq_tape_narrow(const lq_tape *tape);   /* makes the copies from the parameters */

/* Bytes at the present number of rows. */
static inline size_t lq_tensor_bytes(const lq_tensor *t) {
    return lq_format_bytes(t->fmt, lq_rows(t) * lq_cols(t));
}

#endif
