/* The effective weights under QAT: which format each weight has in the coming file, one block of
 * memory for them all, and their bytes. A weight that stays as it is in the base file gets no
 * patch. */
#include "adapter_parts.h"
#include "saturation.h"
#include "type_plan.h"

#include <string.h>

lq_merge_job lq_adapter_job(const lq_adapter *a, int i, const lq_patch *patch,
                            const lq_format *fmt, const lq_planned *planned, void *out) {
    const lq_weight *w = &a->model->weight[i];
    lq_merge_job job = {
        .name = w->name, .fmt = w->fmt, .data = w->data, .rows = w->rows, .cols = w->cols,
        .n_mats = w->n_mats,
        .rank = patch->rank, .scale = patch->scale, .a = patch->a, .b = patch->b,
        .a0 = patch->a0, .b0 = patch->b0, .m = patch->m,
        .out_fmt = fmt, .out = out,
        .importance = planned->importance,
    };
    if (patch->full) {
        job.fmt = &lq_f32;
        job.data = patch->w;
    }
    return job;
}

static lq_status set_formats(lq_adapter *a, const lq_planned *plan) {
    const bool merged = a->options.mode == LQ_QAT_MERGED;
    for (int i = 0; i < a->model->n_weights; i++) {
        const lq_weight *w = &a->model->weight[i];
        lq_patch *patch = &a->patch[i];
        patch->merged = merged && patch->rank > 0;
        patch->fmt = plan[i].fmt;
        if ((patch->merged || patch->a0) && !patch->fmt) patch->fmt = w->fmt;
        if (patch->fmt && !patch->fmt->quant)
            return lq_fail(LQ_EUNSUPPORTED, "%s: %s cannot be written, only read", w->name,
                           patch->fmt->label);
    }
    return LQ_OK;
}

static size_t effective_bytes(const lq_adapter *a, int i) {
    const lq_weight *w = &a->model->weight[i];
    return lq_align64(lq_format_bytes(a->patch[i].fmt, w->rows * w->cols));
}

static lq_status place(lq_adapter *a, bool plan_only) {
    for (int i = 0; i < a->model->n_weights; i++)
        if (a->patch[i].fmt) a->packed_bytes += effective_bytes(a, i);
    if (plan_only) return LQ_OK;
    a->packed = lq_alloc(a->packed_bytes);
    if (!a->packed) return LQ_EMEM;
    char *at = a->packed;
    for (int i = 0; i < a->model->n_weights; i++) {
        if (!a->patch[i].fmt) continue;
        a->patch[i].data = at;
        at += effective_bytes(a, i);
    }
    return LQ_OK;
}

static bool can_clip(const lq_patch *patch) {
    return patch->merged && lq_can_saturate(patch->fmt);
}

static lq_status check_clipping(const lq_adapter *a) {
    for (int i = 0; i < a->model->n_weights; i++) {
        const lq_patch *patch = &a->patch[i];
        if (can_clip(patch) && lq_weight_is_experts(&a->model->weight[i]))
            return lq_fail(LQ_EUNSUPPORTED,
                           "qat.ste: clipped is not possible for the experts of %s",
                           a->model->weight[i].name);
        if (patch->merged && !lq_knows_saturation(patch->fmt))
            return lq_fail(LQ_EUNSUPPORTED,
                           "qat.ste: clipped is not possible for %s in %s; wanted Q4_0, Q8_0 or "
                           "the identity",
                           a->model->weight[i].name, patch->fmt->label);
    }
    return LQ_OK;
}

/* One bit per element of every merged weight whose format clips. */
static lq_status place_masks(lq_adapter *a) {
    int64_t words = 0;
    if (!a->options.clipped) return LQ_OK;
    LQ_TRY(check_clipping(a));
    for (int i = 0; i < a->model->n_weights; i++)
        if (can_clip(&a->patch[i]))
            words += a->model->weight[i].rows * a->model->weight[i].cols / LQ_CLIP_BITS;
    a->n_clip_words = words;
    a->clipped = lq_alloc_array(words, sizeof *a->clipped);
    if (!a->clipped) return LQ_EMEM;
    uint32_t *at = a->clipped;
    for (int i = 0; i < a->model->n_weights; i++) {
        if (!can_clip(&a->patch[i])) continue;
        a->patch[i].clipped = at;
        at += a->model->weight[i].rows * a->model->weight[i].cols / LQ_CLIP_BITS;
    }
    return LQ_OK;
}

/* Is weight i among those rebuilt every step (merged), or made once (not merged)? */
static bool is_job(const lq_adapter *a, int i, bool merged) {
    return a->patch[i].fmt && a->patch[i].merged == merged;
}

/* The jobs of all patches that are rebuilt every step (merged) or made once. */
static lq_status make_merge(lq_merge **out, const lq_adapter *a, const lq_planned *plan,
                            bool merged, lq_dev *dev, const lq_patch *patch) {
    LQ_TRY(lq_merge_new(out, a->model->n_weights));
    LQ_TRY(lq_merge_on(*out, dev));
    for (int i = 0; i < a->model->n_weights; i++) {
        const lq_patch *p = &patch[i];
        if (!is_job(a, i, merged)) continue;
        lq_merge_job job = lq_adapter_job(a, i, p, p->fmt, &plan[i], (void *)p->data);
        if (!merged) job.a = NULL;
        job.norm = (float *)p->norm;
        job.clipped = (uint32_t *)p->clipped;
        lq_merge_add(*out, job);
    }
    LQ_TRY(lq_merge_prepare(*out));
    return lq_merge_watchable(*out);
}

static void take_sums(const lq_adapter *a, const lq_merge *merge, bool merged) {
    int job = 0;
    for (int i = 0; i < a->model->n_weights; i++)
        if (is_job(a, i, merged)) a->watched[i] = lq_merge_watched(merge, job++);
}

static lq_status quantize_frozen(const lq_adapter *a, const lq_planned *plan) {
    lq_merge *once = NULL;
    lq_status status = make_merge(&once, a, plan, false, lq_dev_cpu(), a->patch);
    if (status == LQ_OK) {
        lq_merge_watch(once, true);
        status = lq_merge_run(once);
        take_sums(a, once, false);
    }
    lq_merge_free(once);
    return status;
}

lq_status lq_adapter_take(lq_adapter *a, const float *taken) {
    lq_planned *plan;
    memcpy(a->taken, taken, (size_t)a->n_params * sizeof *a->taken);
    if (a->options.mode != LQ_QAT_SEPARATE) return LQ_OK;
    LQ_TRY(lq_type_plan_model(&plan, a->options.types, a->model));
    const lq_status status = quantize_frozen(a, plan);
    lq_free(plan);
    return status;
}

static lq_status pack(lq_adapter *a, const lq_planned *plan, bool plan_only) {
    const bool merged = a->options.mode == LQ_QAT_MERGED;
    LQ_TRY(set_formats(a, plan));
    LQ_TRY(lq_type_plan_log(plan, a->model->n_weights,
                            merged ? "QAT, merged" : "QAT, separate"));
    LQ_TRY(place(a, plan_only));
    LQ_TRY(place_masks(a));
    if (plan_only) return LQ_OK;
    a->watched = lq_alloc_array(a->model->n_weights, sizeof *a->watched);
    if (!a->watched) return LQ_EMEM;
    LQ_TRY(quantize_frozen(a, plan));
    LQ_TRY(lq_adapter_start_as_error(a, plan));
    if (merged) LQ_TRY(make_merge(&a->merge, a, plan, true, lq_dev_cpu(), a->patch));
    return lq_adapter_rebuild(a);
}

/* The targets' blocks again, with scales of their own. */
static lq_status pack_scales(lq_adapter *a, bool plan_only) {
    for (int i = 0; i < a->n_items; i++)
        a->patch[a->item[i].weight].fmt = a->model->weight[a->item[i].weight].fmt;
    LQ_TRY(place(a, plan_only));
    if (!plan_only) lq_scales_copy_codes(a);
    return LQ_OK;
}

lq_status lq_adapter_pack(lq_adapter *a, bool plan_only) {
    lq_planned *plan;
    if (a->options.scales) return pack_scales(a, plan_only);
    if (a->options.mode == LQ_QAT_NONE) {
        if (a->norm && !plan_only) LQ_TRY(lq_adapter_measure(&a->merge, a, lq_dev_cpu(), a->patch));
        return lq_adapter_rebuild(a);
    }
    LQ_TRY(lq_type_plan_model(&plan, a->options.types, a->model));
    const lq_status status = pack(a, plan, plan_only);
    lq_free(plan);
    return status;
}

lq_status lq_adapter_make_merge(lq_merge **out, const lq_adapter *a, lq_dev *dev,
                                const lq_patch *patch) {
    lq_planned *plan;
    if (a->options.mode == LQ_QAT_NONE) return lq_adapter_measure(out, a, dev, patch);
    LQ_TRY(lq_type_plan_model(&plan, a->options.types, a->model));
    const lq_status status = make_merge(out, a, plan, true, dev, patch);
    lq_free(plan);
    return status;
}

static lq_status rerun(lq_adapter *a, lq_status (*run)(const lq_merge *merge)) {
    const lq_merge *const merge = lq_adapter_merge(a);
    if (a->options.scales && a->device) lq_scales_rebuild_on(a);
    else if (a->options.scales) return lq_scales_rebuild(a);
    if (!merge) return LQ_OK;
    LQ_TRY(run(merge));
    if (lq_merge_watching(merge)) take_sums(a, merge, true);
    return LQ_OK;
}

lq_status lq_adapter_rebuild(lq_adapter *a) { return rerun(a, lq_merge_run); }
lq_status lq_adapter_reround(lq_adapter *a) { return rerun(a, lq_merge_reround); }

void lq_adapter_watch(lq_adapter *a, bool on) {
    lq_merge *const merge = lq_adapter_merge(a);
    if (!merge || !a->watched) return; /* lengths alone have no codes */
    lq_merge_watch(merge, on);
    if (on) take_sums(a, merge, true);
}

size_t lq_adapter_packed_bytes(const lq_adapter *a) { return a->packed_bytes; }
