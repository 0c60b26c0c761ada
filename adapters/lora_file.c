/* Reading an adapter GGUF: the same acceptance rules as llama.cpp's loader (llama-adapter.cpp), but
 * all mistakes at once and by name. See lora_file.h. */
#include "lora_file.h"

#include "base_stamp.h"
#include "merge.h"
#include "peft_file.h"

#include <float.h>
#include <string.h>

static const char a_suffix[] = ".lora_a", b_suffix[] = ".lora_b", m_suffix[] = ".lora_magnitude";

static bool ends_with(const char *text, const char *suffix) {
    const size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcmp(text + n - k, suffix) == 0;
}

/* ---- metadata -------------------------------------------------------------------------------- */

static lq_status expect(const lq_gguf *file, const char *key, const char *want) {
    char *value = NULL;
    LQ_TRY(lq_gguf_get_string(file, key, true, &value));
    lq_status status = LQ_OK;
    if (strcmp(value, want) != 0)
        status = lq_fail(LQ_EVALUE, "%s: %s is '%s', wanted '%s'", lq_gguf_path(file), key, value,
                         want);
    lq_free(value);
    return status;
}

static lq_status check_metadata(const lq_gguf *file, const lq_model *m) {
    char *arch = NULL;
    LQ_TRY(expect(file, "general.type", "adapter"));
    LQ_TRY(expect(file, "adapter.type", "lora"));
    LQ_TRY(lq_gguf_get_string(m->file, "general.architecture", true, &arch));
    const lq_status status = expect(file, "general.architecture", arch);
    lq_free(arch);
    LQ_TRY(status);
    if (lq_gguf_find(file, "adapter.alora.invocation_tokens"))
        return lq_fail(LQ_EUNSUPPORTED, "%s: an activated LoRA (adapter.alora.invocation_tokens); "
                       "only plain LoRA adapters are supported", lq_gguf_path(file));
    return LQ_OK;
}

static lq_status warn_other_base(const lq_gguf *file, const lq_model *m) {
    char *sha256 = NULL, *types = NULL;
    lq_base_stamp stamp = {"", LQ_STR_INIT};
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_gguf_get_string(file, LQ_STAMP_SHA256, false, &sha256));
    if (!sha256) goto done;
    LQ_GOTO(status, lq_gguf_get_string(file, LQ_STAMP_TYPES, false, &types));
    LQ_GOTO(status, lq_base_stamp_make(&stamp, m, NULL));
    if (strcmp(sha256, stamp.sha256) != 0)
        lq_log(LQ_LOG_WARN, "%s was trained on other base weights (%s) than %s has (%s)",
               lq_gguf_path(file), types ? types : "types unknown", lq_gguf_path(m->file),
               lq_str_text(&stamp.types));
done:
    lq_base_stamp_clear(&stamp);
    lq_free(sha256);
    lq_free(types);
    return status;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void mistake(lq_str *errors, const lq_gguf_tensor *t, const char *text) {
    lq_str_printf(errors, "%s%s: %s", errors->n ? "\n" : "", t->name, text);
}

/* The model's weight under NAME of "NAME.lora_a", or -1. */
static int find_base(const lq_model *m, const lq_gguf_tensor *t) {
    const size_t n = (size_t)(strrchr(t->name, '.') - t->name);
    for (int i = 0; i < m->n_weights; i++)
        if (strlen(m->weight[i].name) == n && strncmp(m->weight[i].name, t->name, n) == 0) return i;
    return -1;
}

static void add_tensor(lq_lora *lora, const lq_model *m, const lq_gguf_tensor *t, lq_str *errors) {
    const bool is_a = ends_with(t->name, a_suffix), is_m = ends_with(t->name, m_suffix);
    if (!is_a && !is_m && !ends_with(t->name, b_suffix)) {
        if (ends_with(t->name, "_norm.weight"))
            lq_log(LQ_LOG_WARN, "%s: %s is ignored, as llama.cpp does", lq_gguf_path(lora->file),
                   t->name);
        else mistake(errors, t, "unexpected name; wanted NAME.lora_a or NAME.lora_b");
        return;
    }
    const int i = find_base(m, t);
    if (i < 0) mistake(errors, t, "the base model has no such weight");
    else if (!lq_weight_is_linear(&m->weight[i]))
        mistake(errors, t, "adapters on anything but linears are not supported");
    else if (!t->fmt || !t->fmt->dequant) mistake(errors, t, "its type cannot be read");
    else if (is_a) lora->pair[i].a = t;
    else if (is_m) lora->pair[i].m = t;
    else lora->pair[i].b = t;
}

/* n_mats is 1 for a plain matrix, else the third dimension. */
static void check_shape(const lq_gguf_tensor *t, int64_t ne0, int64_t ne1, int64_t n_mats,
                        lq_str *errors) {
    if (t->ndim <= 3 && t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == n_mats) return;
    mistake(errors, t, "");
    lq_str_printf(errors, "the file has (%lld,%lld) in %d dimensions, wanted (%lld,%lld)",
                  (long long)t->ne[1], (long long)t->ne[0], t->ndim, (long long)ne1,
                  (long long)ne0);
    if (n_mats > 1) lq_str_printf(errors, " for each of %lld experts", (long long)n_mats);
}

static void check_pair(lq_lora_pair *pair, const lq_weight *w, float alpha, lq_str *errors) {
    if (!pair->a && !pair->b && !pair->m) return;
    if (!pair->a || !pair->b) {
        mistake(errors, pair->a ? pair->a : pair->b ? pair->b : pair->m,
                "its other half is missing");
        return;
    }
    if (pair->m && (pair->m->ndim != 1 || pair->m->ne[0] != w->rows || w->n_mats > 1))
        mistake(errors, pair->m, "wanted one magnitude for each row of a matrix");
    const int64_t rank = pair->b->ne[0];
    if (rank < 1 || rank > 1 << 20) {
        mistake(errors, pair->b, "the rank is out of range");
        return;
    }
    check_shape(pair->a, w->cols, rank, w->n_mats, errors);
    check_shape(pair->b, rank, w->rows / w->n_mats, w->n_mats, errors);
    pair->rank = (int)rank;
    pair->scale = alpha != 0 ? alpha / (float)rank : 1;
}

static lq_status read_tensors(lq_lora *lora, const lq_model *m, float alpha) {
    lq_str errors = LQ_STR_INIT;
    for (int64_t i = 0; i < lq_gguf_n_tensors(lora->file); i++)
        add_tensor(lora, m, lq_gguf_tensor_at(lora->file, i), &errors);
    for (int i = 0; i < m->n_weights; i++)
        check_pair(&lora->pair[i], &m->weight[i], alpha, &errors);
    lq_status status = lq_str_status(&errors);
    if (status == LQ_OK && errors.n)
        status = lq_fail(LQ_ESHAPE, "%s does not fit the model:\n%s", lq_gguf_path(lora->file),
                         lq_str_text(&errors));
    lq_str_clear(&errors);
    return status;
}

static lq_status open_lora(lq_lora *lora, const lq_model *m, const char *path) {
    float alpha = 0;
    LQ_TRY(lq_peft_is_dir(path) ? lq_peft_open(&lora->file, m, path)
                                : lq_gguf_open(&lora->file, path));
    LQ_TRY(check_metadata(lora->file, m));
    LQ_TRY(lq_gguf_get_f32(lora->file, "adapter.lora.alpha", false, &alpha));
    lora->pair = lq_alloc_array(m->n_weights, sizeof *lora->pair);
    if (!lora->pair) return LQ_EMEM;
    LQ_TRY(read_tensors(lora, m, alpha));
    return warn_other_base(lora->file, m);
}

lq_status lq_lora_open(lq_lora *out, const lq_model *m, const char *path) {
    *out = (lq_lora){NULL, NULL};
    const lq_status status = open_lora(out, m, path);
    if (status != LQ_OK) lq_lora_clear(out);
    return status;
}

void lq_lora_clear(lq_lora *lora) {
    lq_gguf_close(lora->file);
    lq_free(lora->pair);
    *lora = (lq_lora){NULL, NULL};
}

lq_status lq_lora_read(float *out, const lq_lora *lora, const lq_gguf_tensor *t) {
    const int64_t n = t->ne[0] * t->ne[1] * t->ne[2];
    t->fmt->dequant(t->data, out, n);
    if (lq_max_abs(out, n) <= FLT_MAX) return LQ_OK;
    return lq_fail(LQ_ENONFINITE, "%s: %s has a NaN or an infinity", lq_gguf_path(lora->file),
                   t->name);
}
