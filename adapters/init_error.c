/* The adapter that starts as the correction of what quantization did to the weights, for adapters
 * beside a quantized base. With E = W - Q(W), and S_r the part of rank r that the singular value
 * decomposition keeps:
 *   loftq   s B A = S_r(E)       (arXiv 2310.08659, with one step, so that the base is Q(W))
 *   qera    s B A = S_r(E diag(c)) diag(1/c),     c_j = sqrt(mean x_j^2) of the imatrix: the least
 *           error of the layer's output (arXiv 2410.06040)
 * Q(W) stays what it is: one base serves all adapters. */
#include "adapter_parts.h"
#include "hash.h"
#include "lowrank.h"
#include "random.h"

#include <math.h>
#include <string.h>

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
    const lq_patch *patch;
    int64_t first, rows;
    int rank;
    float scale, *a, *b;      /* A (rank,cols), B (rows,rank) */
    const float *importance;  /* (cols) or NULL */
    uint64_t key;
} part;

/* e = (W - its quantization) diag(c); `row` has room for cols numbers. */
static void weighted_error(float *e, float *row, const part *p, const float *c) {
    const lq_format *in = p->w->fmt, *out = p->patch->fmt;
    const int64_t cols = p->w->cols;
    for (int64_t i = 0; i < p->rows; i++) {
        const int64_t at = (p->first + i) * cols;
        float *const to = e + i * cols;
        in->dequant((const char *)p->w->data + lq_format_bytes(in, at), to, cols);
        out->dequant((const char *)p->patch->data + lq_format_bytes(out, at), row, cols);
        for (int64_t j = 0; j < cols; j++) to[j] = (to[j] - row[j]) * c[j];
    }
}

static bool is_zero(const float *x, int64_t n) { return lq_max_abs(x, n) == 0; }

/* Directions without any error keep their random A and their zero B, so that they can learn. */
static void take(const part *p, const float *u, const float *v, const float *c) {
    const int64_t cols = p->w->cols;
    const float by = 1 / sqrtf(p->scale);
    for (int r = 0; r < p->rank; r++) {
        if (is_zero(v + r * cols, cols)) continue;
        for (int64_t j = 0; j < cols; j++) p->a[r * cols + j] = by * v[r * cols + j] / c[j];
        for (int64_t i = 0; i < p->rows; i++) p->b[i * p->rank + r] = by * u[i * p->rank + r];
    }
}

static lq_status correct(const part *p) {
    const int64_t cols = p->w->cols;
    lq_status status = LQ_OK;
    float *e = lq_alloc_array(p->rows * cols, sizeof *e);
    float *row = lq_alloc_array(cols, sizeof *row), *c = lq_alloc_array(cols, sizeof *c);
    float *u = lq_alloc_array(p->rows * p->rank, sizeof *u);
    float *v = lq_alloc_array(p->rank * cols, sizeof *v);
    LQ_GOTO(status, e && row && c && u && v ? LQ_OK : LQ_EMEM);
    column_weights(c, p->importance, cols);
    weighted_error(e, row, p, c);
    if (is_zero(e, p->rows * cols)) goto done;
    LQ_GOTO(status, lq_lowrank(u, v, e, p->rows, cols, p->rank, p->key));
    take(p, u, v, c);
done:
    lq_free(e);
    lq_free(row);
    lq_free(c);
    lq_free(u);
    lq_free(v);
    return status;
}

static lq_status correct_item(const lq_adapter *a, const lq_adapted *item,
                              const float *importance) {
    const lq_weight *w = &a->model->weight[item->weight];
    const int64_t rows = w->rows / w->n_mats;
    const uint64_t key =
        lq_random_key(a->options.seed, lq_fnv1a(LQ_FNV_INIT, w->name, strlen(w->name)));
    for (int64_t i = 0; i < w->n_mats; i++) {
        const part p = {
            .w = w, .patch = &a->patch[item->weight], .first = i * rows, .rows = rows,
            .rank = item->rank, .scale = item->scale,
            .a = a->param + item->a + i * item->rank * w->cols,
            .b = a->param + item->b + i * rows * item->rank,
            .importance = importance ? importance + i * w->cols : NULL,
            .key = lq_random_key(key, (uint64_t)i),
        };
        LQ_TRY(correct(&p));
    }
    return LQ_OK;
}

lq_status lq_adapter_correct(lq_adapter *a, const lq_planned *plan) {
    const bool weighted = strcmp(a->options.init, "qera") == 0;
    if (!weighted && strcmp(a->options.init, "loftq") != 0) return LQ_OK;
    for (int i = 0; i < a->n_items; i++) {
        const int w = a->item[i].weight;
        if (a->patch[w].fmt)
            LQ_TRY(correct_item(a, &a->item[i], weighted ? plan[w].importance : NULL));
    }
    return LQ_OK;
}
