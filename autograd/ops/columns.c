/* out (N,n) = columns [first, first + n) of x (N,D): one part of a fused projection. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <string.h>

static lq_status shape(lq_node *node) {
    const lq_columns_attr *const attr = node->attr;
    const lq_tensor *const x = node->in[0];
    LQ_TRY(lq_check_matrix(x, "x"));
    if (attr->first < 0 || attr->n < 1 || attr->first > x->dim[1] - attr->n)
        return lq_fail(LQ_ESHAPE, "%lld columns from %lld on, x has %lld", (long long)attr->n,
                       (long long)attr->first, (long long)x->dim[1]);
    lq_set_matrix(node->out, x->dim[0], attr->n);
    return LQ_OK;
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_columns_attr *const attr = node->attr;
    const int64_t rows = lq_rows(node->out), d = node->in[0]->dim[1];
    const float *const x = lq_data_f32(node->in[0]) + attr->first;
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for schedule(static) if (rows * attr->n >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++)
        memcpy(y + t * attr->n, x + t * d, (size_t)attr->n * sizeof *y);
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_columns_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), d = node->in[0]->dim[1];
    const float *const dy = lq_grad_f32(node->out);
    float *const dx = lq_grad_f32(node->in[0]) + attr->first;
#pragma omp parallel for schedule(static) if (rows * attr->n >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++)
        cpu->add(dx + t * d, dx + t * d, dy + t * attr->n, attr->n);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_columns = {
    .name = "columns",
    .n_in = 1,
    .attr_bytes = sizeof(lq_columns_attr),
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(columns)},
};

lq_tensor *lq_columns(lq_tape *tape, lq_tensor *x, lq_columns_attr attr) {
    return lq_tape_record(tape, &lq_op_columns, &attr, 1, (lq_tensor *[]){x});
}
