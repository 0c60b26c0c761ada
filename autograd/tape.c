/* Recording: the tensors and nodes of a tape, which of them get gradients, sticky errors.
 *
 * The output of a node gets a gradient if any input has one that the op passes on. What is recorded
 * here is compiled in tape_compile.c and run in tape_run.c. */
#include "tape_parts.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

lq_status lq_tape_new(lq_tape **out, int64_t max_rows) {
    *out = NULL;
    if (max_rows < 1)
        return lq_fail(LQ_EVALUE, "tape: %lld rows, at least 1 wanted", (long long)max_rows);
    lq_tape *const tape = lq_alloc(sizeof *tape);
    if (!tape) return LQ_EMEM;
    tape->max_rows = max_rows;
    tape->segment = -1;
    tape->run.dev = lq_dev_cpu();
    tape->poison = (lq_tensor){.fmt = &lq_f32, .kind = LQ_ACTIVATION, .ndim = 2, .dim = {1, 1},
                               .name = "poison", .first = -1, .last = -1};
    *out = tape;
    return LQ_OK;
}

void lq_tape_on(lq_tape *tape, lq_dev *dev) {
    assert(!tape->n_tensors);
    tape->run.dev = dev;
}

static void free_tensor(lq_tensor *t) {
    lq_free((char *)t->name);
    lq_free(t);
}

void lq_tape_free(lq_tape *tape) {
    if (!tape) return;
    for (int64_t i = 0; i < tape->n_tensors; i++) free_tensor(tape->tensor[i]);
    for (int64_t i = 0; i < tape->n_nodes; i++) {
        lq_free((void *)tape->node[i]->attr);
        lq_free(tape->node[i]);
    }
    for (int64_t i = 0; i < tape->n_clones; i++) lq_free(tape->clone[i]);
    lq_free(tape->tensor);
    lq_free(tape->node);
    lq_free(tape->clone);
    lq_free(tape->output);
    lq_free(tape->entry);
    lq_free(tape->local);
    tape->run.dev->row->free(tape->run.dev, tape->block);
    lq_free(tape->inputs);
    tape->run.dev->row->free(tape->run.dev, tape->narrow_block);
    lq_free(tape->narrow);
    lq_free(tape->view);
    lq_free(tape->error);
    lq_free(tape);
}

/* ---- errors --------------------------------------------------------------------------------- */

/* Keeps the message just recorded, unless there is an earlier error. */
static lq_tensor *keep_error(lq_tape *tape, lq_status status) {
    if (tape->status == LQ_OK) {
        tape->status = status;
        tape->error = status == LQ_EMEM ? NULL : lq_strdup(lq_error());
    }
    return &tape->poison;
}

lq_tensor *lq_tape_fail(lq_tape *tape, lq_status status, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return keep_error(tape, lq_fail(status, "%s", text));
}

/* ---- tensors -------------------------------------------------------------------------------- */

lq_tensor *lq_tape_add_tensor(lq_tape *tape, lq_kind kind, const char *name) {
    if (lq_reserve((void **)&tape->tensor, &tape->cap_tensors, tape->n_tensors + 1,
                   sizeof *tape->tensor) != LQ_OK)
        return NULL;
    lq_tensor *const t = lq_alloc(sizeof *t);
    if (!t) return NULL;
    *t = (lq_tensor){.fmt = &lq_f32, .kind = kind, .first = -1, .last = -1};
    tape->tensor[tape->n_tensors++] = t;
    if (name && !(t->name = lq_strdup(name))) return NULL; /* the tape frees t */
    return t;
}

static lq_status add_grad(lq_tape *tape, lq_tensor *t) {
    lq_tensor *const grad =
        lq_tape_add_tensor(tape, t->kind == LQ_PARAM ? LQ_GRADIENT : t->kind, NULL);
    if (!grad) return LQ_EMEM;
    if (t->kind == LQ_ACTIVATION) grad->fmt = t->fmt;
    grad->ndim = t->ndim;
    memcpy(grad->dim, t->dim, sizeof grad->dim);
    t->grad = grad;
    return LQ_OK;
}

static lq_status set_shape(lq_tensor *t, int ndim, const int64_t *dim) {
    assert(ndim >= 1 && ndim <= LQ_ARRAY_LEN(t->dim));
    const char *const name = t->name ? t->name : "tensor";
    t->ndim = ndim;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 1)
            return lq_fail(LQ_ESHAPE, "%s: dimension %d is %lld, at least 1 wanted", name, i,
                           (long long)dim[i]);
        t->dim[i] = dim[i];
    }
    if (lq_cols(t) % t->fmt->block)
        return lq_fail(LQ_ESHAPE, "%s: rows of %lld elements, %s wants a multiple of %d", name,
                       (long long)lq_cols(t), t->fmt->name, t->fmt->block);
    return LQ_OK;
}

static lq_tensor *add_shaped(lq_tape *tape, lq_kind kind, const char *name, const lq_format *fmt,
                             int ndim, const int64_t *dim) {
    if (tape->status != LQ_OK) return &tape->poison;
    lq_tensor *const t = lq_tape_add_tensor(tape, kind, name);
    if (!t) return keep_error(tape, LQ_EMEM);
    t->fmt = fmt;
    const lq_status status = set_shape(t, ndim, dim);
    return status == LQ_OK ? t : keep_error(tape, status);
}

lq_tensor *lq_tape_weight(lq_tape *tape, const char *name, const lq_format *fmt, int ndim,
                          const int64_t *dim, const void *data) {
    lq_tensor *const t = add_shaped(tape, LQ_WEIGHT, name, fmt, ndim, dim);
    if (tape->status == LQ_OK) t->data = (void *)data; /* const again by its kind */
    return t;
}

lq_tensor *lq_tape_param(lq_tape *tape, const char *name, int ndim, const int64_t *dim, float *data,
                         float *grad) {
    lq_tensor *const t = add_shaped(tape, LQ_PARAM, name, &lq_f32, ndim, dim);
    if (tape->status != LQ_OK) return t;
    t->data = data;
    if (!grad) return t;
    if (add_grad(tape, t) != LQ_OK) return keep_error(tape, LQ_EMEM);
    t->grad->data = grad;
    return t;
}

lq_tensor *lq_tape_input(lq_tape *tape, const char *name, const lq_format *fmt, int64_t cols) {
    return add_shaped(tape, LQ_INPUT, name, fmt, cols ? 2 : 1,
                      (const int64_t[]){tape->max_rows, cols});
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static bool passes_gradient(const lq_node *node) {
    for (int i = 0; i < node->op->n_in; i++)
        if (node->in[i] && node->in[i]->grad && !(node->op->nograd & LQ_IN(i))) return true;
    return false;
}

static lq_status copy_attr(lq_node *node, const void *attr) {
    assert((attr != NULL) == (node->op->attr_bytes > 0));
    if (!attr) return LQ_OK;
    void *const copy = lq_alloc(node->op->attr_bytes);
    if (!copy) return LQ_EMEM;
    memcpy(copy, attr, node->op->attr_bytes);
    node->attr = copy;
    return LQ_OK;
}

static lq_status fill_node(lq_tape *tape, lq_node *node, const void *attr, int n_in,
                           lq_tensor *const *in) {
    assert(n_in <= node->op->n_in && node->op->n_in <= LQ_MAX_IN);
    memcpy(node->in, in, (size_t)n_in * sizeof *in);
    LQ_TRY(copy_attr(node, attr));
    node->out = lq_tape_add_tensor(tape, LQ_ACTIVATION, NULL);
    node->saved = node->out ? lq_tape_add_tensor(tape, LQ_ACTIVATION, NULL) : NULL;
    if (!node->saved) return LQ_EMEM;
    const lq_status status = node->op->shape(node);
    if (status != LQ_OK) return lq_fail_context(status, "%s: ", node->op->name);
    if (node->saved->ndim == 0) node->saved = NULL;
    if (node->out->fmt == &lq_f32 && !node->op->out_f32) node->out->fmt = tape->run.dev->activation;
    return passes_gradient(node) ? add_grad(tape, node->out) : LQ_OK;
}

static lq_node *add_node(lq_tape *tape, const lq_op *op) {
    if (lq_reserve((void **)&tape->node, &tape->cap_nodes, tape->n_nodes + 1,
                   sizeof *tape->node) != LQ_OK)
        return NULL;
    lq_node *const node = lq_alloc(sizeof *node);
    if (!node) return NULL;
    *node = (lq_node){.op = op, .segment = tape->segment, .id = (uint32_t)tape->n_nodes};
    tape->node[tape->n_nodes++] = node;
    return node;
}

lq_tensor *lq_tape_record(lq_tape *tape, const lq_op *op, const void *attr, int n_in,
                          lq_tensor *const *in) {
    if (tape->status != LQ_OK) return &tape->poison;
    lq_node *const node = add_node(tape, op);
    const lq_status status = node ? fill_node(tape, node, attr, n_in, in) : LQ_EMEM;
    return status == LQ_OK ? node->out : keep_error(tape, status);
}

void lq_tape_segment(lq_tape *tape, int segment) { tape->segment = segment; }

void lq_tape_output(lq_tape *tape, lq_tensor *t) {
    if (tape->status != LQ_OK) return;
    const lq_status status = lq_reserve((void **)&tape->output, &tape->cap_outputs,
                                        tape->n_outputs + 1, sizeof *tape->output);
    if (status == LQ_OK) tape->output[tape->n_outputs++] = t;
    else keep_error(tape, status);
}
