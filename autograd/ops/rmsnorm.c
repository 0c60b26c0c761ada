/* out = x r w with r = 1 / sqrt(mean(x^2) + eps), over each run ("group") of len(w) columns.
 *
 * Saved: r, one per group. Backward with d = len(w) and s = sum(dy w x):
 * dx += r (dy w) - (r^3 s / d) x,   dw += sum over groups of dy x r. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <math.h>

static lq_status shape(lq_node *node) {
    const lq_tensor *const x = node->in[0], *const w = node->in[1];
    LQ_TRY(lq_check_matrix(x, "x"));
    LQ_TRY(lq_check_vector(w, "weight", &lq_f32, w ? w->dim[0] : 0));
    if (x->dim[1] % w->dim[0])
        return lq_fail(LQ_ESHAPE, "x has %lld columns, wanted a multiple of the weight's %lld",
                       (long long)x->dim[1], (long long)w->dim[0]);
    lq_set_matrix(node->out, x->dim[0], x->dim[1]);
    lq_set_matrix(node->saved, x->dim[0], x->dim[1] / w->dim[0]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(0) | LQ_IN(1);
}

/* In all kernels: g counts groups, d is their length; group g starts at element g * d. */
static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_rmsnorm_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t d = node->in[1]->dim[0], groups = lq_rows(node->saved) * lq_cols(node->saved);
    const float *const x = lq_data_f32(node->in[0]), *const w = lq_data_f32(node->in[1]);
    float *const y = lq_data_f32(node->out), *const r = lq_data_f32(node->saved);
#pragma omp parallel for schedule(static) if (groups * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t g = 0; g < groups; g++) {
        const double mean = cpu->sum_squares(x + g * d, d) / (double)d;
        r[g] = (float)(1 / sqrt(mean + (double)attr->eps));
        cpu->rmsnorm(y + g * d, x + g * d, w, r[g], d);
    }
}

static void backward_x(const lq_node *node, float *dx) {
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t d = node->in[1]->dim[0], groups = lq_rows(node->saved) * lq_cols(node->saved);
    const float *const x = lq_data_f32(node->in[0]), *const w = lq_data_f32(node->in[1]);
    const float *const dy = lq_grad_f32(node->out), *const r = lq_data_f32(node->saved);
#pragma omp parallel for schedule(static) if (groups * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t g = 0; g < groups; g++) {
        const double s = cpu->dot3(dy + g * d, w, x + g * d, d), rg = r[g];
        const float coefficient = (float)(-rg * rg * rg * s / (double)d);
        cpu->rmsnorm_bwd(dx + g * d, x + g * d, w, dy + g * d, r[g], coefficient, d);
    }
}

/* dw[first..first+n): all groups in order, in double. */
static void backward_w_chunk(const lq_node *node, float *dw, int64_t first, int64_t n) {
    const int64_t d = node->in[1]->dim[0], groups = lq_rows(node->saved) * lq_cols(node->saved);
    const float *const r = lq_data_f32(node->saved);
    double sum[LQ_COLUMN_CHUNK] = {0};
    for (int64_t g = 0; g < groups; g++) {
        const float *const x = lq_data_f32(node->in[0]) + g * d + first;
        const float *const dy = lq_grad_f32(node->out) + g * d + first;
        for (int64_t j = 0; j < n; j++) sum[j] += (double)dy[j] * (double)(x[j] * r[g]);
    }
    for (int64_t j = 0; j < n; j++) dw[first + j] += (float)sum[j];
}

static void backward_w(const lq_node *node, float *dw) {
    const int64_t d = node->in[1]->dim[0], elements = lq_rows(node->out) * lq_cols(node->out);
#pragma omp parallel for schedule(static) if (elements >= LQ_PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < d; first += LQ_COLUMN_CHUNK) {
        const int64_t left = d - first;
        backward_w_chunk(node, dw, first, left < LQ_COLUMN_CHUNK ? left : LQ_COLUMN_CHUNK);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    float *const dx = lq_grad_f32(node->in[0]), *const dw = lq_grad_f32(node->in[1]);
    if (dx) backward_x(node, dx);
    if (dw) backward_w(node, dw);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_rmsnorm = {
    .name = "rmsnorm",
    .n_in = 2,
    .attr_bytes = sizeof(lq_rmsnorm_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(rmsnorm)},
};

lq_tensor *lq_rmsnorm(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_rmsnorm_attr attr) {
    return lq_tape_record(tape, &lq_op_rmsnorm, &attr, 2, (lq_tensor *[]){x, w});
}
