/* out = cap tanh(x / cap). Backward from the output alone: dx += dy (1 - (out / cap)^2). */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

static lq_status shape(lq_node *node) {
    const lq_softcap_attr *const attr = node->attr;
    LQ_TRY(lq_check_matrix(node->in[0], "x"));
    if (!(attr->cap > 0))
        return lq_fail(LQ_EVALUE, "cap is %g, more than 0 wanted", (double)attr->cap);
    lq_set_matrix(node->out, node->in[0]->dim[0], node->in[0]->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_OUT;
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_softcap_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), cols = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]);
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) cpu->tanh_cap(y + t * cols, x + t * cols, attr->cap, cols);
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_softcap_attr *const attr = node->attr;
    const int64_t n = lq_rows(node->out) * lq_cols(node->out);
    const float *const y = lq_data_f32(node->out), *const dy = lq_grad_f32(node->out);
    float *const dx = lq_grad_f32(node->in[0]);
    const float inv_cap = 1 / attr->cap;
#pragma omp parallel for schedule(static) if (n >= LQ_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) {
        const float t = y[i] * inv_cap;
        dx[i] += dy[i] * (1 - t) * (1 + t);
    }
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_softcap = {
    .name = "softcap",
    .n_in = 1,
    .attr_bytes = sizeof(lq_softcap_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(softcap)},
};

lq_tensor *lq_softcap(lq_tape *tape, lq_tensor *x, lq_softcap_attr attr) {
    return lq_tape_record(tape, &lq_op_softcap, &attr, 1, (lq_tensor *[]){x});
}
