/* One op on its own, without a tape: tensors made of test data, a node around them, forward and
 * backward run by hand. For tests that need a particular gradient of the output or a run that a
 * tape does not make. */
#ifndef LOQUAT_NODE_UTIL_H
#define LOQUAT_NODE_UTIL_H

#include "op.h"

enum { NODE_MAX_TENSORS = 16 };

typedef struct test_node {
    lq_node node;
    lq_tensor tensor[NODE_MAX_TENSORS];  /* inputs, out, saved, gradients; their data is owned */
    int n_tensors;
    void *scratch;
    size_t scratch_bytes;
} test_node;

/* Adds input `in` (rows, cols; cols 0: one dimension) of uniform numbers in [-1, 1); with a zero
 * gradient if `trained`. Returns it. */
lq_tensor *test_node_input(test_node *t, int in, lq_kind kind, int64_t rows, int64_t cols,
                           bool trained);

/* Adds an i32 input (n) with a copy of values. */
lq_tensor *test_node_ints(test_node *t, int in, const int32_t *values, int64_t n);

/* Shapes and allocates the output with a random gradient, what is saved, and the scratch. Outputs
 * start as NaN, so that what forward leaves out shows. */
void test_node_ready(test_node *t, const lq_op *op, const void *attr);
void test_node_forward(test_node *t, const lq_run *run);   /* run's scratch is filled in: NaN */
void test_node_backward(test_node *t, const lq_run *run);
void test_node_clear(test_node *t);

#endif
