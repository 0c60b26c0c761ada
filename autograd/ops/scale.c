/* out = factor * x. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <string.h>

static lq_status shape(lq_node *node) {
    LQ_TRY(lq_check_matrix(node->in[0], "x"));
    lq_set_matrix(node->out, node->in[0]->dim[0], node->in[0]->dim[1]);
    return LQ_OK;
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_scale_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]);
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for schedule(static) if (rows * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) {
        memcpy(y + t * d, x + t * d, (size_t)d * sizeof *y);
        cpu->scale(y + t * d, attr->factor, d);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_scale_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    const float *const dy = lq_grad_f32(node->out);
    float *const dx = lq_grad_f32(node->in[0]);
#pragma omp parallel for schedule(static) if (rows * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) cpu->axpy(dx + t * d, attr->factor, dy + t * d, d);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_scale = {
    .name = "scale",
    .n_in = 1,
    .attr_bytes = sizeof(lq_scale_attr),
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(scale)},
};

lq_tensor *lq_scale_rows(lq_tape *tape, lq_tensor *x, lq_scale_attr attr) {
    return lq_tape_record(tape, &lq_op_scale, &attr, 1, (lq_tensor *[]){x});
}
