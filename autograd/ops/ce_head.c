/* ce_head: the output head fused with cross-entropy,
 *   dlogits = softmax(logits) - onehot(label)   (times 1 - (logits/cap)^2 when capped).
 * How the logits come and go in chunks is head.h's. */
#include "cpu.h"
#include "head.h"
#include "ops.h"

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

/* No more than there can be. */
static int64_t chunk_rows(const lq_node *node) {
    const int64_t rows = CHUNK_BYTES / ((int64_t)sizeof(float) * lq_rows(node->in[W]));
    const int64_t n = rows < MIN_ROWS ? MIN_ROWS : rows > MAX_ROWS ? MAX_ROWS : rows;
    return n < node->in[H]->dim[0] ? n : node->in[H]->dim[0];
}

/* Sets c's pointers into scratch (NULL: only counts); returns the bytes. */
static size_t lay_out(chunk *c, const lq_node *node, char *scratch) {
    const lq_tensor *w = node->in[W];
    c->capacity = chunk_rows(node);
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
    const float own = logits[label];
    for (int64_t v = 0; v < V; v += LQ_HEAD_PIECE) {
        float p[LQ_HEAD_PIECE];
        const int64_t n = V - v < LQ_HEAD_PIECE ? V - v : LQ_HEAD_PIECE;
        cpu->exp_sum(p, logits + v, max, n);
        for (int64_t j = 0; j < n; j++)
            logits[v + j] = p[j] * scale * lq_head_slope(logits[v + j], cap);
    }
    logits[label] -= factor * lq_head_slope(own, cap);
}

static void row(const lq_node *node, const lq_head_chunk *c, int64_t i, float *out,
                const float *factor) {
    (void)node;
    const lq_head_side *s = &c->side[0];
    float *const logits = s->logits + i * s->cols;
    const int32_t label = c->label[i];
    const float max = lq_cpu_kernels()->max(logits, s->cols);
    const double sum = lq_head_exp_sum(logits, max, s->cols);
    if (out) {
        out[0] = (float)(log(sum) + (double)max - (double)logits[label]);
        out[1] = lq_head_is_top(logits, label, max);
    }
    if (factor) to_gradient(logits, label, max, sum, *factor, s->softcap, s->cols);
}

static int sides(const lq_node *node, lq_head_side side[LQ_HEAD_MAX_SIDES]) {
    const lq_ce_head_attr *attr = node->attr;
    side[0].h = node->in[LQ_HEAD_H];
    side[0].w = node->in[LQ_HEAD_W];
    side[0].cols = lq_rows(node->in[LQ_HEAD_W]);
    side[0].softcap = attr->softcap;
    return 1;
}

static const lq_head head = {.name = "ce_head", .out_cols = 2, .sides = sides, .row = row};

static lq_status shape(lq_node *node) { return lq_head_shape(&head, node); }

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(LQ_HEAD_LABELS) |
           (lq_head_is_trained(node) ? LQ_IN(LQ_HEAD_H) | LQ_IN(LQ_HEAD_W) : 0u);
}

static size_t scratch(const lq_node *node, bool backward) {
    return lq_head_scratch(&head, node, backward);
}

static void forward(const lq_node *node, const lq_run *run) { lq_head_forward(&head, node, run); }
static void backward(const lq_node *node, const lq_run *run) { lq_head_backward(&head, node, run); }

const lq_op lq_op_ce_head = {
    .name = "ce_head",
    .n_in = LQ_HEAD_N_IN,
    .attr_bytes = sizeof(lq_ce_head_attr),
    .nograd = LQ_IN(LQ_HEAD_LABELS),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .scratch = scratch,
    .kernel = {[LQ_CPU] = {forward, backward}},
};

lq_tensor *lq_ce_head(lq_tape *tape, lq_tensor *h, lq_tensor *w, lq_tensor *labels,
                      lq_ce_head_attr attr) {
    lq_tensor *const in[LQ_HEAD_N_IN] = {h, w, labels};
    return lq_tape_record(tape, &lq_op_ce_head, &attr, LQ_HEAD_N_IN, in);
}
