/* out = act(gate) * up, the gated half of the feed-forward block; without up, act(gate) alone. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <math.h>
#include <string.h>

enum { GATE, UP, N_IN };

static lq_status shape(lq_node *node) {
    LQ_TRY(lq_check_matrix(node->in[GATE], "gate"));
    if (node->in[UP]) LQ_TRY(lq_check_same(node->in[GATE], "gate", node->in[UP], "up"));
    lq_set_matrix(node->out, node->in[GATE]->dim[0], node->in[GATE]->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(GATE) | (node->in[UP] && node->in[GATE]->grad ? LQ_IN(UP) : 0);
}

/* x Phi(x), and its slope Phi(x) + x phi(x) */
static void gelu_mul(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        y[i] = 0.5f * gate[i] * (1 + erff(gate[i] * 0.70710678f)) * up[i];
}

static void gelu_mul_bwd(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float x = gate[i], cdf = 0.5f * (1 + erff(x * 0.70710678f));
        const float density = 0.39894228f * expf(-0.5f * x * x);
        if (dgate) dgate[i] += dy[i] * up[i] * (cdf + x * density);
        if (dup) dup[i] += dy[i] * x * cdf;
    }
}

typedef struct kernels {
    void (*mul)(float *y, const float *gate, const float *up, int64_t n);
    void (*mul_bwd)(float *dgate, float *dup, const float *gate, const float *up, const float *dy,
                    int64_t n);
} kernels;

static kernels kernels_of(lq_act act) {
    const lq_cpu *const cpu = lq_cpu_kernels();
    const kernels table[] = {
        [LQ_SILU] = {cpu->silu_mul, cpu->silu_mul_bwd},
        [LQ_GELU_TANH] = {cpu->gelu_mul, cpu->gelu_mul_bwd},
        [LQ_GELU] = {gelu_mul, gelu_mul_bwd},
    };
    return table[act];
}

/* In scratch: a row of ones, to multiply by where there is no `up`. */
static size_t scratch(const lq_node *node, bool backward) {
    (void)backward;
    return node->in[UP] ? 0 : (size_t)lq_cols(node->out) * sizeof(float);
}

/* The row of ups of row t. */
static const float *up_row(const lq_node *node, const lq_run *run, int64_t t) {
    return node->in[UP] ? lq_data_f32(node->in[UP]) + t * lq_cols(node->out) : run->scratch;
}

static void fill_ones(const lq_node *node, const lq_run *run) {
    float *const ones = run->scratch;
    for (int64_t j = 0; !node->in[UP] && j < lq_cols(node->out); j++) ones[j] = 1;
}

static void forward(const lq_node *node, const lq_run *run) {
    const kernels k = kernels_of(((const lq_glu_attr *)node->attr)->act);
    const int64_t rows = lq_rows(node->out), cols = lq_cols(node->out);
    const float *const gate = lq_data_f32(node->in[GATE]);
    float *const y = lq_data_f32(node->out);
    fill_ones(node, run);
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++)
        k.mul(y + t * cols, gate + t * cols, up_row(node, run, t), cols);
}

static void backward(const lq_node *node, const lq_run *run) {
    const kernels k = kernels_of(((const lq_glu_attr *)node->attr)->act);
    const int64_t rows = lq_rows(node->out), cols = lq_cols(node->out);
    const float *const gate = lq_data_f32(node->in[GATE]), *const dy = lq_grad_f32(node->out);
    float *const dgate = lq_grad_f32(node->in[GATE]);
    float *const dup = node->in[UP] ? lq_grad_f32(node->in[UP]) : NULL;
    const size_t bytes = (size_t)cols * sizeof *dup;
    fill_ones(node, run);
#pragma omp parallel for schedule(static) if (rows * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) {
        const int64_t at = t * cols;
        if (dgate && node->fresh & LQ_IN(GATE)) memset(dgate + at, 0, bytes);
        if (dup && node->fresh & LQ_IN(UP)) memset(dup + at, 0, bytes);
        k.mul_bwd(dgate ? dgate + at : NULL, dup ? dup + at : NULL, gate + at,
                  up_row(node, run, t), dy + at, cols);
    }
}

static const lq_kernels on_cpu = {
    .fwd = forward, .bwd = backward, .scratch = scratch, .writes = LQ_IN(GATE) | LQ_IN(UP),
};

const lq_op lq_op_glu = {
    .name = "glu",
    .n_in = N_IN,
    .attr_bytes = sizeof(lq_glu_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(glu)},
};

lq_tensor *lq_glu(lq_tape *tape, lq_tensor *gate, lq_tensor *up, lq_glu_attr attr) {
    return lq_tape_record(tape, &lq_op_glu, &attr, N_IN, (lq_tensor *[]){gate, up});
}
