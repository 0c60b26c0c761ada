/* What an adapter that took s B0 A0 from W adds to all of W, as a plain adapter of rank 2 r:
 *   s (B A - B0 A0) = s [B - B0, B0] [A; A - A0]
 * Each product has a small factor, so rounding the file to F16 costs a share of the difference, not
 * of W. */
#include "adapter_parts.h"

#include <math.h>
#include <string.h>

static void subtract(float *out, const float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = x[i] - y[i];
}

static void fill_item(const lq_adapter *out, const lq_adapter *a, int i) {
    const lq_adapted *to = &out->item[i], *from = &a->item[i];
    const lq_weight *w = &a->model->weight[from->weight];
    const int64_t r = from->rank, n = r * w->cols;
    const float *const a1 = a->param + from->a, *const a0 = a->taken + from->a;
    memcpy(out->param + to->a, a1, (size_t)n * sizeof *a1);
    subtract(out->param + to->a + n, a1, a0, n);
    for (int64_t row = 0; row < w->rows; row++) {
        const int64_t at = from->b + row * r;
        float *const b = out->param + to->b + row * 2 * r;
        subtract(b, a->param + at, a->taken + at, r);
        memcpy(b + r, a->taken + at, (size_t)r * sizeof *b);
    }
}

lq_status lq_adapter_difference(lq_adapter **out, const lq_adapter *a) {
    const lq_adapter_options *o = &a->options;
    lq_adapter *d = NULL;
    lq_status status = LQ_OK;
    *out = NULL;
    LQ_GOTO(status, lq_adapter_alloc(&d, a->model));
    d->options = (lq_adapter_options){
        .r = 2 * o->r, .alpha = o->alpha * (o->use_rslora ? sqrt(2) : 2), .dropout = o->dropout,
        .use_rslora = o->use_rslora};
    d->n_items = a->n_items;
    for (int i = 0; i < a->n_items; i++) {
        d->item[i] = a->item[i];
        d->item[i].rank *= 2;
    }
    LQ_GOTO(status, lq_adapter_lay_out(d));
    for (int i = 0; i < a->n_items; i++) fill_item(d, a, i);
    *out = d;
    d = NULL;
done:
    lq_adapter_free(d);
    return status;
}
