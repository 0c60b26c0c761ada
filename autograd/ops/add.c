/* out = a + b, the residual connection. Its backward needs no data: both gradients get dy. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <string.h>

static lq_status shape(lq_node *node) {
    LQ_TRY(lq_check_same(node->in[0], "a", node->in[1], "b"));
    lq_set_matrix(node->out, node->in[0]->dim[0], node->in[0]->dim[1]);
    return LQ_OK;
}

static void sum(float *y, const float *a, const float *b, int64_t rows, int64_t cols) {
    const lq_cpu *const cpu = lq_cpu_kernels();
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) cpu->add(y + t * cols, a + t * cols, b + t * cols, cols);
}

static void copy(float *y, const float *x, int64_t rows, int64_t cols) {
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++)
        memcpy(y + t * cols, x + t * cols, (size_t)cols * sizeof *y);
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    sum(lq_data_f32(node->out), lq_data_f32(node->in[0]), lq_data_f32(node->in[1]),
        lq_rows(node->out), lq_cols(node->out));
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const float *const dy = lq_grad_f32(node->out);
    for (int i = 0; i < 2; i++) {
        float *const dx = lq_grad_f32(node->in[i]);
        if (dx && node->fresh & LQ_IN(i)) copy(dx, dy, lq_rows(node->out), lq_cols(node->out));
        else if (dx) sum(dx, dx, dy, lq_rows(node->out), lq_cols(node->out));
    }
}

static const lq_kernels on_cpu = {
    .fwd = forward, .bwd = backward, .writes = LQ_IN(0) | LQ_IN(1),
};

const lq_op lq_op_add = {
    .name = "add",
    .n_in = 2,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(add)},
};

lq_tensor *lq_add(lq_tape *tape, lq_tensor *a, lq_tensor *b) {
    return lq_tape_record(tape, &lq_op_add, NULL, 2, (lq_tensor *[]){a, b});
}
