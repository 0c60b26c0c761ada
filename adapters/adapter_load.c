/* Adapters from files: for inference (several, stacked along the rank with their scales folded into
 * B), and as the starting point of a training run. */
#include "adapter_parts.h"
#include "lora_file.h"
#include "str.h"

#include <math.h>
#include <string.h>

/* B (rows, rank) of a pair times `scale` into columns [at, at + rank) of out (rows, width). */
static lq_status read_b(float *out, int64_t width, int64_t at, const lq_lora *lora,
                        const lq_lora_pair *pair, float scale) {
    const int64_t rows = pair->b->ne[1] * pair->b->ne[2], rank = pair->rank;
    float *b = lq_alloc_array(rows * rank, sizeof *b);
    if (!b) return LQ_EMEM;
    const lq_status status = lq_lora_read(b, lora, pair->b);
    for (int64_t o = 0; status == LQ_OK && o < rows; o++)
        for (int64_t r = 0; r < rank; r++) out[o * width + at + r] = scale * b[o * rank + r];
    lq_free(b);
    return status;
}

/* A (n_mats, rank, cols) of a pair into ranks [at, at + rank) of out (n_mats, width, cols). */
static lq_status read_a(float *out, int64_t width, int64_t at, const lq_lora *lora,
                        const lq_lora_pair *pair) {
    const int64_t n_mats = pair->a->ne[2], size = pair->rank * pair->a->ne[0];
    if (n_mats == 1) return lq_lora_read(out + at * pair->a->ne[0], lora, pair->a);
    float *a = lq_alloc_array(n_mats * size, sizeof *a);
    if (!a) return LQ_EMEM;
    const lq_status status = lq_lora_read(a, lora, pair->a);
    for (int64_t i = 0; status == LQ_OK && i < n_mats; i++)
        memcpy(out + (i * width + at) * pair->a->ne[0], a + i * size, (size_t)size * sizeof *a);
    lq_free(a);
    return status;
}

/* Magnitudes belong to one sum W + s B A: not to another adapter's, nor at another strength. */
static lq_status check_alone(const lq_model *m, const lq_lora *lora, const lq_lora_file *files,
                             int n) {
    for (int i = 0; i < m->n_weights; i++) {
        int of = -1, on = 0;
        for (int f = 0; f < n; f++) {
            if (lora[f].pair[i].m) of = f;
            on += lora[f].pair[i].rank > 0;
        }
        if (of >= 0 && (on > 1 || files[of].scale != 1))
            return lq_fail(LQ_EUNSUPPORTED,
                           "%s: a DoRA adapter is used alone and with scale 1; its "
                           "magnitudes of %s fit nothing else", files[of].path, m->weight[i].name);
    }
    return LQ_OK;
}

/* ---- inference ------------------------------------------------------------------------------- */

static void add_stacked_items(lq_adapter *a, const lq_lora *lora, int n) {
    for (int i = 0; i < a->model->n_weights; i++) {
        int rank = 0;
        bool dora = false;
        for (int f = 0; f < n; f++) {
            rank += lora[f].pair[i].rank;
            dora |= lora[f].pair[i].m != NULL;
        }
        if (rank)
            a->item[a->n_items++] =
                (lq_adapted){.weight = i, .rank = rank, .scale = 1, .dora = dora};
    }
}

static lq_status fill_stacked(lq_adapter *a, const lq_adapted *item, const lq_lora *lora,
                              const lq_lora_file *files, int n) {
    int64_t at = 0;
    for (int f = 0; f < n; f++) {
        const lq_lora_pair *pair = &lora[f].pair[item->weight];
        if (!pair->rank) continue;
        LQ_TRY(read_a(a->param + item->a, item->rank, at, &lora[f], pair));
        LQ_TRY(read_b(a->param + item->b, item->rank, at, &lora[f], pair,
                      files[f].scale * pair->scale));
        if (pair->m) LQ_TRY(lq_lora_read(a->param + item->m, &lora[f], pair->m));
        at += pair->rank;
    }
    return LQ_OK;
}

static lq_status open_all(lq_lora *lora, const lq_model *m, const lq_lora_file *files, int n) {
    for (int f = 0; f < n; f++) {
        if (!isfinite(files[f].scale))
            return lq_fail(LQ_EVALUE, "%s: the scale is %g", files[f].path, (double)files[f].scale);
        LQ_TRY(lq_lora_open(&lora[f], m, files[f].path));
    }
    return LQ_OK;
}

lq_status lq_adapter_load(lq_adapter **out, const lq_model *m, const lq_lora_file *files, int n) {
    lq_adapter *a = NULL;
    lq_status status = LQ_OK;
    *out = NULL;
    lq_lora *lora = lq_alloc_array(n, sizeof *lora);
    LQ_GOTO(status, lora ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, open_all(lora, m, files, n));
    LQ_GOTO(status, check_alone(m, lora, files, n));
    LQ_GOTO(status, lq_adapter_alloc(&a, m));
    add_stacked_items(a, lora, n);
    LQ_GOTO(status, lq_adapter_lay_out(a));
    for (int i = 0; i < a->n_items; i++)
        LQ_GOTO(status, fill_stacked(a, &a->item[i], lora, files, n));
    if (a->norm) LQ_GOTO(status, lq_adapter_measure(&a->merge, a, lq_dev_cpu(), a->patch));
    LQ_GOTO(status, lq_adapter_rebuild(a));
    *out = a;
    a = NULL;
done:
    lq_adapter_free(a);
    for (int f = 0; lora && f < n; f++) lq_lora_clear(&lora[f]);
    lq_free(lora);
    return status;
}

/* ---- the start of a run ---------------------------------------------------------------------- */

static void compare(lq_str *errors, const lq_weight *w, int want, int found) {
    if (want == found) return;
    lq_str_printf(errors, "%s%s: ", errors->n ? "\n" : "", w->name);
    if (!found) lq_str_puts(errors, "a target of this run, but not in the file");
    else if (!want) lq_str_puts(errors, "in the file, but no target of this run");
    else lq_str_printf(errors, "rank %d in the file, %d in this run", found, want);
}

static lq_status check_same(const lq_adapter *a, const lq_lora *lora) {
    lq_str errors = LQ_STR_INIT;
    for (int i = 0; i < a->model->n_weights; i++) {
        compare(&errors, &a->model->weight[i], a->patch[i].rank, lora->pair[i].rank);
        if (lora->pair[i].m && !a->patch[i].m)
            lq_str_printf(&errors, "%s%s: a DoRA adapter; this run has no use_dora",
                          errors.n ? "\n" : "", a->model->weight[i].name);
    }
    lq_status status = lq_str_status(&errors);
    if (status == LQ_OK && errors.n)
        status = lq_fail(LQ_ESHAPE, "%s is another adapter than this run's:\n%s",
                         lq_gguf_path(lora->file), lq_str_text(&errors));
    lq_str_clear(&errors);
    return status;
}

static lq_status fill_from(lq_adapter *a, const lq_lora *lora) {
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        const lq_lora_pair *pair = &lora->pair[item->weight];
        LQ_TRY(lq_lora_read(a->param + item->a, lora, pair->a));
        LQ_TRY(read_b(a->param + item->b, item->rank, 0, lora, pair, pair->scale / item->scale));
    }
    LQ_TRY(lq_adapter_start_magnitudes(a));
    for (int i = 0; i < a->n_items; i++) {
        const lq_gguf_tensor *m = lora->pair[a->item[i].weight].m;
        if (m) LQ_TRY(lq_lora_read(a->param + a->item[i].m, lora, m));
    }
    return LQ_OK;
}

lq_status lq_adapter_init_from(lq_adapter *a, const char *path) {
    lq_lora lora;
    if (a->options.full || a->options.scales)
        return lq_fail(LQ_ECONFIG, "lora_model_dir: %s can only start a run with `adapter: lora`",
                       path);
    if (a->taken)
        return lq_fail(LQ_ECONFIG, "lora_model_dir: %s cannot start a run with init_lora_weights: "
                       "pissa, which is a start of its own", path);
    LQ_TRY(lq_lora_open(&lora, a->model, path));
    lq_status status = check_same(a, &lora);
    if (status == LQ_OK) status = fill_from(a, &lora);
    lq_lora_clear(&lora);
    return status;
}
