/* out = act(gate) * up, the gated half of the feed-forward block. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

static lq_status shape(lq_node *node) {
    LQ_TRY(lq_check_same(node->in[0], "gate", node->in[1], "up"));
    lq_set_matrix(node->out, node->in[0]->dim[0], node->in[0]->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(0) | (node->in[0]->grad ? LQ_IN(1) : 0);
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_glu_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), cols = lq_cols(node->out);
    const float *const gate = lq_data_f32(node->in[0]), *const up = lq_data_f32(node->in[1]);
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) {
        const int64_t at = t * cols;
        if (attr->act == LQ_SILU) cpu->silu_mul(y + at, gate + at, up + at, cols);
        else cpu->gelu_mul(y + at, gate + at, up + at, cols);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_glu_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t rows = lq_rows(node->out), cols = lq_cols(node->out);
    const float *const gate = lq_data_f32(node->in[0]), *const up = lq_data_f32(node->in[1]);
    const float *const dy = lq_grad_f32(node->out);
    float *const dgate = lq_grad_f32(node->in[0]), *const dup = lq_grad_f32(node->in[1]);
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) {
        const int64_t at = t * cols;
        float *const dg = dgate ? dgate + at : NULL, *const du = dup ? dup + at : NULL;
        if (attr->act == LQ_SILU) cpu->silu_mul_bwd(dg, du, gate + at, up + at, dy + at, cols);
        else cpu->gelu_mul_bwd(dg, du, gate + at, up + at, dy + at, cols);
    }
}

const lq_op lq_op_glu = {
    .name = "glu",
    .n_in = 2,
    .attr_bytes = sizeof(lq_glu_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = {forward, backward}},
};

lq_tensor *lq_glu(lq_tape *tape, lq_tensor *gate, lq_tensor *up, lq_glu_attr attr) {
    return lq_tape_record(tape, &lq_op_glu, &attr, 2, (lq_tensor *[]){gate, up});
}
