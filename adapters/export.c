/* Whole models: the effective weights that the forward pass used, or (no QAT) W + s B A and trained
 * weights rounded once. Everything else is the base's, in the base's order. See export.h. */
#include "export.h"

#include "adapter_parts.h"
#include "export_file.h"
#include "ggml_types.h"
#include "lineage_keys.h"

#include <string.h>

/* Weights to compute, in the order of the model; fmt[i] NULL: not one of them. */
typedef struct conversion {
    const lq_format **fmt;
    void **data;
    void *memory;
} conversion;

static void conversion_clear(conversion *c) {
    lq_free(c->fmt);
    lq_free(c->data);
    lq_free(c->memory);
}

/* The format to compute weight i in; NULL: the base's bytes are right. An untouched matrix that is
 * already quantized is never expanded. */
static const lq_format *format_to_compute(const lq_adapter *a, const lq_planned *plan, int i) {
    const lq_weight *w = &a->model->weight[i];
    const lq_format *fmt = plan[i].fmt;
    if (a->patch[i].rank || a->patch[i].full) return fmt ? fmt : w->fmt->quant ? w->fmt : &lq_f32;
    return fmt && w->fmt->block > 1 && fmt->block == 1 ? NULL : fmt;
}

static lq_status place(conversion *c, const lq_adapter *a, const lq_planned *plan, int *n) {
    const lq_model *m = a->model;
    size_t bytes = 0;
    c->fmt = lq_alloc_array(m->n_weights, sizeof *c->fmt);
    c->data = lq_alloc_array(m->n_weights, sizeof *c->data);
    if (!c->fmt || !c->data) return LQ_EMEM;
    for (int i = 0; i < m->n_weights; i++) {
        c->fmt[i] = format_to_compute(a, plan, i);
        if (!c->fmt[i]) continue;
        bytes += lq_format_bytes(c->fmt[i], m->weight[i].rows * m->weight[i].cols);
        ++*n;
    }
    c->memory = lq_alloc(bytes);
    if (!c->memory) return LQ_EMEM;
    char *at = c->memory;
    for (int i = 0; i < m->n_weights; i++) {
        if (!c->fmt[i]) continue;
        c->data[i] = at;
        at += lq_format_bytes(c->fmt[i], m->weight[i].rows * m->weight[i].cols);
    }
    return LQ_OK;
}

/* Rounds every weight that changes, once. */
static lq_status convert(conversion *c, const lq_adapter *a, const lq_planned *plan) {
    lq_merge *merge = NULL;
    lq_status status = LQ_OK;
    int n = 0;
    LQ_GOTO(status, place(c, a, plan, &n));
    LQ_GOTO(status, lq_merge_new(&merge, n));
    for (int i = 0; i < a->model->n_weights; i++)
        if (c->fmt[i])
            lq_merge_add(merge, lq_adapter_job(a, i, &a->patch[i], c->fmt[i], &plan[i],
                                               c->data[i]));
    LQ_GOTO(status, lq_merge_prepare(merge));
    LQ_GOTO(status, lq_merge_run(merge));
done:
    lq_merge_free(merge);
    return status;
}

/* Tensor t of the base with the bytes that it has now: computed, effective under QAT, or the
 * base's. */
static lq_status add_tensor(lq_export *e, const lq_adapter *a, const conversion *c,
                            const lq_gguf_tensor *t) {
    const int i = lq_model_find_name(a->model, t->name);
    const lq_format *fmt = NULL;
    const void *data = NULL;
    if (i >= 0 && c->fmt) {
        fmt = c->fmt[i];
        data = c->data[i];
    } else if (i >= 0) {
        fmt = a->patch[i].fmt;
        data = a->patch[i].data;
    }
    if (!fmt)
        return lq_export_add(e, t->name, t->ggml_type, t->ndim, t->ne, t->data, t->bytes);
    const lq_weight *w = &a->model->weight[i];
    return lq_export_add(e, t->name, fmt->ggml_id, t->ndim, t->ne, data,
                         lq_format_bytes(fmt, w->rows * w->cols));
}

static lq_status write_model(const lq_adapter *a, const conversion *c, const char *path,
                             const lq_lineage_keys *keys) {
    const lq_gguf *base = a->model->file;
    lq_export e;
    LQ_TRY(lq_export_open(&e, base));
    lq_status status = lq_lineage_write(&e, a, keys);
    for (int64_t i = 0; status == LQ_OK && i < lq_gguf_n_tensors(base); i++)
        status = add_tensor(&e, a, c, lq_gguf_tensor_at(base, i));
    if (status == LQ_OK) status = lq_export_write(&e, path);
    lq_export_close(&e);
    return status;
}

static lq_status export_rounded(const lq_adapter *a, const char *path, lq_lineage_keys *keys) {
    lq_planned *plan;
    conversion c = {NULL, NULL, NULL};
    LQ_TRY(lq_type_plan_model(&plan, keys->types, a->model));
    lq_status status = convert(&c, a, plan);
    if (status == LQ_OK) status = lq_type_plan_log(plan, a->model->n_weights, path);
    if (status == LQ_OK) status = write_model(a, &c, path, keys);
    conversion_clear(&c);
    lq_free(plan);
    return status;
}

lq_status lq_export_merged(const lq_adapter *a, const char *path, const lq_mix_request *types,
                           const lq_lineage *lineage) {
    const lq_adapter_options *o = &a->options;
    const conversion none = {NULL, NULL, NULL};
    const lq_mix_request f16 = lq_mix_plain(LQ_TYPE_F16);
    lq_lineage_keys keys = {.lineage = lineage, .finetune = o->full ? "full" : "lora",
                            .types = types ? types : &f16};
    if (a->n_items == 0) keys.finetune = NULL;   /* a conversion */
    if (o->mode == LQ_QAT_SEPARATE)
        return lq_fail(LQ_EUNSUPPORTED,
                       "qat.mode separate: the adapter stays beside its quantized base; "
                       "merging would quantize again and undo the training");
    if (o->scales) {
        keys.finetune = "scales";
        keys.types = NULL;
        return types ? lq_fail(LQ_EVALUE, "adapter: scales: the model is written in the base's own "
                               "types, as it was validated") : write_model(a, &none, path, &keys);
    }
    if (o->mode == LQ_QAT_NONE) return export_rounded(a, path, &keys);
    if (types && types != o->types)
        return lq_fail(LQ_EVALUE, "the run trained for %s; its weights are written as they were "
                       "validated, not as %s", lq_mix_label(o->types), lq_mix_label(types));
    keys.finetune = "qat-lora";
    keys.qat_mode = "merged";
    keys.types = o->types;
    return write_model(a, &none, path, &keys);
}

lq_status lq_export_base(const lq_adapter *a, const char *path, const lq_mix_request *types,
                         const lq_lineage *lineage) {
    const conversion none = {NULL, NULL, NULL};
    const lq_adapter_options *o = &a->options;
    const bool separate = o->mode == LQ_QAT_SEPARATE;
    const lq_lineage_keys keys = {.lineage = lineage, .qat_mode = separate ? "separate" : NULL,
                                  .types = separate ? o->types : types};
    if (!keys.types || o->mode == LQ_QAT_MERGED || o->full)
        return lq_fail(LQ_EVALUE, "only a run with qat.mode separate or with base_quant has a "
                       "quantized base of its own");
    return write_model(a, &none, path, &keys);
}
