/* See head.h. */
#include "head.h"

#include "cpu.h"
#include "gemm.h"
#include "wtile.h"

#include <assert.h>
#include <string.h>

/* Every chunk packs all of W twice: with 512 rows an eighth faster than with 256. */
enum { MIN_ROWS = 64, CHUNK_BYTES = 128 << 20 };

bool lq_head_is_trained(const lq_node *node) { return node->in[LQ_HEAD_W]->kind == LQ_PARAM; }

lq_status lq_head_shape(const lq_head *head, lq_node *node) {
    const lq_tensor *h = node->in[LQ_HEAD_H], *w = node->in[LQ_HEAD_W],
                    *labels = node->in[LQ_HEAD_LABELS];
    if (h->ndim != 2 || w->ndim != 2 || h->dim[1] != w->dim[1])
        return lq_fail(LQ_ESHAPE, "%s '%s': h has rows of %lld, the weight of %lld", head->name,
                       w->name ? w->name : "?", (long long)lq_cols(h), (long long)lq_cols(w));
    if (labels->fmt != &lq_i32 || labels->ndim != 1)
        return lq_fail(LQ_ESHAPE, "%s: labels are %s with %d dimensions, wanted i32 with 1",
                       head->name, labels->fmt->name, labels->ndim);
    lq_tensor *out = node->out, *saved = node->saved;
    out->fmt = &lq_f32;
    out->ndim = 2;
    out->dim[0] = h->dim[0];
    out->dim[1] = head->out_cols;
    if (lq_head_is_trained(node)) return LQ_OK;
    saved->fmt = &lq_f32;
    saved->ndim = 2;
    saved->dim[0] = h->dim[0];
    saved->dim[1] = h->dim[1];
    return LQ_OK;
}

/* ---- a chunk --------------------------------------------------------------------------------- */

/* n: as many rows as there can be. */
static int64_t chunk_rows(const lq_head_chunk *c, int64_t n) {
    int64_t row_bytes = 0;
    for (int s = 0; s < c->n_sides; s++)
        row_bytes += c->side[s].cols * (int64_t)sizeof(float);
    int64_t rows = CHUNK_BYTES / row_bytes;
    if (rows < MIN_ROWS) rows = MIN_ROWS;
    if (rows > LQ_HEAD_MAX_ROWS) rows = LQ_HEAD_MAX_ROWS;
    return rows < n ? rows : n;
}

/* The next `bytes` of scratch; NULL scratch: only counts. */
static void *take(char *scratch, size_t *used, size_t bytes) {
    void *at = scratch ? scratch + *used : NULL;
    *used += lq_align64(bytes);
    return at;
}

static size_t float_bytes(int64_t rows, int64_t cols) {
    return (size_t)(rows * cols) * sizeof(float);
}

/* Sets c's pointers into scratch; returns the bytes. */
static size_t lay_out(lq_head_chunk *c, const lq_head *head, const lq_node *node, char *scratch) {
    size_t used = 0;
    memset(c->side, 0, sizeof c->side);
    c->n_sides = head->sides(node, c->side);
    c->n = 0;
    c->capacity = chunk_rows(c, node->out->dim[0]);
    for (int i = 0; i < c->n_sides; i++) {
        lq_head_side *s = &c->side[i];
        if (s->h) s->tile = take(scratch, &used, lq_wtile_scratch(s->w));
        if (s->h) s->rows = take(scratch, &used, float_bytes(c->capacity, lq_cols(s->w)));
        s->logits = take(scratch, &used, float_bytes(c->capacity, s->cols));
    }
    c->dh = take(scratch, &used, float_bytes(c->capacity, lq_cols(node->in[LQ_HEAD_W])));
    return used;
}

size_t lq_head_scratch(const lq_head *head, const lq_node *node, bool backward) {
    lq_head_chunk c;
    return backward && !lq_head_is_trained(node) ? 0 : lay_out(&c, head, node, NULL);
}

static void gather_row(lq_head_chunk *c, int64_t row) {
    for (int i = 0; i < c->n_sides; i++) {
        const lq_head_side *s = &c->side[i];
        if (!s->h) continue;
        const int64_t D = lq_cols(s->h);
        memcpy(s->rows + c->n * D, lq_data_f32(s->h) + row * D, float_bytes(1, D));
    }
}

/* Gathers the next labelled rows from *next on; returns false when there are none. */
static bool gather(lq_head_chunk *c, const lq_node *node, int64_t *next) {
    const int32_t *const labels = lq_data_i32(node->in[LQ_HEAD_LABELS]);
    const int64_t N = node->in[LQ_HEAD_H]->dim[0];
    c->n = 0;
    for (; *next < N && c->n < c->capacity; ++*next) {
        assert(labels[*next] < lq_rows(node->in[LQ_HEAD_W]));
        if (labels[*next] < 0) continue;
        gather_row(c, *next);
        c->label[c->n] = labels[*next];
        c->row[c->n++] = *next;
    }
    return c->n > 0;
}

static void make_logits(const lq_head_chunk *c) {
    for (int k = 0; k < c->n_sides; k++) {
        const lq_head_side *s = &c->side[k];
        if (!s->h) continue;
        lq_wtile_forward(s->w, s->rows, s->logits, c->n, s->tile);
        if (s->softcap <= 0) continue;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < c->n; i++)
            lq_cpu_kernels()->tanh_cap(s->logits + i * s->cols, s->logits + i * s->cols, s->softcap,
                                       s->cols);
    }
}

static void make_dh(lq_head_chunk *c) {
    const lq_head_side *s = &c->side[0];
    lq_wtile_backward(s->w, s->logits, 0, c->dh, c->n, s->tile);
}

bool lq_head_is_top(const float *logits, int32_t label, float max) {
    if (logits[label] < max) return false;
    for (int32_t v = 0; v < label; v++)
        if (logits[v] == max) return false;
    return true;
}

double lq_head_exp_sum(float *to, const float *logits, float max, int64_t V) {
    float piece[LQ_HEAD_PIECE];
    double sum = 0;
    for (int64_t v = 0; v < V; v += LQ_HEAD_PIECE)
        sum += lq_cpu_kernels()->exp_sum(to ? to + v : piece, logits + v, max,
                                         lq_min64(LQ_HEAD_PIECE, V - v));
    return sum;
}

/* ---- forward and backward -------------------------------------------------------------------- */

void lq_head_forward(const lq_head *head, const lq_node *node, const lq_run *run) {
    const int64_t N = node->in[LQ_HEAD_H]->dim[0], D = node->in[LQ_HEAD_H]->dim[1];
    const bool gradient = run->training && !lq_head_is_trained(node);
    const float one = 1;
    float *const out = lq_data_f32(node->out); /* (N,out_cols) */
    lq_head_chunk c;
    lay_out(&c, head, node, run->scratch);
    memset(out, 0, float_bytes(N, head->out_cols));
    for (int64_t next = 0; gather(&c, node, &next);) {
        make_logits(&c);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < c.n; i++)
            head->row(node, &c, i, out + c.row[i] * head->out_cols, gradient ? &one : NULL);
        if (!gradient) continue;
        make_dh(&c);
        for (int64_t i = 0; i < c.n; i++)
            memcpy(lq_data_f32(node->saved) + c.row[i] * D, c.dh + i * D, float_bytes(1, D));
    }
}

/* dh += dloss * what forward saved. Rows without a label hold nothing. */
static void backward_frozen(const lq_head *head, const lq_node *node) {
    const lq_tensor *h = node->in[LQ_HEAD_H];
    const int64_t N = h->dim[0], D = h->dim[1];
    const int32_t *const labels = lq_data_i32(node->in[LQ_HEAD_LABELS]);
    const float *const dout = lq_grad_f32(node->out); /* (N,out_cols) */
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < N; i++)
        if (labels[i] >= 0)
            lq_cpu_kernels()->axpy(lq_grad_f32(h) + i * D, dout[head->out_cols * i],
                                   lq_data_f32(node->saved) + i * D, D);
}

static void backward_trained(const lq_head *head, const lq_node *node, const lq_run *run) {
    const lq_tensor *h = node->in[LQ_HEAD_H], *w = node->in[LQ_HEAD_W];
    const int64_t D = lq_cols(w), V = lq_rows(w);
    const float *const dout = lq_grad_f32(node->out); /* (N,out_cols) */
    lq_head_chunk c;
    lay_out(&c, head, node, run->scratch);
    for (int64_t next = 0; gather(&c, node, &next);) {
        make_logits(&c);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < c.n; i++)
            head->row(node, &c, i, NULL, &dout[head->out_cols * c.row[i]]);
        if (w->grad)
            lq_gemm(lq_grad_f32(w), D, 1, 1, (lq_mat){c.side[0].logits, V, true},
                    (lq_mat){c.side[0].rows, D, false}, V, D, c.n);
        if (!h->grad) continue;
        make_dh(&c);
        for (int64_t i = 0; i < c.n; i++)
            lq_cpu_kernels()->axpy(lq_grad_f32(h) + c.row[i] * D, 1, c.dh + i * D, D);
    }
}

void lq_head_backward(const lq_head *head, const lq_node *node, const lq_run *run) {
    if (lq_head_is_trained(node)) backward_trained(head, node, run);
    else if (node->in[LQ_HEAD_H]->grad) backward_frozen(head, node);
}
