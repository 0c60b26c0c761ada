/* out = (x - m) r w + b with m the mean and r = 1 / sqrt(mean((x - m)^2) + eps) of a row of D.
 *
 * Saved: m and r, two per row. Backward with h = (x - m) r and g = dy w:
 * dx += r (g - mean(g) - h mean(g h)),   dw += sum over rows of dy h,   db += sum of dy. */
#include "ops.h"
#include "rowwise.h"

#include <math.h>

enum { X, W, BIAS, N_IN };

static lq_status shape(lq_node *node) {
    const lq_tensor *const x = node->in[X];
    LQ_TRY(lq_check_matrix(x, "x"));
    LQ_TRY(lq_check_vector(node->in[W], "weight", &lq_f32, x->dim[1]));
    if (node->in[BIAS]) LQ_TRY(lq_check_vector(node->in[BIAS], "bias", &lq_f32, x->dim[1]));
    lq_set_matrix(node->out, x->dim[0], x->dim[1]);
    lq_set_matrix(node->saved, x->dim[0], 2);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(X) | LQ_IN(W);
}

static void forward_row(float *y, float *saved, const float *x, const float *w, const float *b,
                        double eps, int64_t d) {
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < d; j++) mean += (double)x[j];
    mean /= (double)d;
    for (int64_t j = 0; j < d; j++) variance += ((double)x[j] - mean) * ((double)x[j] - mean);
    const float m = (float)mean, r = (float)(1 / sqrt(variance / (double)d + eps));
    for (int64_t j = 0; j < d; j++) y[j] = (x[j] - m) * r * w[j] + (b ? b[j] : 0);
    saved[0] = m;
    saved[1] = r;
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_layernorm_attr *const attr = node->attr;
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[X]), *const w = lq_data_f32(node->in[W]);
    const float *const b = node->in[BIAS] ? lq_data_f32(node->in[BIAS]) : NULL;
    float *const y = lq_data_f32(node->out), *const saved = lq_data_f32(node->saved);
#pragma omp parallel for schedule(static) if (rows * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++)
        forward_row(y + t * d, saved + 2 * t, x + t * d, w, b, (double)attr->eps, d);
}

static void backward_row(float *dx, const float *saved, const float *x, const float *w,
                         const float *dy, int64_t d) {
    const float m = saved[0], r = saved[1];
    double g_sum = 0, gh_sum = 0;
    for (int64_t j = 0; j < d; j++) {
        const double g = (double)dy[j] * (double)w[j];
        g_sum += g;
        gh_sum += g * (double)((x[j] - m) * r);
    }
    const float g_mean = (float)(g_sum / (double)d), gh_mean = (float)(gh_sum / (double)d);
    for (int64_t j = 0; j < d; j++)
        dx[j] += r * (dy[j] * w[j] - g_mean - (x[j] - m) * r * gh_mean);
}

/* Columns [first, first + n) of dw and db, either may be NULL: all rows in order, in double. */
static void backward_chunk(const lq_node *node, float *dw, float *db, int64_t first, int64_t n) {
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    const float *const saved = lq_data_f32(node->saved);
    double sum_w[LQ_COLUMN_CHUNK] = {0}, sum_b[LQ_COLUMN_CHUNK] = {0};
    for (int64_t t = 0; t < rows; t++) {
        const float *const x = lq_data_f32(node->in[X]) + t * d + first;
        const float *const dy = lq_grad_f32(node->out) + t * d + first;
        for (int64_t j = 0; j < n; j++) {
            sum_w[j] += (double)dy[j] * (double)((x[j] - saved[2 * t]) * saved[2 * t + 1]);
            sum_b[j] += (double)dy[j];
        }
    }
    for (int64_t j = 0; dw && j < n; j++) dw[first + j] += (float)sum_w[j];
    for (int64_t j = 0; db && j < n; j++) db[first + j] += (float)sum_b[j];
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[X]), *const w = lq_data_f32(node->in[W]);
    const float *const dy = lq_grad_f32(node->out), *const saved = lq_data_f32(node->saved);
    float *const dx = lq_grad_f32(node->in[X]), *const dw = lq_grad_f32(node->in[W]);
    float *const db = node->in[BIAS] ? lq_grad_f32(node->in[BIAS]) : NULL;
#pragma omp parallel for schedule(static) if (rows * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < (dx ? rows : 0); t++)
        backward_row(dx + t * d, saved + 2 * t, x + t * d, w, dy + t * d, d);
    if (!dw && !db) return;
#pragma omp parallel for schedule(static) if (rows * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < d; first += LQ_COLUMN_CHUNK)
        backward_chunk(node, dw, db, first,
                       d - first < LQ_COLUMN_CHUNK ? d - first : LQ_COLUMN_CHUNK);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_layernorm = {
    .name = "layernorm",
    .n_in = N_IN,
    .attr_bytes = sizeof(lq_layernorm_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(layernorm)},
};

lq_tensor *lq_layernorm(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_tensor *bias,
                        lq_layernorm_attr attr) {
    return lq_tape_record(tape, &lq_op_layernorm, &attr, N_IN, (lq_tensor *[]){x, w, bias});
}
