/* out = x * s with s = sigmoid(gate) of the row. dx += s dy; dgate += s (1 - s) dy.x */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <math.h>
#include <string.h>

static lq_status shape(lq_node *node) {
    const lq_tensor *const x = node->in[0], *const gate = node->in[1];
    LQ_TRY(lq_check_matrix(x, "x"));
    LQ_TRY(lq_check_matrix(gate, "gate"));
    if (gate->dim[0] != x->dim[0] || gate->dim[1] != 1)
        return lq_fail(LQ_ESHAPE, "the gate is (%lld,%lld), wanted (%lld,1)",
                       (long long)gate->dim[0], (long long)gate->dim[1], (long long)x->dim[0]);
    lq_set_matrix(node->out, x->dim[0], x->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(1) | (node->in[1]->grad ? LQ_IN(0) : 0);
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]), *const gate = lq_data_f32(node->in[1]);
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for schedule(static) if (rows * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) {
        memcpy(y + t * d, x + t * d, (size_t)d * sizeof *y);
        cpu->scale(y + t * d, sigmoid(gate[t]), d);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]), *const gate = lq_data_f32(node->in[1]);
    const float *const dy = lq_grad_f32(node->out);
    float *const dx = lq_grad_f32(node->in[0]), *const dgate = lq_grad_f32(node->in[1]);
#pragma omp parallel for schedule(static) if (rows * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) {
        const float s = sigmoid(gate[t]);
        if (dx) cpu->axpy(dx + t * d, s, dy + t * d, d);
        if (dgate) dgate[t] += s * (1 - s) * cpu->dot(dy + t * d, x + t * d, d);
    }
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_row_gate = {
    .name = "row_gate",
    .n_in = 2,
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(row_gate)},
};

lq_tensor *lq_row_gate(lq_tape *tape, lq_tensor *x, lq_tensor *gate) {
    return lq_tape_record(tape, &lq_op_row_gate, NULL, 2, (lq_tensor *[]){x, gate});
}
