/* `adapter: scales` (PEQA, arXiv 2305.14152): the codes of Q4_0 and Q8_0 weights stay, their block
 * scales are trained. The effective weights are the base's blocks with the trained scales, rounded
 * to F16; they are what the file gets. */
#include "adapter_parts.h"
#include "block_scales.h"

#include <string.h>

lq_status lq_scales_check(const lq_weight *w) {
    if (lq_weight_is_experts(w))
        return lq_fail(LQ_EUNSUPPORTED, "adapter: scales is not possible on the experts of %s",
                       w->name);
    if (lq_has_block_scales(w->fmt)) return LQ_OK;
    return lq_fail(LQ_EUNSUPPORTED, "adapter: scales: %s is %s, wanted Q4_0 or Q8_0; give such a "
                   "model, or base_quant: q4_0", w->name, w->fmt->label);
}

int64_t lq_scales_count(const lq_weight *w) { return w->rows * w->cols / w->fmt->block; }

void lq_scales_start(const lq_adapter *a, const lq_adapted *item) {
    const lq_weight *w = &a->model->weight[item->weight];
    lq_block_scales_get(w->fmt, w->data, a->param + item->a, lq_scales_count(w));
}

void lq_scales_copy_codes(const lq_adapter *a) {
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &a->model->weight[a->item[i].weight];
        memcpy((void *)a->patch[a->item[i].weight].data, w->data,
               lq_format_bytes(w->fmt, w->rows * w->cols));
    }
}

lq_status lq_scales_rebuild(const lq_adapter *a) {
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &a->model->weight[a->item[i].weight];
        const float *d = a->param + a->item[i].a;
        const int64_t n = lq_scales_count(w);
        if (!(lq_max_abs(d, n) <= lq_format_max(w->fmt)))
            return lq_fail(LQ_ENONFINITE, "%s: a scale is NaN or beyond what F16 holds", w->name);
        lq_block_scales_set(w->fmt, (void *)a->patch[a->item[i].weight].data, d, n);
    }
    return LQ_OK;
}
