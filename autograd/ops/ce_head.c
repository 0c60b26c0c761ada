/* ce_head: the output head fused with cross-entropy, for some tokens of the vocabulary at a time,
 * whose logits are used while they are in cache (as attention's scores: Milakov & Gimelshein 2018).
 * Of each row m, the highest logit so far, and
 *   sum = sum over v of exp(l_v - m),  dh = sum over v of exp(l_v - m) slope_v W_v
 * shrink when m grows; slope_v = 1 - (l_v/cap)^2, or 1. In the end
 *   loss = m + log(sum) - l_label,  dh = dh / sum - slope_label W_label.
 * A trained head saves m + log(sum), and makes dlogits of it in backward. */
#include "cpu.h"
#include "gemm.h"
#include "head.h"
#include "ops.h"
#include "rowwise.h"
#include "wtile.h"

#include <math.h>
#include <string.h>

/* Logits made at a time: 3 MiB, and of few rows as many tokens as fill them. */
enum { TOKENS = 1536, LOGITS = LQ_HEAD_MAX_ROWS * TOKENS, STEP = 64 };

typedef struct running {
    float max, own;   /* of the logits so far; the label's */
    double sum;
    int64_t top;      /* the first token whose logit is max */
} running;

typedef struct head {
    const lq_tensor *w;
    int64_t D, V;
    float cap;
    lq_head_rows rows;
    float *h, *dh, *logits, *tile;   /* (C,D), (C,D), (C,tokens), (tokens,D) unless w is F32 */
    running of[LQ_HEAD_MAX_ROWS];
} head;

/* Tokens [first, first + n): their weights and all rows' logits. */
typedef struct block {
    int64_t first, n;
    const float *w;
} block;

static size_t float_bytes(int64_t n) { return (size_t)n * sizeof(float); }

static int64_t most_rows(const lq_node *node) {
    return lq_min64(LQ_HEAD_MAX_ROWS, node->out->dim[0]);
}

static size_t lay_out(head *c, const lq_node *node, char *scratch) {
    const lq_ce_head_attr *attr = node->attr;
    const int64_t rows = most_rows(node);
    size_t used = 0;
    c->w = node->in[LQ_HEAD_W];
    c->D = lq_cols(c->w);
    c->V = lq_rows(c->w);
    c->cap = attr->softcap;
    c->h = lq_head_take(scratch, &used, float_bytes(rows * c->D));
    c->dh = lq_head_take(scratch, &used, float_bytes(rows * c->D));
    c->logits = lq_head_take(scratch, &used, float_bytes(lq_min64(LOGITS, rows * c->V)));
    c->tile = lq_head_take(scratch, &used, lq_wtile_scratch(c->w));
    return used;
}

/* ---- a block --------------------------------------------------------------------------------- */

static block make_block(const head *c, int64_t first) {
    const int64_t most = lq_wtile_scratch(c->w) ? lq_wtile_height(c->w) : c->V;
    block b = {.first = first};
    b.n = lq_min64(c->V - first, lq_min64(most, LOGITS / c->rows.n / STEP * STEP));
    b.w = lq_wtile_rows(c->w, first, b.n, c->tile);
    lq_gemm(c->logits, b.n, 0, 1, (lq_mat){c->h, c->D, false}, (lq_mat){b.w, c->D, true}, c->rows.n,
            b.n, c->D);
    return b;
}

/* dh (n,D) (+)= what the logits have become times W. */
static void add_dh(const head *c, const block *b) {
    lq_gemm(c->dh, c->D, b->first ? 1 : 0, 1, (lq_mat){c->logits, b->n, false},
            (lq_mat){b->w, c->D, false}, c->rows.n, c->D, b->n);
}

/* Row i's logits of a block. */
static float *logits_of(const head *c, const block *b, int64_t i) {
    float *const l = c->logits + i * b->n;
    if (c->cap > 0) lq_cpu_kernels()->tanh_cap(l, l, c->cap, b->n);
    return l;
}

/* Logits become exp(l - minus) * scale * slope; returns the sum of the exponentials alone. */
static double weigh(const head *c, float *l, float minus, float scale, int64_t n) {
    double sum = 0;
    if (c->cap <= 0) {
        sum = lq_head_exp_sum(l, l, minus, n);
        if (scale != 1) lq_cpu_kernels()->scale(l, scale, n);
        return sum;
    }
    for (int64_t v = 0; v < n; v += LQ_HEAD_PIECE) {
        float e[LQ_HEAD_PIECE];
        const int64_t some = lq_min64(LQ_HEAD_PIECE, n - v);
        sum += lq_cpu_kernels()->exp_sum(e, l + v, minus, some);
        for (int64_t j = 0; j < some; j++)
            l[v + j] = e[j] * scale * lq_head_slope(l[v + j], c->cap);
    }
    return sum;
}

/* ---- forward -------------------------------------------------------------------------------- */

static void raise_max(head *c, const block *b, int64_t i, const float *l, float max,
                      bool gradient) {
    running *const r = &c->of[i];
    int64_t v = 0;
    while (v < b->n - 1 && l[v] != max) v++;
    if (b->first) {
        const float shrink = expf(r->max - max);
        r->sum *= (double)shrink;
        if (gradient) lq_cpu_kernels()->scale(c->dh + i * c->D, shrink, c->D);
    }
    r->max = max;
    r->top = b->first + v;
}

static void take_in(head *c, const block *b, int64_t i, bool gradient) {
    float *const l = logits_of(c, b, i);
    running *const r = &c->of[i];
    const int64_t label = c->rows.label[i] - b->first;
    const float max = lq_cpu_kernels()->max(l, b->n);
    if (b->first == 0) *r = (running){.max = -INFINITY};
    if (label >= 0 && label < b->n) r->own = l[label];
    if (b->first == 0 || max > r->max) raise_max(c, b, i, l, max, gradient);
    r->sum += gradient ? weigh(c, l, r->max, 1, b->n) : lq_head_exp_sum(NULL, l, r->max, b->n);
}

/* saved = dh / sum - slope W_label */
static void save_gradient(const head *c, int64_t i, float *saved) {
    const running *const r = &c->of[i];
    float *const dh = c->dh + i * c->D;
    const float *const w = lq_wtile_rows(c->w, c->rows.label[i], 1, saved);
    lq_cpu_kernels()->scale(dh, (float)(1 / r->sum), c->D);
    lq_cpu_kernels()->axpy(dh, -lq_head_slope(r->own, c->cap), w, c->D);
    memcpy(saved, dh, float_bytes(c->D));
}

static void finish_row(const head *c, const lq_node *node, int64_t i, bool training) {
    const running *const r = &c->of[i];
    const int64_t row = c->rows.row[i];
    float *const out = lq_data_f32(node->out) + 2 * row;
    const double lse = log(r->sum) + (double)r->max;
    out[0] = (float)(lse - (double)r->own);
    out[1] = r->top == c->rows.label[i];
    if (!training) return;
    if (lq_head_is_trained(node)) lq_data_f32(node->saved)[row] = (float)lse;
    else save_gradient(c, i, lq_data_f32(node->saved) + row * c->D);
}

static void forward(const lq_node *node, const lq_run *run) {
    const bool gradient = run->training && !lq_head_is_trained(node);
    head c;
    lay_out(&c, node, run->scratch);
    memset(lq_data_f32(node->out), 0, float_bytes(2 * node->out->dim[0]));
    for (int64_t next = 0; lq_head_next_rows(&c.rows, node, most_rows(node), &next);) {
        lq_head_gather(&c.rows, node->in[LQ_HEAD_H], c.h);
        for (int64_t token = 0; token < c.V;) {
            const block b = make_block(&c, token);
#pragma omp parallel for schedule(static)
            for (int64_t i = 0; i < c.rows.n; i++) take_in(&c, &b, i, gradient);
            if (gradient) add_dh(&c, &b);
            token += b.n;
        }
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < c.rows.n; i++) finish_row(&c, node, i, run->training);
    }
}

/* ---- backward of a trained head -------------------------------------------------------------- */

/* Logits become factor * dlogits. */
static void make_dlogits(const head *c, const block *b, int64_t i, float lse, float factor) {
    float *const l = logits_of(c, b, i);
    const int64_t label = c->rows.label[i] - b->first;
    const bool here = label >= 0 && label < b->n;
    const float own = here ? l[label] : 0;
    weigh(c, l, lse, factor, b->n);
    if (here) l[label] -= factor * lq_head_slope(own, c->cap);
}

static void backward_trained(const lq_node *node, const lq_run *run) {
    const lq_tensor *h = node->in[LQ_HEAD_H], *w = node->in[LQ_HEAD_W];
    const float *const dout = lq_grad_f32(node->out), *const lse = lq_data_f32(node->saved);
    head c;
    lay_out(&c, node, run->scratch);
    for (int64_t next = 0; lq_head_next_rows(&c.rows, node, most_rows(node), &next);) {
        lq_head_gather(&c.rows, h, c.h);
        for (int64_t token = 0; token < c.V;) {
            const block b = make_block(&c, token);
#pragma omp parallel for schedule(static)
            for (int64_t i = 0; i < c.rows.n; i++)
                make_dlogits(&c, &b, i, lse[c.rows.row[i]], dout[2 * c.rows.row[i]]);
            if (w->grad)
                lq_gemm(lq_grad_f32(w) + b.first * c.D, c.D, 1, 1, (lq_mat){c.logits, b.n, true},
                        (lq_mat){c.h, c.D, false}, b.n, c.D, c.rows.n);
            if (h->grad) add_dh(&c, &b);
            token += b.n;
        }
        if (h->grad) lq_head_add(&c.rows, c.dh, lq_grad_f32(h), c.D);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    if (lq_head_is_trained(node)) backward_trained(node, run);
    else lq_head_backward_frozen(node);
}

/* ---- the op ---------------------------------------------------------------------------------- */

static lq_status shape(lq_node *node) {
    LQ_TRY(lq_head_shape(node, "ce_head", 2));
    if (lq_head_is_trained(node)) lq_set_matrix(node->saved, node->out->dim[0], 1);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(LQ_HEAD_LABELS) |
           (lq_head_is_trained(node) ? LQ_IN(LQ_HEAD_H) | LQ_IN(LQ_HEAD_W) : 0u);
}

static unsigned products(const lq_node *node) {
    (void)node;
    return LQ_IN(LQ_HEAD_W);
}

static size_t scratch(const lq_node *node, bool is_backward) {
    head c;
    return is_backward && !lq_head_is_trained(node) ? 0 : lay_out(&c, node, NULL);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward, .scratch = scratch};

const lq_op lq_op_ce_head = {
    .name = "ce_head",
    .n_in = LQ_HEAD_N_IN,
    .attr_bytes = sizeof(lq_ce_head_attr),
    .nograd = LQ_IN(LQ_HEAD_LABELS),
    .bwd_reads = bwd_reads,
    .products = products,
    .out_f32 = true,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(ce_head)},
};

lq_tensor *lq_ce_head(lq_tape *tape, lq_tensor *h, lq_tensor *w, lq_tensor *labels,
                      lq_ce_head_attr attr) {
    lq_tensor *const in[LQ_HEAD_N_IN] = {h, w, labels};
    return lq_tape_record(tape, &lq_op_ce_head, &attr, LQ_HEAD_N_IN, in);
}
