/* Adapters that start as a singular value decomposition's largest part of rank r, S_r.
 * Of the weight itself:
 *   pissa   s B A = S_r(W)       (arXiv 2404.02948); the base becomes W - s B A, kept as that pair
 * Of what quantization did to it, E = W - Q(W), for adapters beside a quantized base:
 *   loftq   s B A = S_r(E)       (arXiv 2310.08659, with one step, so that the base is Q(W))
 *   qera    s B A = S_r(E diag(c)) diag(1/c),     c_j = sqrt(mean x_j^2) of the imatrix: the least
 *           error of the layer's output (arXiv 2410.06040)
 * There Q(W) stays what it is: one base serves all adapters. */
#include "adapter_parts.h"
#include "hash.h"
#include "lowrank.h"
#include "random.h"

#include <math.h>
#include <string.h>

/* Singular values of weights fall slowly, those of rounding errors matter less. */
enum { OF_WEIGHT = 16, OF_ERROR = 2 };

static const float least_share = 1e-4f; /* of the largest c: columns that never were active */

/* c (cols), never zero. importance NULL: all 1. */
static void column_weights(float *c, const float *importance, int64_t cols) {
    float largest = 0;
    for (int64_t j = 0; j < cols; j++) {
        c[j] = importance ? sqrtf(importance[j]) : 1;
        largest = fmaxf(largest, c[j]);
    }
    for (int64_t j = 0; j < cols; j++)
        c[j] = largest > 0 ? fmaxf(c[j], least_share * largest) : 1;
}

/* One matrix of a weight: rows [first, first + rows), with its own A and B. */
typedef struct part {
    const lq_weight *w;
    const lq_format *rounded_to;   /* of `rounded`; NULL: W itself is wanted */
    const void *rounded;           /* Q(W) */
    int64_t first, rows;
    int rank, iterations;
    float scale, *a, *b;      /* A (rank,cols), B (rows,rank) */
    const float *importance;  /* (cols) or NULL */
    uint64_t key;
} part;

/* e = W, or (W - its quantization) diag(c); `row` has room for cols numbers. */
static void matrix_of(float *e, float *row, const part *p, const float *c) {
    const lq_format *in = p->w->fmt, *out = p->rounded_to;
    const int64_t cols = p->w->cols;
    for (int64_t i = 0; i < p->rows; i++) {
        const int64_t at = (p->first + i) * cols;
        float *const to = e + i * cols;
        in->dequant((const char *)p->w->data + lq_format_bytes(in, at), to, cols);
        if (!out) continue;
        out->dequant((const char *)p->rounded + lq_format_bytes(out, at), row, cols);
        for (int64_t j = 0; j < cols; j++) to[j] = (to[j] - row[j]) * c[j];
    }
}

static bool is_zero(const float *x, int64_t n) { return lq_max_abs(x, n) == 0; }

/* Directions with nothing in them keep their random A and their zero B, so that they can learn. */
static void take(const part *p, const float *u, const float *v, const float *c) {
    const int64_t cols = p->w->cols;
    const float by = 1 / sqrtf(p->scale);
    for (int r = 0; r < p->rank; r++) {
        if (is_zero(v + r * cols, cols)) continue;
        for (int64_t j = 0; j < cols; j++) p->a[r * cols + j] = by * v[r * cols + j] / c[j];
        for (int64_t i = 0; i < p->rows; i++) p->b[i * p->rank + r] = by * u[i * p->rank + r];
    }
}

static lq_status start_part(const part *p) {
    const int64_t cols = p->w->cols;
    lq_status status = LQ_OK;
    float *e = lq_alloc_array(p->rows * cols, sizeof *e);
    float *row = lq_alloc_array(cols, sizeof *row), *c = lq_alloc_array(cols, sizeof *c);
    float *u = lq_alloc_array(p->rows * p->rank, sizeof *u);
    float *v = lq_alloc_array(p->rank * cols, sizeof *v);
    LQ_GOTO(status, e && row && c && u && v ? LQ_OK : LQ_EMEM);
    column_weights(c, p->importance, cols);
    matrix_of(e, row, p, c);
    if (is_zero(e, p->rows * cols)) goto done;
    LQ_GOTO(status, lq_lowrank(u, v, e, p->rows, cols, p->rank, p->iterations, p->key));
    take(p, u, v, c);
done:
    lq_free(e);
    lq_free(row);
    lq_free(c);
    lq_free(u);
    lq_free(v);
    return status;
}

/* How the parts of an item start: what they share is in `like`. */
static lq_status start_item(const lq_adapter *a, const lq_adapted *item, const part *like) {
    const lq_weight *w = &a->model->weight[item->weight];
    const int64_t rows = w->rows / w->n_mats;
    const uint64_t key =
        lq_random_key(a->options.seed, lq_fnv1a(LQ_FNV_INIT, w->name, strlen(w->name)));
    for (int64_t i = 0; i < w->n_mats; i++) {
        part p = *like;
        p.w = w;
        p.first = i * rows;
        p.rows = rows;
        p.rank = item->rank;
        p.scale = item->scale;
        p.a = a->param + item->a + i * item->rank * w->cols;
        p.b = a->param + item->b + i * rows * item->rank;
        p.importance = like->importance ? like->importance + i * w->cols : NULL;
        p.key = lq_random_key(key, (uint64_t)i);
        LQ_TRY(start_part(&p));
    }
    return LQ_OK;
}

lq_status lq_adapter_start_as_weight(lq_adapter *a) {
    const part whole = {.iterations = OF_WEIGHT};
    for (int i = 0; i < a->n_items; i++) LQ_TRY(start_item(a, &a->item[i], &whole));
    memcpy(a->taken, a->param, (size_t)a->n_params * sizeof *a->taken);
    return LQ_OK;
}

lq_status lq_adapter_start_as_error(lq_adapter *a, const lq_planned *plan) {
    const bool weighted = strcmp(a->options.init, "qera") == 0;
    if (!weighted && strcmp(a->options.init, "loftq") != 0) return LQ_OK;
    for (int i = 0; i < a->n_items; i++) {
        const int w = a->item[i].weight;
        const part error = {.rounded_to = a->patch[w].fmt, .rounded = a->patch[w].data,
                            .importance = weighted ? plan[w].importance : NULL,
                            .iterations = OF_ERROR};
        if (error.rounded_to) LQ_TRY(start_item(a, &a->item[i], &error));
    }
    return LQ_OK;
}
