/* Adapters on experts as PEFT has them (layouts: peft_experts.c): one for the parameter
 * gate_up_proj, one for down_proj. Adapters on gate and up become one of both ranks together,
 *
 *     A = [A_gate; A_up],  B = [[B_gate, 0], [0, B_up]]. */
#include "export_peft_parts.h"
#include "str.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 128 };

/* The adapter on one parameter of one layer. */
typedef struct parameter {
    const lq_adapted *item[2];    /* gate and up, or down; NULL: not adapted */
    const lq_weight *w[2];        /* of the same; both known */
    int n, rank;                  /* parts; all their ranks */
    float scale;                  /* of the first that is adapted */
    char module[PATH_BYTES];      /* "model.layers.0.mlp.experts" */
    char path[PATH_BYTES + 16];   /* ".gate_up_proj" behind it */
    const char *end;              /* of the path: "experts.gate_up_proj" */
} parameter;

enum { GATE_UP, DOWN, ROUTER };
static const struct { const char *leaf; lq_role role[2]; int n; } parameters[] = {
    [GATE_UP] = {"gate_up_proj", {LQ_ROLE_EXPERTS_GATE, LQ_ROLE_EXPERTS_UP}, 2},
    [DOWN] = {"down_proj", {LQ_ROLE_EXPERTS_DOWN}, 1},
    [ROUTER] = {"gate.weight", {LQ_ROLE_ROUTER}, 1},   /* its tensors are as a module's */
};

static const lq_adapted *find_item(const lq_adapter *a, int weight) {
    for (int i = 0; i < a->n_items; i++)
        if (a->item[i].weight == weight) return &a->item[i];
    return NULL;
}

/* False: it has no adapter. */
static bool find(parameter *p, const lq_adapter *a, int which, int layer) {
    *p = (parameter){.n = parameters[which].n};
    for (int i = 0; i < p->n; i++) {
        const int weight = lq_model_find(a->model, parameters[which].role[i], layer, false);
        if (weight < 0) return false;
        p->w[i] = &a->model->weight[weight];
        p->item[i] = find_item(a, weight);
        if (!p->item[i]) continue;
        if (!p->rank) p->scale = p->item[i]->scale;
        p->rank += p->item[i]->rank;
    }
    const char *const module = p->w[0]->module;
    snprintf(p->module, sizeof p->module, "%.*s", (int)(strrchr(module, '.') - module), module);
    snprintf(p->path, sizeof p->path, "%s.%s", p->module, parameters[which].leaf);
    p->end = strrchr(p->module, '.') - p->module + p->path + 1;
    return p->rank > 0;
}

/* ---- adapter_config.json ------------------------------------------------------------------- */

/* Have all layers the same? Else they are listed: PEFT knows no layers of parameters. */
static bool is_uniform(const lq_adapter *a, int which) {
    parameter first, p;
    for (int layer = 0; layer < a->model->hp.n_layer; layer++) {
        if (!find(&p, a, which, layer)) return false;
        if (layer == 0) first = p;
        else if (p.rank != first.rank || p.scale != first.scale) return false;
    }
    return true;
}

json_t *lq_peft_parameters(json_t *ranks, json_t *alphas, const lq_adapter *a) {
    parameter p;
    json_t *list = json_array();
    for (int which = 0; which < LQ_ARRAY_LEN(parameters); which++) {
        const bool once = is_uniform(a, which);
        for (int layer = 0; layer < (once ? 1 : a->model->hp.n_layer); layer++) {
            if (!find(&p, a, which, layer)) continue;
            const char *name = once ? p.end : p.path;
            json_array_append_new(list, json_string(name));
            lq_peft_set_patterns(ranks, alphas, a, name, p.rank, (double)p.scale);
        }
    }
    if (!list || json_array_size(list)) return list;
    json_decref(list);
    return json_null();
}

/* ---- tensors ------------------------------------------------------------------------------- */

/* Of every expert the ranks of all parts, one after the other. */
static void fill_a(float *out, const parameter *p, const lq_adapter *a) {
    const int64_t E = p->w[0]->n_mats, D = p->w[0]->cols;
    for (int64_t e = 0; e < E; e++)
        for (int i = 0; i < p->n; i++) {
            if (!p->item[i]) continue;
            const int64_t n = p->item[i]->rank * D;
            memcpy(out, a->param + p->item[i]->a + e * n, (size_t)n * sizeof *out);
            out += n;
        }
}

static void fill_b(float *out, const parameter *p, const lq_adapter *a) {
    const int64_t E = p->w[0]->n_mats;
    int64_t row = 0, k = 0;
    for (int i = 0; i < p->n; i++) {
        const int64_t rows = p->w[i]->rows / E, R = p->item[i] ? p->item[i]->rank : 0;
        const float *b = R ? a->param + p->item[i]->b : NULL;
        const float factor = R ? p->item[i]->scale / p->scale : 1;
        for (int64_t e = 0; e < E; e++)
            for (int64_t o = 0; o < rows; o++)
                for (int64_t r = 0; r < R; r++)
                    out[((row + o) * p->rank + k + r) * E + e] =
                        factor * b[(e * rows + o) * R + r];
        row += rows;
        k += R;
    }
}

static lq_status put(lq_peft_written *out, const parameter *p, const char *module,
                     const lq_adapter *a) {
    const int64_t width = p->rank * p->w[0]->n_mats, cols = p->w[0]->cols;
    int64_t rows = 0;
    for (int i = 0; i < p->n; i++) rows += p->w[i]->rows / p->w[i]->n_mats;
    float *all_a = lq_alloc_array(width * cols, sizeof *all_a);
    float *all_b = lq_alloc_array(rows * width, sizeof *all_b);
    lq_status status = all_a && all_b ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK) {
        fill_a(all_a, p, a);
        fill_b(all_b, p, a);
        status = lq_peft_put(out, module, "lora_A.weight", width, cols, all_a);
    }
    if (status == LQ_OK) status = lq_peft_put(out, module, "lora_B.weight", rows, width, all_b);
    lq_free(all_a);
    lq_free(all_b);
    return status;
}

lq_status lq_peft_put_experts(lq_peft_written *out, const lq_adapter *a) {
    for (int layer = 0; layer < a->model->hp.n_layer; layer++) {
        parameter first, second;
        char inner[PATH_BYTES + 16];
        const bool has_first = find(&first, a, GATE_UP, layer);
        const bool has_second = find(&second, a, DOWN, layer);
        snprintf(inner, sizeof inner, "%s%s", first.module, has_second ? ".base_layer" : "");
        if (has_first) LQ_TRY(put(out, &first, inner, a));
        if (has_second) LQ_TRY(put(out, &second, second.module, a));
    }
    return LQ_OK;
}
