/* The adapter alone, as llama.cpp's --lora reads it. The file has one alpha and the runtime
 * multiplies by alpha / rank(tensor). So alpha = s r of the first item, and an item whose s r
 * differs (alpha patterns, rsLoRA with several ranks) has its B multiplied by its own s r / alpha.
 * Rows are in the base file's order, which is GGUF's: nothing is permuted. */
#include "export.h"

#include "adapter_parts.h"
#include "base_stamp.h"
#include "lineage_keys.h"

#include <string.h>

static float alpha_of(const lq_adapted *item) {
    return (float)((double)item->scale * item->rank);
}

/* Writes n numbers times `factor` in `type`. */
static lq_status convert(void *out, const lq_format *type, const float *x, int64_t n, float factor,
                         const char *name) {
    float *scaled = lq_alloc_array(n, sizeof *scaled);
    if (!scaled) return LQ_EMEM;
    for (int64_t i = 0; i < n; i++) scaled[i] = factor * x[i];
    const bool fits = lq_max_abs(scaled, n) <= lq_format_max(type);
    if (fits) type->quant(scaled, out, n, NULL);
    lq_free(scaled);
    if (fits) return LQ_OK;
    return lq_fail(LQ_ENONFINITE, "%s: the adapter has a NaN or a value beyond what %s holds", name,
                   type->label);
}

static lq_status add_half(lq_export *e, const lq_weight *w, const char *suffix,
                          const lq_format *type, int64_t ne0, int64_t ne1, const float *x,
                          float factor, char **at) {
    const int64_t ne[] = {ne0, ne1, w->n_mats}, n = ne0 * ne1 * w->n_mats;
    const size_t bytes = lq_format_bytes(type, n);
    lq_status status = LQ_OK;
    char *name = lq_sprintf("%s%s", w->name, suffix);
    LQ_GOTO(status, name ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, convert(*at, type, x, n, factor, name));
    LQ_GOTO(status, lq_export_add(e, name, type->ggml_id, w->n_mats > 1 ? 3 : 2, ne, *at, bytes));
    *at += bytes;
done:
    lq_free(name);
    return status;
}

static lq_status add_tensors(lq_export *e, const lq_adapter *a, const lq_format *type,
                             char *memory) {
    const float alpha = alpha_of(&a->item[0]);
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        const lq_weight *w = &a->model->weight[item->weight];
        const float *half_a = a->param + item->a, *half_b = a->param + item->b;
        const float factor = alpha_of(item) / alpha;
        LQ_TRY(add_half(e, w, ".lora_a", type, w->cols, item->rank, half_a, 1, &memory));
        LQ_TRY(add_half(e, w, ".lora_b", type, item->rank, w->rows / w->n_mats, half_b, factor,
                        &memory));
    }
    return LQ_OK;
}

static lq_status add_keys(lq_export *e, const lq_adapter *a, const lq_lineage *lineage) {
    const lq_lineage_keys keys = {
        .lineage = lineage,
        .finetune = a->options.mode == LQ_QAT_SEPARATE ? "qat-lora" : "lora",
        .qat_mode = a->options.mode == LQ_QAT_SEPARATE ? "separate" : NULL,
    };
    char *arch = NULL;
    lq_base_stamp stamp = {"", LQ_STR_INIT};
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_gguf_get_string(a->model->file, "general.architecture", true, &arch));
    LQ_GOTO(status, lq_base_stamp_make(&stamp, a->model, a->patch));
    LQ_GOTO(status, lq_export_string(e, "general.type", "adapter"));
    LQ_GOTO(status, lq_export_string(e, "general.architecture", arch));
    LQ_GOTO(status, lq_export_string(e, "adapter.type", "lora"));
    LQ_GOTO(status, lq_export_f32(e, "adapter.lora.alpha", alpha_of(&a->item[0])));
    LQ_GOTO(status, lq_lineage_write(e, a, &keys));
    LQ_GOTO(status, lq_export_string(e, LQ_STAMP_SHA256, stamp.sha256));
    LQ_GOTO(status, lq_export_string(e, LQ_STAMP_TYPES, lq_str_text(&stamp.types)));
done:
    lq_base_stamp_clear(&stamp);
    lq_free(arch);
    return status;
}

static lq_status check(const lq_adapter *a, const lq_format *type) {
    if (a->options.full || a->options.scales)
        return lq_fail(LQ_EUNSUPPORTED,
                       "`adapter: full` or `scales` has no adapter to write; export the model");
    if (a->options.mode == LQ_QAT_MERGED)
        return lq_fail(LQ_EUNSUPPORTED,
                       "qat.mode merged trains Q(W + s B A); beside Q(W) the same A and B are "
                       "another model than the one validated; export the merged model, or train "
                       "with qat.mode separate");
    if (a->norm)
        return lq_fail(LQ_EUNSUPPORTED,
                       "a DoRA adapter scales the rows of W + s B A to its magnitudes, which "
                       "llama.cpp's --lora does not do; export the merged model or PEFT's form");
    if (a->n_items == 0) return lq_fail(LQ_EVALUE, "the adapter is empty");
    if (type != &lq_f32 && type != &lq_f16 && type != &lq_bf16)
        return lq_fail(LQ_EUNSUPPORTED, "an adapter is written as F32, F16 or BF16, not as %s",
                       type->label);
    return LQ_OK;
}

static lq_status export_lora(const lq_adapter *a, const char *path, const lq_format *type,
                             const lq_lineage *lineage) {
    lq_export e;
    char *memory = lq_alloc(lq_format_bytes(type, a->n_params));
    if (!memory) return LQ_EMEM;
    lq_status status = lq_export_open(&e, NULL);
    if (status == LQ_OK) status = add_keys(&e, a, lineage);
    if (status == LQ_OK) status = add_tensors(&e, a, type, memory);
    if (status == LQ_OK) status = lq_export_write(&e, path);
    lq_export_close(&e);
    lq_free(memory);
    return status;
}

/* Beside a base of its own (separate) an adapter is written as it is. */
lq_status lq_export_lora(const lq_adapter *a, const char *path, const lq_format *type,
                         const lq_lineage *lineage) {
    lq_adapter *difference;
    LQ_TRY(check(a, type));
    if (!a->taken || a->options.mode == LQ_QAT_SEPARATE)
        return export_lora(a, path, type, lineage);
    LQ_TRY(lq_adapter_difference(&difference, a));
    const lq_status status = export_lora(difference, path, type, lineage);
    lq_adapter_free(difference);
    return status;
}
