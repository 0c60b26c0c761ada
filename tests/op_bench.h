/* A small tape around one op, for check_ops: what its inputs are, and how to run it.
 *
 * A case's `build` asks for inputs one after the other and records the op; its `reference` computes
 * the same from the inputs' values in double, by their index. The gradients are then known from
 * differences of the reference. Rows of activations come from an embedding of a parameter, so that
 * they have gradients and follow lq_tape_set_rows. */
#ifndef LOQUAT_OP_BENCH_H
#define LOQUAT_OP_BENCH_H

#include "ops.h"

enum { BENCH_MAX_ITEMS = 12 };

typedef struct bench_item {
    int64_t rows, cols;   /* a vector has rows 1 */
    bool trained;         /* has a gradient to check */
    float *data, *grad;   /* (rows,cols); NULL for i32 inputs */
    void *packed;         /* the same in the weight's format, or NULL */
    int32_t *ints;        /* (N) of an i32 input */
    lq_tensor *input;     /* where they go, or NULL */
    float *dev_data, *dev_grad;   /* a parameter on the tape's device */
    double *v;            /* (rows,cols): data, dequantized, for the reference */
} bench_item;

typedef struct op_bench op_bench;

typedef struct op_case {
    const char *op, *name;
    lq_tensor *(*build)(op_bench *b);
    void (*reference)(const op_bench *b, double *out);
    double spread;        /* inputs are uniform in [-spread, spread); 0: 1 */
    double tolerance;     /* relative to the largest number; 0: 3e-6 */
    bool is_loss;         /* the gradient is that of the sum of column 0, as ce_head's */
    bool random;          /* training draws random numbers, so inference computes something else */
    bool cpu_only;        /* other devices refuse it, by name */
} op_case;

struct op_bench {
    const op_case *c;
    lq_dev *dev;
    lq_tape *tape;
    int64_t capacity, rows;
    lq_tensor *ids;               /* 0, 1, 2, ...: shared by all bench_rows */
    lq_tensor *out;               /* of the op */
    bench_item item[BENCH_MAX_ITEMS];
    int n_items;
    float *result;                /* (rows, cols of out): out, after bench_run */
    float *weigh;                 /* (capacity, cols of out): the loss is sum weigh * out */
};

enum { BENCH_CAPACITY = 19, BENCH_KEY = 77 };

/* ---- for cases: inputs, in the order of their item index ---- */
lq_tensor *bench_rows(op_bench *b, int64_t cols);                  /* activation (N, cols) */
lq_tensor *bench_param(op_bench *b, int64_t rows, int64_t cols);   /* rows 0: a vector (cols) */
lq_tensor *bench_weight(op_bench *b, const lq_format *fmt, int64_t rows, int64_t cols); /* frozen */
lq_tensor *bench_ints(op_bench *b, int32_t (*value)(int64_t t));   /* i32 input (N) */

/* ---- for check_ops ---- */
/* Records, compiles, allocates and writes the inputs. Free with bench_close whatever it returns. */
lq_status bench_open(op_bench *b, lq_dev *dev, const op_case *c, int64_t rows,
                     lq_tape_options options);
/* Forward, and backward; then item[].grad and result hold what came out. */
lq_status bench_run(op_bench *b, bool backward);
void bench_close(op_bench *b);
/* The loss of the reference at the present item[].v. */
double bench_loss(const op_bench *b, double *out_scratch);
int64_t bench_out_size(const op_bench *b);

#endif
