/* out (N,E): the shares of each token's n_used best experts, 0 for the others. With p = softmax(x)
 * over all experts and S the sum of the chosen p (or 1, when shares are not normalised):
 *   out_e = scale p_e / S for the chosen, backward with g_e = scale dout_e:
 *   dp_e = (g_e - sum_j g_j p_j / S) / S for the chosen (g_e, not normalised), else 0
 *   dx_e = p_e (dp_e - sum_j dp_j p_j)
 * Of equal scores the first wins. */
#include "ops.h"
#include "rowwise.h"

#include <math.h>
#include <string.h>

/* llama.cpp divides by no less: the smallest normal number of F16. */
static const double smallest_sum = 6.103515625e-5;

static lq_status shape(lq_node *node) {
    const lq_route_attr *const attr = node->attr;
    const lq_tensor *const x = node->in[0];
    LQ_TRY(lq_check_matrix(x, "scores"));
    if (attr->n_used < 1 || attr->n_used > x->dim[1])
        return lq_fail(LQ_EVALUE, "%d experts per token, wanted 1 to %lld", attr->n_used,
                       (long long)x->dim[1]);
    lq_set_matrix(node->out, x->dim[0], x->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(0) | LQ_OUT;
}

/* p_e is exp(x_e - max) / *total. */
static double maximum_and_total(const float *x, int64_t n, double *total) {
    double most = (double)x[0];
    for (int64_t e = 1; e < n; e++) most = fmax(most, (double)x[e]);
    *total = 0;
    for (int64_t e = 0; e < n; e++) *total += exp((double)x[e] - most);
    return most;
}

static int64_t best_unmarked(const float *x, const float *mark, int64_t n) {
    int64_t best = -1;
    for (int64_t e = 0; e < n; e++)
        if (mark[e] == 0 && (best < 0 || x[e] > x[best])) best = e;
    return best;
}

static void route_row(float *y, const float *x, int64_t n, const lq_route_attr *attr) {
    double total, sum = 0;
    const double most = maximum_and_total(x, n, &total);
    memset(y, 0, (size_t)n * sizeof *y);
    for (int i = 0; i < attr->n_used; i++) {
        const int64_t e = best_unmarked(x, y, n);
        y[e] = 1; /* a mark, until the sum is known */
        sum += exp((double)x[e] - most) / total;
    }
    const double by = (double)attr->scale / (attr->normalise ? fmax(sum, smallest_sum) : 1);
    for (int64_t e = 0; e < n; e++)
        if (y[e] != 0) y[e] = (float)(by * exp((double)x[e] - most) / total);
}

static void backward_row(float *dx, const float *dy, const float *x, const float *y, int64_t n,
                         const lq_route_attr *attr) {
    double total, chosen = 0, mean = 0, sum = 0;
    const double most = maximum_and_total(x, n, &total), scale = (double)attr->scale;
    for (int64_t e = 0; e < n; e++)
        if (y[e] != 0) chosen += exp((double)x[e] - most) / total;
    const bool clamped = !attr->normalise || chosen < smallest_sum;
    const double divisor = attr->normalise ? fmax(chosen, smallest_sum) : 1;
    for (int64_t e = 0; e < n && !clamped; e++) mean += (double)dy[e] * (double)y[e];
    for (int64_t e = 0; e < n; e++)
        if (y[e] != 0)
            sum += (scale * (double)dy[e] - mean) / divisor * exp((double)x[e] - most) / total;
    for (int64_t e = 0; e < n; e++) {
        const double dp = y[e] != 0 ? (scale * (double)dy[e] - mean) / divisor : 0;
        dx[e] += (float)(exp((double)x[e] - most) / total * (dp - sum));
    }
}

static void forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const int64_t rows = lq_rows(node->out), n = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]);
    float *const y = lq_data_f32(node->out);
#pragma omp parallel for schedule(static) if (rows * n >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++) route_row(y + t * n, x + t * n, n, node->attr);
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const int64_t rows = lq_rows(node->out), n = lq_cols(node->out);
    const float *const x = lq_data_f32(node->in[0]), *const y = lq_data_f32(node->out);
    const float *const dy = lq_grad_f32(node->out);
    float *const dx = lq_grad_f32(node->in[0]);
#pragma omp parallel for schedule(static) if (rows * n >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < rows; t++)
        backward_row(dx + t * n, dy + t * n, x + t * n, y + t * n, n, node->attr);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward};

const lq_op lq_op_route = {
    .name = "route",
    .n_in = 1,
    .attr_bytes = sizeof(lq_route_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(route)},
};

lq_tensor *lq_route(lq_tape *tape, lq_tensor *scores, lq_route_attr attr) {
    return lq_tape_record(tape, &lq_op_route, &attr, 1, (lq_tensor *[]){scores});
}
