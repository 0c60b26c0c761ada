/* fakequant: activations as a runtime rounds them (rounding.h). Backward is the identity
 * straight-through estimator: dx += dy. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

static lq_status shape(lq_node *node) {
    const lq_fakequant_attr *const attr = node->attr;
    LQ_TRY(lq_check_matrix(node->in[0], "x"));
    const int64_t cols = lq_cols(node->in[0]);
    if (cols % attr->how->block != 0)
        return lq_fail(LQ_ESHAPE, "rows of %lld are not whole blocks of %d", (long long)cols,
                       attr->how->block);
    lq_set_matrix(node->out, node->in[0]->dim[0], cols);
    return LQ_OK;
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_rounding *const how = ((const lq_fakequant_attr *)node->attr)->how;
    const int64_t rows = lq_rows(node->out), cols = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]);
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) how->round(how, x + t * cols, y + t * cols, cols);
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), cols = lq_cols(node->out);
    const float *const dy = lq_grad_f32(node->out);
    float *const dx = lq_grad_f32(node->in[0]);
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++)
        cpu->add(dx + t * cols, dx + t * cols, dy + t * cols, cols);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_fakequant = {
    .name = "fakequant",
    .n_in = 1,
    .attr_bytes = sizeof(lq_fakequant_attr),
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(fakequant)},
};

lq_tensor *lq_fakequant(lq_tape *tape, lq_tensor *x, lq_fakequant_attr attr) {
    return lq_tape_record(tape, &lq_op_fakequant, &attr, 1, (lq_tensor *[]){x});
}
