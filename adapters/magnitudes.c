/* DoRA's magnitudes and the lengths of the rows of W + s B A that they replace. */
#include "adapter_parts.h"

#include <string.h>

lq_status lq_adapter_measure(lq_merge **out, const lq_adapter *a, lq_dev *dev,
                             const lq_patch *patch) {
    const lq_planned plain = {.fmt = &lq_f32};
    LQ_TRY(lq_merge_new(out, a->n_items));
    LQ_TRY(lq_merge_on(*out, dev));
    for (int i = 0; i < a->n_items; i++) {
        const lq_patch *p = &patch[a->item[i].weight];
        lq_merge_job job = lq_adapter_job(a, a->item[i].weight, p, &lq_f32, &plain, NULL);
        job.norm = (float *)p->norm;
        if (a->item[i].dora) lq_merge_add(*out, job);
    }
    return lq_merge_prepare(*out);
}

lq_status lq_adapter_start_magnitudes(lq_adapter *a) {
    lq_merge *measure = NULL;
    if (!a->norm) return LQ_OK;
    lq_status status = lq_adapter_measure(&measure, a, lq_dev_cpu(), a->patch);
    if (status == LQ_OK) status = lq_merge_run(measure);
    for (int i = 0; status == LQ_OK && i < a->n_items; i++) {
        const lq_patch *patch = &a->patch[a->item[i].weight];
        const int64_t rows = a->model->weight[a->item[i].weight].rows;
        if (patch->m) memcpy(patch->m, patch->norm, (size_t)rows * sizeof(float));
    }
    lq_merge_free(measure);
    return status;
}
