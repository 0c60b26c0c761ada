/* First values of the trained parameters, as PEFT's: A uniform in +-1/sqrt(cols) (Kaiming with a =
 * sqrt 5) or normal with standard deviation 1/r, B zero. Keyed by the weight's name, so a value
 * depends neither on the other targets nor on the number of threads. */
#include "adapter_parts.h"
#include "hash.h"
#include "random.h"

#include <math.h>
#include <string.h>

static void init_lora(const lq_adapter *a, const lq_adapted *item) {
    const lq_weight *w = &a->model->weight[item->weight];
    const uint64_t key =
        lq_random_key(a->options.seed, lq_fnv1a(LQ_FNV_INIT, w->name, strlen(w->name)));
    const bool gaussian = strcmp(a->options.init, "gaussian") == 0;
    const float width = gaussian ? 1.0f / (float)item->rank : 1.0f / sqrtf((float)w->cols);
    float *out = a->param + item->a;
    for (int64_t i = 0; i < w->n_mats * item->rank * w->cols; i++)
        out[i] = width * (gaussian ? lq_random_normal(key, (uint64_t)i)
                                   : 2 * lq_random_uniform(key, (uint64_t)i) - 1);
}

void lq_adapter_initialise(lq_adapter *a) {
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &a->model->weight[a->item[i].weight];
        if (a->options.scales) lq_scales_start(a, &a->item[i]);
        else if (a->item[i].rank > 0) init_lora(a, &a->item[i]);
        else w->fmt->dequant(w->data, a->param + a->item[i].a, w->rows * w->cols);
    }
}
