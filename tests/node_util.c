/* See node_util.h. */
#include "node_util.h"

#include "test_util.h"

#include <math.h>
#include <string.h>

static lq_tensor *add_tensor(test_node *t, lq_kind kind) {
    ck_assert_int_lt(t->n_tensors, NODE_MAX_TENSORS);
    lq_tensor *x = &t->tensor[t->n_tensors++];
    *x = (lq_tensor){.fmt = &lq_f32, .kind = kind};
    return x;
}

static int64_t elements(const lq_tensor *x) { return lq_rows(x) * lq_cols(x); }

static void allocate(lq_tensor *x) {
    x->data = lq_alloc_aligned(lq_format_bytes(x->fmt, elements(x)));
    ck_assert_ptr_nonnull(x->data);
}

static void add_grad(test_node *t, lq_tensor *x) {
    x->grad = add_tensor(t, LQ_ACTIVATION);
    x->grad->ndim = x->ndim;
    memcpy(x->grad->dim, x->dim, sizeof x->dim);
    allocate(x->grad);
}

lq_tensor *test_node_input(test_node *t, int in, lq_kind kind, int64_t rows, int64_t cols,
                           bool trained) {
    lq_tensor *x = t->node.in[in] = add_tensor(t, kind);
    x->ndim = cols ? 2 : 1;
    x->dim[0] = rows;
    x->dim[1] = cols;
    allocate(x);
    test_fill(x->data, elements(x), 1000 + (uint64_t)in);
    if (trained) add_grad(t, x);
    return x;
}

lq_tensor *test_node_ints(test_node *t, int in, const int32_t *values, int64_t n) {
    lq_tensor *x = t->node.in[in] = add_tensor(t, LQ_INPUT);
    x->fmt = &lq_i32;
    x->ndim = 1;
    x->dim[0] = n;
    allocate(x);
    memcpy(x->data, values, (size_t)n * sizeof *values);
    return x;
}

static void fill_nan(lq_tensor *x) {
    for (int64_t i = 0; i < elements(x); i++) lq_data_f32(x)[i] = NAN;
}

static size_t scratch_bytes(const test_node *t, bool backward) {
    const lq_kernels *const kernels = t->node.op->kernel[LQ_CPU];
    return kernels->scratch ? kernels->scratch(&t->node, backward) : 0;
}

void test_node_ready(test_node *t, const lq_op *op, const void *attr) {
    t->node.op = op;
    t->node.attr = attr;
    t->node.id = 7;
    t->node.out = add_tensor(t, LQ_ACTIVATION);
    t->node.saved = add_tensor(t, LQ_ACTIVATION);
    ck_ok(op->shape(&t->node));
    allocate(t->node.out);
    fill_nan(t->node.out);
    add_grad(t, t->node.out);
    test_fill(t->node.out->grad->data, elements(t->node.out), 99);
    if (t->node.saved->ndim == 0) {
        t->node.saved = NULL;
    } else {
        allocate(t->node.saved);
        fill_nan(t->node.saved);
    }
    const size_t forward = scratch_bytes(t, false), backward = scratch_bytes(t, true);
    t->scratch_bytes = forward > backward ? forward : backward;
    t->scratch = lq_alloc_aligned(t->scratch_bytes);
    ck_assert_ptr_nonnull(t->scratch);
}

/* What an earlier node left behind is nobody's to read. */
static void *nan_scratch(const test_node *t) { return memset(t->scratch, 0xff, t->scratch_bytes); }

void test_node_forward(test_node *t, const lq_run *run) {
    lq_run r = *run;
    r.scratch = nan_scratch(t);
    t->node.op->kernel[LQ_CPU]->fwd(&t->node, &r);
}

void test_node_backward(test_node *t, const lq_run *run) {
    lq_run r = *run;
    r.scratch = nan_scratch(t);
    t->node.op->kernel[LQ_CPU]->bwd(&t->node, &r);
}

void test_node_clear(test_node *t) {
    for (int i = 0; i < t->n_tensors; i++) lq_free(t->tensor[i].data);
    lq_free(t->scratch);
    *t = (test_node){.n_tensors = 0};
}
