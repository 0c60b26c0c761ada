/* linear: out = x W^T + bias. Backward: dx += dy W, and for trained parameters dW += dy^T x and
 * dbias += column sums of dy. With a frozen weight only W is read, so x may be gone by then. */
#include "gemm.h"
#include "linear_parts.h"
#include "ops.h"
#include "wtile.h"

enum { X, W, BIAS, N_IN };

lq_status lq_linear_shape(lq_node *node, const char *name) {
    const lq_tensor *x = node->in[X], *w = node->in[W], *bias = node->in[BIAS];
    if (!lq_is_activation_format(x->fmt) || x->ndim != 2 || w->ndim != 2)
        return lq_fail(
            LQ_ESHAPE,
            "%s '%s': x has %d dimensions of %s, the weight %d; needed are 2 of f32, and 2", name,
            w->name ? w->name : "?", x->ndim, x->fmt->name, w->ndim);
    if (x->dim[1] != w->dim[1])
        return lq_fail(LQ_ESHAPE, "%s '%s': x has rows of %lld, the weight of %lld", name,
                       w->name ? w->name : "?", (long long)x->dim[1], (long long)w->dim[1]);
    if (bias && (bias->fmt != &lq_f32 || bias->ndim != 1 || bias->dim[0] != w->dim[0]))
        return lq_fail(LQ_ESHAPE,
                       "%s '%s': the bias has %lld elements of %s, the weight %lld rows; "
                       "the bias must be f32",
                       name, w->name ? w->name : "?", (long long)lq_cols(bias), bias->fmt->name,
                       (long long)w->dim[0]);
    lq_tensor *out = node->out;
    out->fmt = &lq_f32;
    out->ndim = 2;
    out->dim[0] = x->dim[0];
    out->dim[1] = w->dim[0];
    return LQ_OK;
}

void lq_linear_bias(const lq_tensor *bias, float *y, int64_t n) {
    if (!bias) return;
    const int64_t O = bias->dim[0];
    const float *const b = lq_data_f32(bias);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *const row = y + i * O; /* (O) */
#pragma omp simd
        for (int64_t o = 0; o < O; o++) row[o] += b[o];
    }
}

void lq_linear_bias_backward(const lq_tensor *bias, const float *dy, int64_t n) {
    if (!bias || !bias->grad) return;
    const int64_t O = bias->dim[0];
    float *const db = lq_grad_f32(bias);
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < O; o++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += (double)dy[i * O + o];
        db[o] += (float)sum;
    }
}

static lq_status shape(lq_node *node) { return lq_linear_shape(node, "linear"); }

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(W) | (node->in[W]->kind == LQ_PARAM ? LQ_IN(X) : 0u);
}

static size_t scratch(const lq_node *node, bool backward) {
    (void)backward;
    return lq_wtile_scratch(node->in[W]);
}

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t N = node->in[X]->dim[0];
    float *const y = lq_data_f32(node->out);
    lq_wtile_forward(node->in[W], lq_data_f32(node->in[X]), y, N, run->scratch);
    lq_linear_bias(node->in[BIAS], y, N);
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *x = node->in[X], *w = node->in[W];
    const int64_t N = x->dim[0], D = x->dim[1], O = w->dim[0];
    const float *const dy = lq_grad_f32(node->out); /* (N,O) */
    if (x->grad)
        lq_wtile_backward(w, dy, lq_grad_beta(node, X), lq_grad_f32(x), N, run->scratch);
    if (w->grad)
        lq_gemm(lq_grad_f32(w), D, 1, 1, (lq_mat){dy, O, true}, (lq_mat){lq_data_f32(x), D, false},
                O, D, N);
    lq_linear_bias_backward(node->in[BIAS], dy, N);
}

static const lq_kernels on_cpu = {
    .fwd = forward, .bwd = backward, .scratch = scratch, .writes = LQ_IN(X),
};

static unsigned products(const lq_node *node) {
    (void)node;
    return LQ_IN(W);
}

const lq_op lq_op_linear = {
    .name = "linear", .n_in = N_IN, .products = products, .bwd_reads = bwd_reads, .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(linear)},
};

lq_tensor *lq_linear(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_tensor *bias) {
    lq_tensor *const in[N_IN] = {x, w, bias};
    return lq_tape_record(tape, &lq_op_linear, NULL, N_IN, in);
}
