/* out = min(max(x, -most), most); backward where x is within. */
#include "ops.h"
#include "rowwise.h"

#include <math.h>

static lq_status shape(lq_node *node) {
    const lq_clamp_attr *const attr = node->attr;
    LQ_TRY(lq_check_matrix(node->in[0], "x"));
    if (!(attr->most > 0))
        return lq_fail(LQ_EVALUE, "the limit is %g, more than 0 wanted", (double)attr->most);
    lq_set_matrix(node->out, node->in[0]->dim[0], node->in[0]->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(0);
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const float most = ((const lq_clamp_attr *)node->attr)->most;
    const int64_t n = lq_rows(node->out) * lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]);
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for simd schedule(static) if (n >= LQ_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) y[i] = x[i] > most ? most : x[i] < -most ? -most : x[i];
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const float most = ((const lq_clamp_attr *)node->attr)->most;
    const int64_t n = lq_rows(node->out) * lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]), *const dy = lq_grad_f32(node->out);
    float *const dx = lq_grad_f32(node->in[0]);
#pragma omp parallel for simd schedule(static) if (n >= LQ_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) dx[i] += fabsf(x[i]) <= most ? dy[i] : 0;
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_clamp = {
    .name = "clamp",
    .n_in = 1,
    .attr_bytes = sizeof(lq_clamp_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(clamp)},
};

lq_tensor *lq_clamp(lq_tape *tape, lq_tensor *x, lq_clamp_attr attr) {
    return lq_tape_record(tape, &lq_op_clamp, &attr, 1, (lq_tensor *[]){x});
}
