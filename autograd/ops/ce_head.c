/* ce_head: the output head fused with cross-entropy. Rows with a label are gathered into chunks; of
 * each chunk the logits (C,V) are made, turned into the loss and, when training, into the gradient
 *   dlogits = softmax(logits) - onehot(label)   (times 1 - (logits/cap)^2 when capped)
 * in place. With a frozen head, forward finishes the job: dh = dlogits W is saved (N,D) and the
 * logits are made once. A trained head makes them again in backward, where dW += dlogits^T h. */
#include "blas.h"
#include "cpu.h"
#include "ops.h"
#include "wtile.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { H, W, LABELS, N_IN };
/* Every chunk packs all of W twice: with 512 rows an eighth faster than with 256. */
enum { MIN_ROWS = 64, MAX_ROWS = 512, CHUNK_BYTES = 128 << 20, PIECE = 1024 };

static bool is_trained(const lq_node *node) { return node->in[W]->kind == LQ_PARAM; }

static lq_status shape(lq_node *node) {
    const lq_tensor *h = node->in[H], *w = node->in[W], *labels = node->in[LABELS];
    if (h->ndim != 2 || w->ndim != 2 || h->dim[1] != w->dim[1])
        return lq_fail(LQ_ESHAPE, "ce_head '%s': h has rows of %lld, the weight of %lld",
                       w->name ? w->name : "?", (long long)lq_cols(h), (long long)lq_cols(w));
    if (labels->fmt != &lq_i32 || labels->ndim != 1)
        return lq_fail(LQ_ESHAPE, "ce_head: labels are %s with %d dimensions, wanted i32 with 1",
                       labels->fmt->name, labels->ndim);
    lq_tensor *out = node->out, *saved = node->saved;
    out->fmt = &lq_f32;
    out->ndim = 2;
    out->dim[0] = h->dim[0];
    out->dim[1] = 2;
    if (is_trained(node)) return LQ_OK;
    saved->fmt = &lq_f32;
    saved->ndim = 2;
    saved->dim[0] = h->dim[0];
    saved->dim[1] = h->dim[1];
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(LABELS) | (is_trained(node) ? LQ_IN(H) | LQ_IN(W) : 0u);
}

/* Its buffers lie in scratch: a tile of W, the gathered h and dh (rows,D), the logits (rows,V). */
typedef struct chunk {
    void *tile;
    float *h, *dh, *logits;
    int64_t capacity, n;
    int64_t row[MAX_ROWS];   /* where each row came from */
    int32_t label[MAX_ROWS];
} chunk;

static int64_t chunk_rows(const lq_tensor *w) {
    const int64_t rows = CHUNK_BYTES / ((int64_t)sizeof(float) * lq_rows(w));
    return rows < MIN_ROWS ? MIN_ROWS : rows > MAX_ROWS ? MAX_ROWS : rows;
}

/* Sets c's pointers into scratch (NULL: only counts); returns the bytes. */
static size_t lay_out(chunk *c, const lq_node *node, char *scratch) {
    const lq_tensor *w = node->in[W];
    c->capacity = chunk_rows(w);
    c->n = 0;
    const size_t row_bytes = lq_align64((size_t)(c->capacity * lq_cols(w)) * sizeof(float));
    const size_t h = lq_align64(lq_wtile_scratch(w)), dh = h + row_bytes, logits = dh + row_bytes;
    if (scratch) {
        c->tile = scratch;
        c->h = (float *)(scratch + h);
        c->dh = (float *)(scratch + dh);
        c->logits = (float *)(scratch + logits);
    }
    return logits + (size_t)(c->capacity * lq_rows(w)) * sizeof(float);
}

static size_t scratch(const lq_node *node, bool backward) {
    chunk c;
    return backward && !is_trained(node) ? 0 : lay_out(&c, node, NULL);
}

/* Gathers the next labelled rows from *next on; returns false when there are none. */
static bool gather(chunk *c, const lq_node *node, int64_t *next) {
    const lq_tensor *h = node->in[H];
    const int32_t *const labels = lq_data_i32(node->in[LABELS]);
    const int64_t N = h->dim[0], D = h->dim[1];
    c->n = 0;
    for (; *next < N && c->n < c->capacity; ++*next) {
        assert(labels[*next] < lq_rows(node->in[W]));
        if (labels[*next] < 0) continue;
        memcpy(c->h + c->n * D, lq_data_f32(h) + *next * D, (size_t)D * sizeof(float));
        c->label[c->n] = labels[*next];
        c->row[c->n++] = *next;
    }
    return c->n > 0;
}

static void make_logits(chunk *c, const lq_node *node) {
    const float cap = ((const lq_ce_head_attr *)node->attr)->softcap;
    const int64_t V = lq_rows(node->in[W]);
    lq_wtile_forward(node->in[W], c->h, c->logits, c->n, c->tile);
    if (cap <= 0) return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < c->n; i++)
        lq_cpu_kernels()->tanh_cap(c->logits + i * V, c->logits + i * V, cap, V);
}

/* No other logit is higher, and none before it is as high. */
static bool is_top(const float *logits, int32_t label, float max) {
    if (logits[label] < max) return false;
    for (int32_t v = 0; v < label; v++)
        if (logits[v] == max) return false;
    return true;
}

/* Sum of exp(logits - max), the logits left as they are. */
static double exp_sum(const float *logits, float max, int64_t V) {
    float piece[PIECE];
    double sum = 0;
    for (int64_t v = 0; v < V; v += PIECE)
        sum += lq_cpu_kernels()->exp_sum(piece, logits + v, max, V - v < PIECE ? V - v : PIECE);
    return sum;
}

/* Turns one row of logits into factor * dlogits. */
static void to_gradient(float *logits, int32_t label, float max, double sum, float factor,
                        float cap, int64_t V) {
    const lq_cpu *cpu = lq_cpu_kernels();
    const float scale = factor / (float)sum;
    if (cap <= 0) {
        cpu->exp_sum(logits, logits, max, V);
        cpu->scale(logits, scale, V);
        logits[label] -= factor;
        return;
    }
    const float inverse = 1 / cap, t = logits[label] * inverse;
    for (int64_t v = 0; v < V; v += PIECE) {
        float p[PIECE];
        const int64_t n = V - v < PIECE ? V - v : PIECE;
        cpu->exp_sum(p, logits + v, max, n);
        for (int64_t j = 0; j < n; j++) {
            const float r = logits[v + j] * inverse;
            logits[v + j] = p[j] * scale * (1 - r * r);
        }
    }
    logits[label] -= factor * (1 - t * t);
}

/* Loss and top flag of the chunk's rows; with `gradient` the logits become dlogits. */
static void score(chunk *c, const lq_node *node, bool gradient) {
    const float cap = ((const lq_ce_head_attr *)node->attr)->softcap;
    const int64_t V = lq_rows(node->in[W]);
    float *const out = lq_data_f32(node->out); /* (N,2) */
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < c->n; i++) {
        float *const logits = c->logits + i * V;
        const int32_t label = c->label[i];
        const float max = lq_cpu_kernels()->max(logits, V);
        const double sum = exp_sum(logits, max, V);
        out[2 * c->row[i]] = (float)(log(sum) + (double)max - (double)logits[label]);
        out[2 * c->row[i] + 1] = is_top(logits, label, max);
        if (gradient) to_gradient(logits, label, max, sum, 1, cap, V);
    }
}

static void make_dh(chunk *c, const lq_node *node) {
    const lq_tensor *w = node->in[W];
    memset(c->dh, 0, (size_t)(c->n * lq_cols(w)) * sizeof(float));
    lq_wtile_backward(w, c->logits, c->dh, c->n, c->tile);
}

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t N = node->in[H]->dim[0], D = node->in[H]->dim[1];
    const bool gradient = run->training && !is_trained(node);
    chunk c;
    lay_out(&c, node, run->scratch);
    memset(node->out->data, 0, (size_t)(2 * N) * sizeof(float));
    for (int64_t next = 0; gather(&c, node, &next);) {
        make_logits(&c, node);
        score(&c, node, gradient);
        if (!gradient) continue;
        make_dh(&c, node);
        for (int64_t i = 0; i < c.n; i++)
            memcpy(lq_data_f32(node->saved) + c.row[i] * D, c.dh + i * D,
                   (size_t)D * sizeof(float));
    }
}

/* dh += dloss * what forward saved. Rows without a label hold nothing. */
static void backward_frozen(const lq_node *node) {
    const lq_tensor *h = node->in[H];
    const int64_t N = h->dim[0], D = h->dim[1];
    const int32_t *const labels = lq_data_i32(node->in[LABELS]);
    const float *const dout = lq_grad_f32(node->out); /* (N,2) */
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        if (labels[i] >= 0)
            lq_cpu_kernels()->axpy(lq_grad_f32(h) + i * D, dout[2 * i],
                                   lq_data_f32(node->saved) + i * D, D);
}

/* Makes factor * dlogits again, factor the gradient of each row's loss. */
static void remake_gradient(chunk *c, const lq_node *node) {
    const float cap = ((const lq_ce_head_attr *)node->attr)->softcap;
    const int64_t V = lq_rows(node->in[W]);
    const float *const dout = lq_grad_f32(node->out); /* (N,2) */
    make_logits(c, node);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < c->n; i++) {
        float *const logits = c->logits + i * V;
        const float max = lq_cpu_kernels()->max(logits, V);
        to_gradient(logits, c->label[i], max, exp_sum(logits, max, V), dout[2 * c->row[i]], cap, V);
    }
}

static void backward_trained(const lq_node *node, const lq_run *run) {
    const lq_tensor *h = node->in[H], *w = node->in[W];
    const int64_t D = lq_cols(w), V = lq_rows(w);
    chunk c;
    lay_out(&c, node, run->scratch);
    for (int64_t next = 0; gather(&c, node, &next);) {
        remake_gradient(&c, node);
        if (w->grad)
            lq_gemm(lq_grad_f32(w), D, 1, 1, (lq_mat){c.logits, V, true}, (lq_mat){c.h, D, false},
                    V, D, c.n);
        if (!h->grad) continue;
        make_dh(&c, node);
        for (int64_t i = 0; i < c.n; i++)
            lq_cpu_kernels()->axpy(lq_grad_f32(h) + c.row[i] * D, 1, c.dh + i * D, D);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    if (is_trained(node))
        backward_trained(node, run);
    else if (node->in[H]->grad)
        backward_frozen(node);
}

const lq_op lq_op_ce_head = {
    .name = "ce_head",
    .n_in = N_IN,
    .attr_bytes = sizeof(lq_ce_head_attr),
    .nograd = LQ_IN(LABELS),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .scratch = scratch,
    .kernel = {[LQ_CPU] = {forward, backward}},
};

lq_tensor *lq_ce_head(lq_tape *tape, lq_tensor *h, lq_tensor *w, lq_tensor *labels,
                      lq_ce_head_attr attr) {
    lq_tensor *const in[N_IN] = {h, w, labels};
    return lq_tape_record(tape, &lq_op_ce_head, &attr, N_IN, in);
}
