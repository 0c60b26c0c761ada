/* lora_linear: a linear with a low-rank adapter. With P = s drop(x) A^T (N,R), Q = s dy B (N,R):
 *   out = x W^T + bias (+ P B^T, unless merged: then W holds the adapter already)
 *   dB += dy^T P;  dA += Q^T drop(x);  dx += dy W (+ drop'(Q A), unless merged)
 * where W may have its own, rounded x. Nothing of W's size is formed. Forward saves P, which is
 * small; merged, backward makes it. The dropout mask is a function of the run's key, the node and
 * the element, so it is drawn again in backward. With magnitudes (magnitude.h) the columns of out
 * before the bias, and of dy wherever it meets an unscaled weight, are times their factors. */
#include "clip.h"
#include "gemm.h"
#include "linear_parts.h"
#include "magnitude.h"
#include "ops.h"
#include "random.h"
#include "rowwise.h"
#include "lora_rows.h"
#include "saturation.h"
#include "wtile.h"

#include <assert.h>

enum { X, W, BIAS, A, B, ROUNDED, M, NORM, N_IN };

/* What W is multiplied with. */
static const lq_tensor *input_of_w(const lq_node *node) {
    return node->in[ROUNDED] ? node->in[ROUNDED] : node->in[X];
}

static lq_magnitude magnitude_of(const lq_node *node) {
    return (lq_magnitude){node->in[M], node->in[NORM]};
}

static lq_status check_magnitude(const lq_node *node) {
    const lq_tensor *m = node->in[M], *norm = node->in[NORM], *w = node->in[W];
    const lq_lora_attr *attr = node->attr;
    if (!m && !norm) return LQ_OK;
    if (!m || !norm || m->ndim != 1 || norm->ndim != 1 || m->dim[0] != w->dim[0] ||
        norm->dim[0] != w->dim[0])
        return lq_fail(LQ_ESHAPE, "lora_linear '%s': wanted a magnitude and a norm for each of "
                       "%lld rows", w->name ? w->name : "?", (long long)w->dim[0]);
    if (attr->dropout > 0 || attr->clipped)
        return lq_fail(LQ_EVALUE, "lora_linear '%s': magnitudes go neither with dropout nor with "
                       "clipping", w->name ? w->name : "?");
    return LQ_OK;
}

static lq_status shape(lq_node *node) {
    const lq_tensor *w = node->in[W], *a = node->in[A], *b = node->in[B];
    const lq_lora_attr *attr = node->attr;
    LQ_TRY(lq_linear_shape(node, "lora_linear"));
    if (a->ndim != 2 || b->ndim != 2 || a->dim[1] != w->dim[1] || b->dim[0] != w->dim[0] ||
        a->dim[0] != b->dim[1])
        return lq_fail(LQ_ESHAPE,
                       "lora_linear '%s' (%lld,%lld): A is (%lld,%lld) and B (%lld,%lld), "
                       "wanted (R,%lld) and (%lld,R)",
                       w->name ? w->name : "?", (long long)w->dim[0], (long long)w->dim[1],
                       (long long)a->dim[0], (long long)lq_cols(a), (long long)b->dim[0],
                       (long long)lq_cols(b), (long long)w->dim[1], (long long)w->dim[0]);
    if (!(attr->dropout >= 0 && attr->dropout < 1) || (attr->merged && attr->dropout > 0))
        return lq_fail(LQ_EVALUE,
                       "lora_linear '%s': dropout is %g, wanted 0 to below 1, and 0 when merged",
                       w->name ? w->name : "?", (double)attr->dropout);
    LQ_TRY(check_magnitude(node));
    if (node->in[ROUNDED]) LQ_TRY(lq_check_same(node->in[X], "x", node->in[ROUNDED], "rounded x"));
    if (attr->merged) {
        assert(!node->in[ROUNDED]);
        assert(!attr->clipped || w->dim[1] % LQ_CLIP_BITS == 0);
        return LQ_OK;
    }
    lq_tensor *saved = node->saved; /* P */
    saved->fmt = &lq_f32;
    saved->ndim = 2;
    saved->dim[0] = node->in[X]->dim[0];
    saved->dim[1] = a->dim[0];
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    const unsigned always = LQ_IN(X) | LQ_IN(W) | LQ_IN(A) | LQ_IN(B);
    return node->in[M] ? always | LQ_IN(M) | LQ_IN(NORM) | LQ_IN(BIAS) | LQ_OUT : always;
}

/* What goes by rows, W only if it can and that pays. */
static lq_lora_rows by_rows(const lq_node *node, const float *adapter_input) {
    const lq_lora_attr *const attr = node->attr;
    const lq_tensor *const x = node->in[X], *const w = node->in[W];
    lq_lora_rows r = {.N = x->dim[0], .D = x->dim[1], .O = w->dim[0], .R = node->in[A]->dim[0],
                      .x = adapter_input, .a = lq_data_f32(node->in[A]),
                      .b = lq_data_f32(node->in[B]), .scale = attr->scale};
    if (w->fmt == &lq_f32 && !attr->merged && !(attr->dropout > 0) && !node->in[ROUNDED] &&
        !node->in[M] && lq_lora_rows_pay(r.N, r.D, r.O))
        r.w = w->data;
    return r;
}

/* Scratch in this order: a tile of W; P when not saved; Q; drop(x) or the gradient behind it; dy
 * times magnitudes; what clipping takes; what going by rows takes. */
typedef struct layout { size_t p, q, dropped, dy, clip, rows, bytes; } layout;

static layout scratch_layout(const lq_node *node, int64_t n, bool backward) {
    const lq_lora_attr *attr = node->attr;
    const size_t rank_bytes = lq_align64((size_t)(n * node->in[A]->dim[0]) * sizeof(float));
    layout l;
    l.p = lq_align64(lq_wtile_scratch(node->in[W]));
    l.q = l.p + rank_bytes;
    l.dropped = l.q + rank_bytes;
    l.dy =
        l.dropped + (attr->dropout > 0 ? (size_t)(n * node->in[X]->dim[1]) * sizeof(float) : 0);
    l.clip = l.dy + (node->in[M] ? (size_t)(n * node->in[W]->dim[0]) * sizeof(float) : 0);
    l.rows = l.clip + (attr->clipped ? lq_clip_scratch(n, node->in[X]->dim[1]) : 0);
    l.bytes = l.rows + (backward ? lq_lora_rows_scratch(n, node->in[X]->dim[1],
                                                        node->in[W]->dim[0], node->in[A]->dim[0])
                                 : 0);
    return l;
}

static size_t scratch(const lq_node *node, bool backward) {
    return scratch_layout(node, node->in[X]->dim[0], backward).bytes;
}

/* y = mask x / (1 - p), or with add: y += the same. y (N,D). */
static void apply_dropout(const lq_node *node, const lq_run *run, const float *x, float *y,
                          bool add) {
    const float p = ((const lq_lora_attr *)node->attr)->dropout;
    const uint64_t key = lq_random_key(run->key, node->id);
    const int64_t N = node->in[X]->dim[0], D = node->in[X]->dim[1];
    const float keep = 1 / (1 - p);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N * D; i++) {
        const float v = lq_random_uniform(key, (uint64_t)i) < p ? 0 : x[i] * keep;
        y[i] = add ? y[i] + v : v;
    }
}

static bool drops(const lq_node *node, const lq_run *run) {
    return run->training && ((const lq_lora_attr *)node->attr)->dropout > 0;
}

/* The adapter's input: x, or drop(x) made in scratch. */
static const float *adapter_input(const lq_node *node, const lq_run *run, float *dropped) {
    const float *const x = lq_data_f32(node->in[X]);
    if (!drops(node, run)) return x;
    apply_dropout(node, run, x, dropped, false);
    return dropped;
}

/* P = s drop(x) A^T, made in p (N,R). */
static void make_p(const lq_node *node, const float *x, float *p) {
    const lq_tensor *a = node->in[A];
    const int64_t N = node->in[X]->dim[0], D = a->dim[1], R = a->dim[0];
    lq_gemm(p, R, 0, ((const lq_lora_attr *)node->attr)->scale, (lq_mat){x, D, false},
            (lq_mat){lq_data_f32(a), D, true}, N, R, D);
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_magnitude magnitude = magnitude_of(node);
    const lq_tensor *a = node->in[A], *b = node->in[B];
    const lq_lora_attr *attr = node->attr;
    const int64_t N = node->in[X]->dim[0], R = a->dim[0];
    float *const y = lq_data_f32(node->out);
    float *const dropped = (float *)((char *)run->scratch + scratch_layout(node, N, false).dropped);
    const float *const x = lq_data_f32(input_of_w(node));
    const lq_lora_rows r = by_rows(node, x);
    if (r.w) {
        lq_lora_rows_forward(&r, lq_data_f32(node->saved), y);
    } else if (attr->merged) {
        lq_wtile_forward(node->in[W], x, y, N, run->scratch);
    } else {
        float *const p = lq_data_f32(node->saved);
        make_p(node, adapter_input(node, run, dropped), p);
        const lq_gemm_term side = {{p, R, false}, {lq_data_f32(b), R, true}, R};
        lq_wtile_forward_sum(node->in[W], &side, x, y, N, run->scratch);
        if (magnitude.m) lq_magnitude_scale(y, &magnitude, y, N);
    }
    lq_linear_bias(node->in[BIAS], y, N);
}

/* The gradient (N,O) of x (W + s B A)^T from that of out; also adds to dm. */
static const float *before_magnitude(const lq_node *node, const float *dout, float *scratch) {
    const lq_magnitude magnitude = magnitude_of(node);
    const int64_t N = node->in[X]->dim[0];
    if (!magnitude.m) return dout;
    lq_magnitude_backward(&magnitude, node->in[BIAS], lq_data_f32(node->out), dout, N);
    lq_magnitude_scale(scratch, &magnitude, dout, N);
    return scratch;
}

/* dx += dy W + drop'(Q A), the adapter's part not when merged; a rounded x takes W's part. What is
 * fresh is written. */
static void backward_x(const lq_node *node, const lq_run *run, const float *dy, const float *q,
                       float *dropped) {
    const lq_tensor *x = node->in[X], *w = node->in[W], *a = node->in[A];
    const int64_t N = x->dim[0], D = x->dim[1], R = a->dim[0];
    const lq_gemm_term side = {{q, R, false}, {lq_data_f32(a), D, false}, R};
    const int of_w = node->in[ROUNDED] ? ROUNDED : X;
    float *const dx = lq_grad_f32(x), *const dx_of_w = lq_grad_f32(node->in[of_w]);
    const bool adapter = dx && !((const lq_lora_attr *)node->attr)->merged;
    const bool together = adapter && dx == dx_of_w && !drops(node, run);
    if (dx_of_w)
        lq_wtile_backward_sum(w, together ? &side : NULL, dy, lq_grad_beta(node, of_w), dx_of_w, N,
                              run->scratch);
    if (!adapter || together) return;
    const float beta = dx == dx_of_w ? 1 : lq_grad_beta(node, X);
    if (drops(node, run)) {
        lq_gemm_sum(dropped, D, 0, &side, 1, N, D);
        apply_dropout(node, run, dropped, dx, beta != 0);
    } else {
        lq_gemm_sum(dx, D, beta, &side, 1, N, D);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *x = node->in[X], *a = node->in[A], *b = node->in[B];
    const lq_lora_attr *attr = node->attr;
    const layout l = scratch_layout(node, x->dim[0], true);
    char *const base = run->scratch;
    float *const made_p = (float *)(base + l.p), *const q = (float *)(base + l.q);
    float *const dropped = (float *)(base + l.dropped);
    const float *const dout = lq_grad_f32(node->out); /* (N,O) */
    const float *const dy = before_magnitude(node, dout, (float *)(base + l.dy));
    const float *const xa = adapter_input(node, run, dropped);
    const lq_lora_rows r = by_rows(node, xa);
    const lq_lora_rows_grad g = {
        .dy = dy, .p = attr->merged ? made_p : lq_data_f32(node->saved), .q = q,
        .da = lq_grad_f32(a), .db = lq_grad_f32(b),
        .dx = lq_grad_f32(x), .beta = lq_grad_beta(node, X),
    };
    if (attr->merged) make_p(node, xa, made_p);
    lq_lora_rows_backward(&r, &g, (float *)(base + l.rows));
    if (!r.w) backward_x(node, run, attr->merged ? dout : dy, q, dropped);
    if (attr->clipped)
        lq_clip_backward(&(lq_clip){x, node->out->grad, a, b, attr->clipped, attr->scale},
                         base + l.clip);
    lq_linear_bias_backward(node->in[BIAS], dout, lq_rows(node->out));
}

static const lq_kernels on_cpu = {
    .fwd = forward, .bwd = backward, .scratch = scratch, .writes = LQ_IN(X) | LQ_IN(ROUNDED),
};

static unsigned products(const lq_node *node) {
    (void)node;
    return LQ_IN(W);
}

const lq_op lq_op_lora_linear = {
    .name = "lora_linear", .n_in = N_IN, .products = products,
    .attr_bytes = sizeof(lq_lora_attr), .bwd_reads = bwd_reads,
    .shape = shape, .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(lora_linear)},
};

lq_tensor *lq_lora_linear(lq_tape *tape, lq_tensor *x, lq_tensor *rounded, lq_tensor *w,
                          lq_tensor *bias, lq_tensor *a, lq_tensor *b, lq_lora_attr attr) {
    return lq_dora_linear(tape, x, rounded, w, bias, a, b, NULL, NULL, attr);
}

lq_tensor *lq_dora_linear(lq_tape *tape, lq_tensor *x, lq_tensor *rounded, lq_tensor *w,
                          lq_tensor *bias, lq_tensor *a, lq_tensor *b, lq_tensor *m,
                          lq_tensor *norm, lq_lora_attr attr) {
    lq_tensor *const in[N_IN] = {x, w, bias, a, b, rounded, m, norm};
    return lq_tape_record(tape, &lq_op_lora_linear, &attr, N_IN, in);
}
