/* Writing a PEFT directory. Modules are named as in Hugging Face's tree, rows of B are in its
 * order; ranks and alphas that differ from the run's become patterns. Experts' parameters are in
 * export_peft_experts.c. See export_peft.h. */
#include "export_peft.h"

#include "adapter_parts.h"
#include "arch.h"
#include "atomic_file.h"
#include "export_peft_parts.h"
#include "hf.h"
#include "json_file.h"
#include "merge.h"
#include "str.h"

#include <math.h>
#include <string.h>

static const lq_weight *weight_of(const lq_adapter *a, int i) {
    return &a->model->weight[a->item[i].weight];
}

/* Something that target_modules can name: transformers has experts and routers as parameters. */
static bool is_module(const lq_adapter *a, int i) {
    const lq_weight *w = weight_of(a, i);
    return !lq_weight_is_experts(w) && w->role != LQ_ROLE_ROUTER;
}

static const char *leaf(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot ? dot + 1 : module;
}

/* ---- adapter_config.json ------------------------------------------------------------------- */

static json_t *number(double x) {
    return x == floor(x) ? json_integer((json_int_t)x) : json_real(x);
}

void lq_peft_set_patterns(json_t *ranks, json_t *alphas, const lq_adapter *a, const char *path,
                          int rank, double scale) {
    const double exact = scale * (a->options.use_rslora ? sqrt(rank) : rank);
    const double near = 1e-5 * exact, usual = a->options.alpha;
    const double alpha = fabs(exact - usual) < near            ? usual
                         : fabs(exact - round(exact)) < near ? round(exact)
                                                             : exact;
    if (rank != a->options.r) json_object_set_new(ranks, path, json_integer(rank));
    if (alpha != a->options.alpha) json_object_set_new(alphas, path, number(alpha));
}

/* Is there an adapted weight with this leaf and layer? */
static bool has(const lq_adapter *a, const char *name, int layer) {
    for (int i = 0; i < a->n_items; i++)
        if (is_module(a, i) && weight_of(a, i)->layer == layer &&
            strcmp(leaf(weight_of(a, i)->module), name) == 0)
            return true;
    return false;
}

static bool is_adapted(const lq_adapter *a, int layer) {
    for (int i = 0; i < a->n_items; i++)
        if (is_module(a, i) && weight_of(a, i)->layer == layer) return true;
    return false;
}

/* Do all adapted layers have the same modules, so that names and layers say it all? */
static bool is_regular(const lq_adapter *a) {
    for (int i = 0; i < a->n_items; i++)
        for (int layer = 0; is_module(a, i) && layer < a->model->hp.n_layer; layer++)
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
        bool known = !is_module(a, i);
        for (int j = 0; j < i; j++) known |= strcmp(leaf(weight_of(a, j)->module), name) == 0;
        if (!known) json_array_append_new(list, json_string(name));
    }
    return list;
}

/* "(model\.layers\.0\.self_attn\.q_proj|...)", which PEFT matches with whole paths. */
static json_t *target_regex(const lq_adapter *a) {
    lq_str text = LQ_STR_INIT;
    for (int i = 0; i < a->n_items; i++) {
        if (!is_module(a, i)) continue;
        lq_str_putc(&text, text.n ? '|' : '(');
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
    if (n && n < a->model->hp.n_layer) return list;
    json_decref(list);
    return json_null();
}

static json_t *make_config(const lq_adapter *a, const char *base) {
    const lq_adapter_options *o = &a->options;
    const bool regular = is_regular(a);
    json_t *ranks = json_object(), *alphas = json_object();
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        if (is_module(a, i))
            lq_peft_set_patterns(ranks, alphas, a, weight_of(a, i)->module, item->rank,
                                 (double)item->scale);
    }
    json_t *parameters = lq_peft_parameters(ranks, alphas, a);
    const double dropout = json_is_null(parameters) ? (double)o->dropout : 0;   /* PEFT wants 0 */
    json_t *layers = regular ? adapted_layers(a) : json_null();
    json_t *pattern = json_is_null(layers) ? json_null() : json_string("layers");
    return json_pack(
        "{s:n, s:s, s:s, s:b, s:n, s:b, s:b, s:o, s:o, s:o, s:f, s:n, s:s, s:i, s:o, s:n, s:o, "
        "s:o, s:s, s:b, s:b, s:o}",
        "auto_mapping", "base_model_name_or_path", base, "bias", "none", "fan_in_fan_out", 0,
        "exclude_modules", "inference_mode", 1, "init_lora_weights", 1, "layers_pattern", pattern,
        "layers_to_transform", layers, "lora_alpha", number(o->alpha), "lora_dropout",
        dropout, "modules_to_save", "peft_type", "LORA", "r", o->r, "rank_pattern",
        ranks, "revision", "target_modules", regular ? target_names(a) : target_regex(a),
        "target_parameters", parameters, "task_type", "CAUSAL_LM", "use_dora", (int)o->use_dora,
        "use_rslora", (int)o->use_rslora, "alpha_pattern", alphas);
}

/* ---- adapter_model.safetensors ------------------------------------------------------------- */

lq_status lq_peft_put(lq_peft_written *out, const char *module, const char *part, int64_t rows,
                      int64_t cols, const float *x) {
    const int64_t n = cols ? rows * cols : rows;
    LQ_TRY(lq_reserve((void **)&out->t, &out->cap, out->n + 1, sizeof *out->t));
    lq_st_tensor *t = &out->t[out->n++];
    void *data = lq_alloc(lq_format_bytes(out->type, n));
    *t = (lq_st_tensor){.fmt = out->type, .ndim = cols ? 2 : 1, .dim = {rows, cols}, .data = data,
                        .bytes = lq_format_bytes(out->type, n)};
    t->name = lq_sprintf("base_model.model.%s.%s", module, part);
    if (!t->name || !data) return LQ_EMEM;
    if (!(lq_max_abs(x, n) <= lq_format_max(out->type)))
        return lq_fail(LQ_ENONFINITE, "%s: the adapter has a NaN or a value beyond what %s holds",
                       t->name, out->type->label);
    out->type->quant(x, data, n, NULL);
    return LQ_OK;
}

/* B, or m with rank 0, in Hugging Face's order of rows. */
static lq_status put_rows(lq_peft_written *out, const lq_model *m, const lq_weight *w,
                          const char *part, int64_t rank, const float *x) {
    const lq_hf_layout layout = lq_hf_layout_of(m, w);
    const int64_t cols = rank ? rank : 1;
    float *sorted = lq_alloc_array(w->rows * cols, sizeof *sorted);
    if (!sorted) return LQ_EMEM;
    for (int64_t row = 0; row < w->rows; row++)
        memcpy(sorted + lq_hf_row(&layout, w->rows, row) * cols, x + row * cols,
               (size_t)cols * sizeof *x);
    const lq_status status = lq_peft_put(out, w->module, part, w->rows, rank, sorted);
    lq_free(sorted);
    return status;
}

static lq_status put_all(lq_peft_written *out, const lq_adapter *a) {
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        const lq_weight *w = weight_of(a, i);
        if (lq_weight_is_experts(w)) continue;
        LQ_TRY(lq_peft_put(out, w->module, "lora_A.weight", item->rank, w->cols,
                           a->param + item->a));
        LQ_TRY(put_rows(out, a->model, w, "lora_B.weight", item->rank, a->param + item->b));
        if (item->dora)
            LQ_TRY(put_rows(out, a->model, w, "lora_magnitude_vector", 0, a->param + item->m));
    }
    return lq_peft_put_experts(out, a);
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
    return LQ_OK;
}

static lq_status export_peft(const lq_adapter *a, const char *dir, const lq_format *type,
                             const char *base) {
    lq_peft_written out = {.type = type};
    lq_status status;
    char *config = lq_path_join(dir, "adapter_config.json");
    char *weights = lq_path_join(dir, "adapter_model.safetensors");
    LQ_GOTO(status, config && weights ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_make_dirs(dir));
    LQ_GOTO(status, put_all(&out, a));
    LQ_GOTO(status, lq_safetensors_write(weights, out.t, out.n));
    status = lq_json_write(config, make_config(a, base));
done:
    for (int64_t i = 0; i < out.n; i++) {
        lq_free(out.t[i].name);
        lq_free((void *)out.t[i].data);
    }
    lq_free(out.t);
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
