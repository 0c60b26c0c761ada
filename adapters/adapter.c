/* An adapter's life: options checked and copied, items laid out in one span, gradients hung in.
 * Matching is in targets.c, first values in init.c, effective weights in pack.c, files in
 * adapter_load.c. */
#include "adapter.h"

#include "adapter_parts.h"
#include "targets.h"

#include <math.h>
#include <string.h>

/* ---- options --------------------------------------------------------------------------------- */

/* A NULL-terminated list and its strings in one allocation. */
static lq_status copy_names(const char *const **out, const char *const *names) {
    *out = NULL;
    if (!names) return LQ_OK;
    size_t n = 0, bytes = 0;
    for (; names[n]; n++) bytes += strlen(names[n]) + 1;
    char **copy = lq_alloc((n + 1) * sizeof *copy + bytes);
    if (!copy) return LQ_EMEM;
    char *text = (char *)(copy + n + 1);
    for (size_t i = 0; i < n; i++) {
        copy[i] = text;
        text = stpcpy(text, names[i]) + 1;
    }
    *out = (const char *const *)copy;
    return LQ_OK;
}

static lq_status copy_patterns(const lq_pattern **out, const lq_pattern *patterns, int n) {
    size_t bytes = 0;
    for (int i = 0; i < n; i++) bytes += strlen(patterns[i].key) + 1;
    lq_pattern *copy = lq_alloc((size_t)n * sizeof *copy + bytes);
    if (!copy) return LQ_EMEM;
    char *text = (char *)(copy + n);
    for (int i = 0; i < n; i++) {
        copy[i] = (lq_pattern){text, patterns[i].value};
        text = stpcpy(text, patterns[i].key) + 1;
    }
    *out = copy;
    return LQ_OK;
}

static lq_status copy_layers(const int **out, const int *layers, int n) {
    int *copy = lq_alloc_array(n, sizeof *copy);
    if (!copy) return LQ_EMEM;
    if (n) memcpy(copy, layers, (size_t)n * sizeof *copy);
    *out = copy;
    return LQ_OK;
}

/* The table's own spelling; NULL: unknown. Not given, or "true" as in PEFT: the default. */
static const char *init_name(const char *name) {
    static const char *const names[] = {"default", "gaussian", "pissa", "loftq", "qera"};
    if (!name || strcmp(name, "true") == 0) return names[0];
    for (int i = 0; i < LQ_ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0) return names[i];
    return NULL;
}

static lq_status copy_options(lq_adapter_options *copy, const lq_adapter_options *o) {
    *copy = *o;
    copy->targets = copy->exclude = NULL;
    copy->layers = NULL;
    copy->rank_pattern = copy->alpha_pattern = NULL;
    copy->init = init_name(o->init);
    LQ_TRY(copy_names(&copy->targets, o->targets));
    LQ_TRY(copy_names(&copy->exclude, o->exclude));
    LQ_TRY(copy_layers(&copy->layers, o->layers, o->n_layers));
    LQ_TRY(copy_patterns(&copy->rank_pattern, o->rank_pattern, o->n_rank_pattern));
    return copy_patterns(&copy->alpha_pattern, o->alpha_pattern, o->n_alpha_pattern);
}

static void free_options(lq_adapter_options *o) {
    lq_free((void *)o->targets);
    lq_free((void *)o->exclude);
    lq_free((void *)o->layers);
    lq_free((void *)o->rank_pattern);
    lq_free((void *)o->alpha_pattern);
}

static lq_status check_qat(const lq_adapter_options *o) {
    if (o->mode == LQ_QAT_NONE) return LQ_OK;
    if (o->scales)
        return lq_fail(LQ_EUNSUPPORTED, "adapter: scales cannot be combined with qat: the base's "
                       "codes stay as they are");
    if (o->full)
        return lq_fail(LQ_EUNSUPPORTED,
                       "adapter: full cannot be combined with qat: every weight is "
                       "trained in F32; export it, then fine-tune that file with qat");
    if (!o->types) return lq_fail(LQ_ECONFIG, "qat.weight_dtype is missing");
    if (o->mode == LQ_QAT_MERGED && o->dropout > 0)
        return lq_fail(LQ_ECONFIG,
                       "lora_dropout is %g: with qat.mode merged there is no separate A "
                       "path to drop from; set it to 0",
                       (double)o->dropout);
    return LQ_OK;
}

static lq_status check_dora(const lq_adapter_options *o) {
    if (!o->use_dora) return LQ_OK;
    if (o->mode == LQ_QAT_SEPARATE)
        return lq_fail(LQ_EUNSUPPORTED,
                       "use_dora is not possible with qat.mode separate: the runtime adds s B A to "
                       "the quantized base's products and knows no magnitudes; use qat.mode "
                       "merged");
    if (o->dropout > 0)
        return lq_fail(LQ_ECONFIG, "lora_dropout is %g: with use_dora base and adapter are scaled "
                       "together and read the same input; set it to 0", (double)o->dropout);
    if (o->clipped)
        return lq_fail(LQ_ECONFIG, "qat.ste: clipped is not possible with use_dora");
    return LQ_OK;
}

static lq_status check_init(const lq_adapter_options *o) {
    const char *name = init_name(o->init);
    if (!name)
        return lq_fail(LQ_ECONFIG,
                       "init_lora_weights is '%s', wanted default, gaussian, pissa, loftq or qera",
                       o->init);
    if (o->use_dora && strcmp(name, "pissa") == 0)
        return lq_fail(LQ_EUNSUPPORTED, "init_lora_weights: pissa is not possible with use_dora: "
                       "what it takes from W would have to be scaled with the rows");
    const bool qera = strcmp(name, "qera") == 0;
    if ((qera || strcmp(name, "loftq") == 0) && o->mode != LQ_QAT_SEPARATE)
        return lq_fail(LQ_ECONFIG, "init_lora_weights: %s corrects a quantized base: it needs "
                       "qat.mode separate", name);
    if (qera && !o->types->imatrix)
        return lq_fail(LQ_ECONFIG, "init_lora_weights: qera weighs columns by their activations: "
                       "it needs qat.imatrix");
    return LQ_OK;
}

static lq_status check_options(const lq_adapter_options *o) {
    LQ_TRY(check_qat(o));
    if (o->full || o->scales) return LQ_OK;
    if (o->r < 1) return lq_fail(LQ_ECONFIG, "lora_r is %d, wanted at least 1", o->r);
    if (!(o->alpha > 0) || !isfinite(o->alpha))
        return lq_fail(LQ_ECONFIG, "lora_alpha is %g, wanted a positive number", o->alpha);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return lq_fail(LQ_ECONFIG, "lora_dropout is %g, wanted 0 <= p < 1", (double)o->dropout);
    LQ_TRY(check_dora(o));
    return check_init(o);
}

/* Does the initialisation move a part of W into the adapter? */
static bool takes_part(const lq_adapter_options *o) {
    return o->init && strcmp(o->init, "pissa") == 0 && !o->full && !o->scales;
}

/* ---- items and span -------------------------------------------------------------------------- */

lq_status lq_adapter_alloc(lq_adapter **out, const lq_model *m) {
    lq_adapter *a = lq_alloc(sizeof *a);
    *out = a;
    if (!a) return LQ_EMEM;
    a->model = m;
    a->item = lq_alloc_array(m->n_weights, sizeof *a->item);
    a->patch = lq_alloc_array(m->n_weights, sizeof *a->patch);
    return a->item && a->patch ? LQ_OK : LQ_EMEM;
}

static lq_status check_pattern(const char *option, const char *name, double value, bool whole) {
    if (isfinite(value) && value > 0 && value < 1 << 20 && (!whole || value == floor(value)))
        return LQ_OK;
    return lq_fail(LQ_ECONFIG, "%s: %g for %s, wanted a positive %s", option, value, name,
                   whole ? "whole number" : "number");
}

static lq_status check_target(const lq_adapter_options *o, const lq_weight *w, double rank,
                              double alpha) {
    LQ_TRY(check_pattern("lora_rank_pattern", w->name, rank, true));
    LQ_TRY(check_pattern("lora_alpha_pattern", w->name, alpha, false));
    if (o->use_dora && (lq_weight_is_experts(w) || lq_weight_is_router(w)))
        return lq_fail(LQ_EUNSUPPORTED, "use_dora is not possible on %s: experts and their routers "
                       "take plain LoRA only", w->name);
    if (takes_part(o) && (lq_weight_is_experts(w) || lq_weight_is_router(w)))
        return lq_fail(LQ_EUNSUPPORTED, "init_lora_weights: pissa is not possible on %s: experts "
                       "and their routers take plain LoRA only; take them out of "
                       "lora_target_modules", w->name);
    return LQ_OK;
}

static lq_status add_lora_items(lq_adapter *a) {
    const lq_adapter_options *o = &a->options;
    const lq_model *m = a->model;
    lq_status status = LQ_OK;
    bool *chosen = lq_alloc_array(m->n_weights, sizeof *chosen);
    double *rank = lq_alloc_array(m->n_weights, sizeof *rank);
    double *alpha = lq_alloc_array(m->n_weights, sizeof *alpha);
    LQ_GOTO(status, chosen && rank && alpha ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_targets_choose(chosen, m, o));
    LQ_GOTO(status, lq_targets_pattern(rank, m, chosen, "lora_rank_pattern", o->rank_pattern,
                                       o->n_rank_pattern, o->r));
    LQ_GOTO(status, lq_targets_pattern(alpha, m, chosen, "lora_alpha_pattern", o->alpha_pattern,
                                       o->n_alpha_pattern, o->alpha));
    for (int i = 0; i < m->n_weights; i++) {
        if (!chosen[i]) continue;
        LQ_GOTO(status, check_target(o, &m->weight[i], rank[i], alpha[i]));
        const double scale = alpha[i] / (o->use_rslora ? sqrt(rank[i]) : rank[i]);
        a->item[a->n_items++] = (lq_adapted){
            .weight = i, .rank = (int)rank[i], .scale = (float)scale, .dora = o->use_dora};
    }
done:
    lq_free(chosen);
    lq_free(rank);
    lq_free(alpha);
    return status;
}

static lq_status add_scale_items(lq_adapter *a) {
    const lq_model *m = a->model;
    bool *chosen = lq_alloc_array(m->n_weights, sizeof *chosen);
    lq_status status = chosen ? lq_targets_choose(chosen, m, &a->options) : LQ_EMEM;
    for (int i = 0; status == LQ_OK && i < m->n_weights; i++) {
        if (!chosen[i]) continue;
        status = lq_scales_check(&m->weight[i]);
        a->item[a->n_items++] = (lq_adapted){.weight = i, .scale = 1};
    }
    lq_free(chosen);
    return status;
}

/* Everything that has a gradient: all but the fixed factors of the rotary embedding. */
static void add_full_items(lq_adapter *a) {
    for (int i = 0; i < a->model->n_weights; i++)
        if (!lq_weight_is_constant(&a->model->weight[i]))
            a->item[a->n_items++] = (lq_adapted){.weight = i, .scale = 1};
}

/* All A (or whole weights) first, then all B and all m: LoRA+ gives these a rate of their own.
 * Returns how many magnitudes there are. */
static int64_t set_offsets(lq_adapter *a) {
    int64_t n = 0, first_m;
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &a->model->weight[a->item[i].weight];
        a->item[i].a = n;
        n += a->options.scales
                 ? lq_scales_count(w)
                 : (a->item[i].rank ? a->item[i].rank * w->n_mats : w->rows) * w->cols;
    }
    for (int i = 0; i < a->n_items; i++) {
        a->item[i].b = n;
        n += a->item[i].rank * a->model->weight[a->item[i].weight].rows;
    }
    first_m = n;
    for (int i = 0; i < a->n_items; i++) {
        if (!a->item[i].dora) continue;
        a->item[i].m = n;
        n += a->model->weight[a->item[i].weight].rows;
    }
    a->n_params = n;
    return n - first_m;
}

lq_status lq_adapter_lay_out(lq_adapter *a) {
    const int64_t n_magnitudes = set_offsets(a), first_m = a->n_params - n_magnitudes;
    a->param = lq_alloc_array(a->n_params, sizeof *a->param);
    if (!a->param) return LQ_EMEM;
    a->n_norms = n_magnitudes;
    if (takes_part(&a->options)) a->taken = lq_alloc_array(a->n_params, sizeof *a->taken);
    if (takes_part(&a->options) && !a->taken) return LQ_EMEM;
    if (n_magnitudes) a->norm = lq_alloc_array(n_magnitudes, sizeof *a->norm);
    if (n_magnitudes && !a->norm) return LQ_EMEM;
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        lq_patch *patch = &a->patch[item->weight];
        if (a->options.scales) {
            patch->d = a->param + item->a;
            continue;
        }
        if (item->rank == 0) {
            patch->full = true;
            patch->w = a->param + item->a;
            continue;
        }
        patch->rank = item->rank;
        patch->scale = item->scale;
        patch->dropout = a->options.dropout;
        patch->a = a->param + item->a;
        patch->b = a->param + item->b;
        if (a->taken) {
            patch->a0 = a->taken + item->a;
            patch->b0 = a->taken + item->b;
        }
        if (!item->dora) continue;
        patch->m = a->param + item->m;
        patch->norm = a->norm + (item->m - first_m);
    }
    return LQ_OK;
}

lq_status lq_adapter_new(lq_adapter **out, const lq_model *m, const lq_adapter_options *options,
                         bool plan_only) {
    lq_adapter *a = NULL;
    lq_status status = LQ_OK;
    *out = NULL;
    LQ_GOTO(status, check_options(options));
    LQ_GOTO(status, lq_adapter_alloc(&a, m));
    LQ_GOTO(status, copy_options(&a->options, options));
    if (options->full) add_full_items(a);
    else if (options->scales) LQ_GOTO(status, add_scale_items(a));
    else LQ_GOTO(status, add_lora_items(a));
    LQ_GOTO(status, lq_adapter_lay_out(a));
    if (!plan_only) lq_adapter_initialise(a);
    if (!plan_only && a->taken) LQ_GOTO(status, lq_adapter_start_as_weight(a));
    if (!plan_only) LQ_GOTO(status, lq_adapter_start_magnitudes(a));
    LQ_GOTO(status, lq_adapter_pack(a, plan_only));
    lq_log(plan_only ? LQ_LOG_DEBUG : LQ_LOG_INFO,
           "adapter: %d weights, %lld parameters trained (%.2f %% of the model's)", a->n_items,
           (long long)a->n_params,
           100.0 * (double)a->n_params / (double)lq_model_n_params(m));
    *out = a;
    a = NULL;
done:
    lq_adapter_free(a);
    return status;
}

void lq_adapter_free(lq_adapter *a) {
    if (!a) return;
    lq_adapter_leave(a);
    free_options(&a->options);
    lq_merge_free(a->merge);
    lq_free(a->watched);
    lq_free(a->item);
    lq_free(a->patch);
    lq_free(a->param);
    lq_free(a->grad);
    lq_free(a->taken);
    lq_free(a->packed);
    lq_free(a->norm);
    lq_free(a->clipped);
    lq_free(a);
}

lq_status lq_adapter_train(lq_adapter *a) {
    if (!a->grad) a->grad = lq_alloc_array(a->n_params, sizeof *a->grad);
    if (!a->grad) return LQ_EMEM;
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        lq_patch *patch = &a->patch[item->weight];
        if (patch->d) {
            patch->dd = a->grad + item->a;
        } else if (patch->full) {
            patch->dw = a->grad + item->a;
        } else {
            patch->da = a->grad + item->a;
            patch->db = a->grad + item->b;
            if (item->dora) patch->dm = a->grad + item->m;
        }
    }
    return LQ_OK;
}
