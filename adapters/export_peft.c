/* Writing a PEFT directory. Modules are named as in Hugging Face's tree, rows of B are in its
 * order; ranks and alphas that differ from the run's become patterns. See export_peft.h. */
#include "export_peft.h"

#include "adapter_parts.h"
#include "arch.h"
#include "atomic_file.h"
#include "hf.h"
#include "json_file.h"
#include "merge.h"
#include "safetensors.h"
#include "str.h"

#include <math.h>
#include <string.h>

static const lq_weight *weight_of(const lq_adapter *a, int i) {
    return &a->model->weight[a->item[i].weight];
}

static const char *leaf(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot ? dot + 1 : module;
}

/* ---- adapter_config.json ------------------------------------------------------------------- */

static double alpha_of(const lq_adapter *a, const lq_adapted *item) {
    const double r = item->rank;
    const double alpha = (double)item->scale * (a->options.use_rslora ? sqrt(r) : r);
    if (fabs(alpha - a->options.alpha) < 1e-5 * alpha) return a->options.alpha;
    return fabs(alpha - round(alpha)) < 1e-5 * alpha ? round(alpha) : alpha;
}

static json_t *number(double x) {
    return x == floor(x) ? json_integer((json_int_t)x) : json_real(x);
}

/* Is there an adapted weight with this leaf and layer? */
static bool has(const lq_adapter *a, const char *name, int layer) {
    for (int i = 0; i < a->n_items; i++)
        if (weight_of(a, i)->layer == layer && strcmp(leaf(weight_of(a, i)->module), name) == 0)
            return true;
    return false;
}

static bool is_adapted(const lq_adapter *a, int layer) {
    for (int i = 0; i < a->n_items; i++)
        if (weight_of(a, i)->layer == layer) return true;
    return false;
}

/* Do all adapted layers have the same modules, so that names and layers say it all? */
static bool is_regular(const lq_adapter *a) {
    for (int i = 0; i < a->n_items; i++)
        for (int layer = 0; layer < a->model->hp.n_layer; layer++)
            if (weight_of(a, i)->layer < 0 ||
                (is_adapted(a, layer) && !has(a, leaf(weight_of(a, i)->module), layer)))
                return false;
    return true;
}

/* Names of modules, each once. */
static json_t *target_names(const lq_adapter *a) {
    json_t *list = json_array();
    for (int i = 0; i < a->n_items; i++) {
        const char *name = leaf(weight_of(a, i)->module);
        bool known = false;
        for (int j = 0; j < i; j++) known |= strcmp(leaf(weight_of(a, j)->module), name) == 0;
        if (!known) json_array_append_new(list, json_string(name));
    }
    return list;
}

/* "(model\.layers\.0\.self_attn\.q_proj|...)", which PEFT matches with whole paths. */
static json_t *target_regex(const lq_adapter *a) {
    lq_str text = LQ_STR_INIT;
    for (int i = 0; i < a->n_items; i++) {
        lq_str_putc(&text, i ? '|' : '(');
        for (const char *p = weight_of(a, i)->module; *p; p++) {
            if (*p == '.') lq_str_putc(&text, '\\');
            lq_str_putc(&text, *p);
        }
    }
    lq_str_putc(&text, ')');
    json_t *regex = text.failed ? NULL : json_string(lq_str_text(&text));
    lq_str_clear(&text);
    return regex;
}

/* Null when every layer is adapted. */
static json_t *adapted_layers(const lq_adapter *a) {
    json_t *list = json_array();
    int n = 0;
    for (int layer = 0; layer < a->model->hp.n_layer; layer++) {
        if (!is_adapted(a, layer)) continue;
        json_array_append_new(list, json_integer(layer));
        n++;
    }
    if (n < a->model->hp.n_layer) return list;
    json_decref(list);
    return json_null();
}

static json_t *make_config(const lq_adapter *a, const char *base) {
    const lq_adapter_options *o = &a->options;
    const bool regular = is_regular(a);
    json_t *ranks = json_object(), *alphas = json_object();
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        const char *module = weight_of(a, i)->module;
        if (item->rank != o->r) json_object_set_new(ranks, module, json_integer(item->rank));
        if (alpha_of(a, item) != o->alpha)
            json_object_set_new(alphas, module, number(alpha_of(a, item)));
    }
    json_t *layers = regular ? adapted_layers(a) : json_null();
    json_t *pattern = json_is_null(layers) ? json_null() : json_string("layers");
    return json_pack(
        "{s:n, s:s, s:s, s:b, s:n, s:b, s:b, s:o, s:o, s:o, s:f, s:n, s:s, s:i, s:o, s:n, s:o, "
        "s:s, s:b, s:b, s:o}",
        "auto_mapping", "base_model_name_or_path", base, "bias", "none", "fan_in_fan_out", 0,
        "exclude_modules", "inference_mode", 1, "init_lora_weights", 1, "layers_pattern", pattern,
        "layers_to_transform", layers, "lora_alpha", number(o->alpha), "lora_dropout",
        (double)o->dropout, "modules_to_save", "peft_type", "LORA", "r", o->r, "rank_pattern",
        ranks, "revision", "target_modules", regular ? target_names(a) : target_regex(a),
        "task_type", "CAUSAL_LM", "use_dora", (int)o->use_dora, "use_rslora", (int)o->use_rslora,
        "alpha_pattern", alphas);
}

/* ---- adapter_model.safetensors ------------------------------------------------------------- */

typedef struct tensors {
    lq_st_tensor *t;      /* owned names */
    int64_t n;
    char *memory, *at;    /* all data */
} tensors;

/* cols 0: a vector. */
static lq_status add_part(tensors *out, const lq_weight *w, const char *part, const lq_format *type,
                          int64_t rows, int64_t cols, const float *x) {
    const int64_t n = cols ? rows * cols : rows;
    lq_st_tensor *t = &out->t[out->n];
    *t = (lq_st_tensor){.fmt = type, .ndim = cols ? 2 : 1, .dim = {rows, cols}, .data = out->at,
                        .bytes = lq_format_bytes(type, n)};
    t->name = lq_sprintf("base_model.model.%s.%s", w->module, part);
    if (!t->name) return LQ_EMEM;
    out->n++;
    if (!(lq_max_abs(x, n) <= lq_format_max(type)))
        return lq_fail(LQ_ENONFINITE, "%s: the adapter has a NaN or a value beyond what %s holds",
                       t->name, type->label);
    type->quant(x, out->at, n, NULL);
    out->at += t->bytes;
    return LQ_OK;
}

/* B, or m with rank 0, in Hugging Face's order of rows. */
static lq_status add_rows(tensors *out, const lq_model *m, const lq_weight *w, const char *part,
                          const lq_format *type, int64_t rank, const float *x) {
    const lq_hf_layout layout = lq_hf_layout_of(m, w);
    const int64_t cols = rank ? rank : 1;
    float *sorted = lq_alloc_array(w->rows * cols, sizeof *sorted);
    if (!sorted) return LQ_EMEM;
    for (int64_t row = 0; row < w->rows; row++)
        memcpy(sorted + lq_hf_row(&layout, w->rows, row) * cols, x + row * cols,
               (size_t)cols * sizeof *x);
    const lq_status status = add_part(out, w, part, type, w->rows, rank, sorted);
    lq_free(sorted);
    return status;
}

static lq_status add_all(tensors *out, const lq_adapter *a, const lq_format *type) {
    out->t = lq_alloc_array(3 * (int64_t)a->n_items, sizeof *out->t);
    out->memory = out->at = lq_alloc(lq_format_bytes(type, a->n_params));
    if (!out->t || !out->memory) return LQ_EMEM;
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        const lq_weight *w = weight_of(a, i);
        LQ_TRY(add_part(out, w, "lora_A.weight", type, item->rank, w->cols, a->param + item->a));
        LQ_TRY(add_rows(out, a->model, w, "lora_B.weight", type, item->rank, a->param + item->b));
        if (item->dora)
            LQ_TRY(add_rows(out, a->model, w, "lora_magnitude_vector", type, 0,
                            a->param + item->m));
    }
    return LQ_OK;
}

/* PEFT adapts experts as parameters of all experts together, gate and up as one: another shape. */
static lq_status refuse_experts(const lq_adapter *a) {
    lq_str list = LQ_STR_INIT;
    for (int i = 0; i < a->n_items; i++)
        if (lq_weight_is_experts(weight_of(a, i)))
            lq_str_printf(&list, "\n%s", weight_of(a, i)->module);
    lq_status status = lq_str_status(&list);
    if (status == LQ_OK && list.n)
        status = lq_fail(LQ_EUNSUPPORTED, "export.peft: adapters on experts cannot be written for "
                         "PEFT, which has gate and up in one parameter; export the adapter as GGUF "
                         "or the merged model:%s", lq_str_text(&list));
    lq_str_clear(&list);
    return status;
}

static lq_status check(const lq_adapter *a) {
    if (a->options.full || a->options.scales)
        return lq_fail(LQ_EUNSUPPORTED, "`adapter: full` or `scales` has no adapter to write");
    if (a->options.mode == LQ_QAT_MERGED)
        return lq_fail(LQ_EUNSUPPORTED, "export.peft: qat.mode merged trains Q(W + s B A); A and B "
                       "beside W are another model than the one validated");
    if (a->options.mode == LQ_QAT_SEPARATE && a->taken)
        return lq_fail(LQ_EUNSUPPORTED, "export.peft: with qat.mode separate and "
                       "init_lora_weights: pissa the adapter fits only the exported base, from "
                       "which a part was taken");
    if (a->options.mode == LQ_QAT_SEPARATE)
        lq_log(LQ_LOG_WARN, "the PEFT adapter was trained on the quantized base; beside other "
                            "weights it is another model than the one validated");
    if (!lq_hf_class(a->model->arch->name))
        return lq_fail(LQ_EUNSUPPORTED, "export.peft: Hugging Face's names of architecture %s are "
                       "not known", a->model->arch->name);
    if (a->n_items == 0) return lq_fail(LQ_EVALUE, "the adapter is empty");
    return refuse_experts(a);
}

static lq_status export_peft(const lq_adapter *a, const char *dir, const lq_format *type,
                             const char *base) {
    tensors out = {NULL, 0, NULL, NULL};
    lq_status status;
    char *config = lq_path_join(dir, "adapter_config.json");
    char *weights = lq_path_join(dir, "adapter_model.safetensors");
    LQ_GOTO(status, config && weights ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_make_dirs(dir));
    LQ_GOTO(status, add_all(&out, a, type));
    LQ_GOTO(status, lq_safetensors_write(weights, out.t, out.n));
    status = lq_json_write(config, make_config(a, base));
done:
    for (int64_t i = 0; i < out.n; i++) lq_free(out.t[i].name);
    lq_free(out.t);
    lq_free(out.memory);
    lq_free(config);
    lq_free(weights);
    return status;
}

lq_status lq_export_peft(const lq_adapter *a, const char *dir, const lq_format *type,
                         const char *base) {
    lq_adapter *difference;
    LQ_TRY(check(a));
    if (!a->taken) return export_peft(a, dir, type, base);
    LQ_TRY(lq_adapter_difference(&difference, a));
    const lq_status status = export_peft(difference, dir, type, base);
    lq_adapter_free(difference);
    return status;
}
