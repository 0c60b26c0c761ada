/* Writing a merged Hugging Face directory. Weights are computed as for a merged GGUF, then put into
 * Hugging Face's layout: rows of rotated heads in halves, norms without the 1. See export_hf.h. */
#include "export_hf.h"

#include "adapter_parts.h"
#include "arch.h"
#include "atomic_file.h"
#include "hf.h"
#include "safetensors.h"

#include <string.h>

#define SHARD_BYTES UINT64_C(5000000000)

typedef struct tensors {
    const lq_adapter *a;
    const lq_format *type;    /* of the matrices */
    lq_st_tensor *t;          /* per weight that is written; owned names */
    void **data;              /* owned, beside t */
    int64_t n;
} tensors;

/* ---- which type ---------------------------------------------------------------------------- */

/* Vectors and routers keep what the matrices' type cannot hold: a GGUF has them in F32. */
static bool is_small(const lq_weight *w) {
    return w->rows == 1 || lq_weight_is_router(w);
}

static const lq_format *matrix_type(const lq_adapter *a) {
    const lq_format *type = NULL;
    if (a->options.mode != LQ_QAT_NONE) return &lq_f32;
    for (int i = 0; i < a->model->n_weights; i++) {
        const lq_weight *w = &a->model->weight[i];
        if (is_small(w)) continue;
        if (w->fmt->block > 1 || (type && type != w->fmt)) return &lq_f32;
        type = w->fmt;
    }
    return type ? type : &lq_f32;
}

static bool holds(const lq_format *type, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        char code[4];
        float back;
        type->quant(&x[i], code, 1, NULL);
        type->dequant(code, &back, 1);
        if (back != x[i]) return false;
    }
    return true;
}

/* ---- one weight ---------------------------------------------------------------------------- */

/* The weight as the model computes with it, in F32. */
static lq_status effective(float *out, const lq_adapter *a, int i) {
    const lq_patch *patch = &a->patch[i];
    const lq_weight *w = &a->model->weight[i];
    if (patch->fmt) {   /* fake-quantized: merged already */
        patch->fmt->dequant(patch->data, out, w->rows * w->cols);
        return LQ_OK;
    }
    const lq_planned plain = {.fmt = &lq_f32};
    lq_merge *merge = NULL;
    LQ_TRY(lq_merge_new(&merge, 1));
    lq_merge_add(merge, lq_adapter_job(a, i, &a->patch[i], &lq_f32, &plain, out));
    lq_status status = lq_merge_prepare(merge);
    if (status == LQ_OK) status = lq_merge_run(merge);
    lq_merge_free(merge);
    return status;
}

/* (rows, cols) to (cols, rows). */
static void transpose(float *out, const float *in, int64_t rows, int64_t cols) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < cols; i++) out[i * rows + row] = in[row * cols + i];
}

/* From GGUF's layout to Hugging Face's. `rows` of a vector are its elements. */
static void lay_out(float *out, const float *in, const lq_hf_layout *layout, int64_t rows,
                    int64_t cols) {
    for (int64_t row = 0; row < rows; row++) {
        float *to = out + lq_hf_row(layout, rows, row) * cols;
        memcpy(to, in + row * cols, (size_t)cols * sizeof *to);
        for (int64_t i = 0; layout->plus_one && i < cols; i++) to[i] -= 1;
    }
}

/* One tensor: the weight, or one expert's part of it. name: taken over. */
static lq_status add_data(tensors *x, const lq_weight *w, char *name, const float *value,
                          bool transposed) {
    lq_st_tensor *t = &x->t[x->n];
    const int64_t rows = w->rows / w->n_mats, n = rows * w->cols;
    const bool vector = rows == 1 && w->role != LQ_ROLE_SHARED_ROUTER;
    const lq_format *type = is_small(w) && !holds(x->type, value, n) ? &lq_f32 : x->type;
    const bool swap = vector || transposed;
    *t = (lq_st_tensor){.name = name, .fmt = type, .ndim = vector ? 1 : 2,
                        .bytes = lq_format_bytes(type, n),
                        .dim = {swap ? w->cols : rows, swap ? rows : w->cols}};
    x->data[x->n++] = lq_alloc(t->bytes);
    t->data = x->data[x->n - 1];
    if (!t->name || !t->data) return LQ_EMEM;
    if (!(lq_max_abs(value, n) <= lq_format_max(type)))
        return lq_fail(LQ_ENONFINITE, "%s has a NaN or a value beyond what %s holds", t->name,
                       type->label);
    type->quant(value, x->data[x->n - 1], n, NULL);
    return LQ_OK;
}

static lq_status add_experts(tensors *x, const lq_weight *w, const float *value) {
    for (int64_t e = 0; e < w->n_mats; e++)
        LQ_TRY(add_data(x, w, lq_hf_tensor_name(x->a->model, w, e),
                        value + e * (w->rows / w->n_mats) * w->cols, false));
    return LQ_OK;
}

static lq_status add_weight(tensors *x, int i) {
    const lq_weight *w = &x->a->model->weight[i];
    const lq_hf_layout layout = lq_hf_layout_of(x->a->model, w);
    const int64_t n = w->rows * w->cols;
    float *value = lq_alloc_array(n, sizeof *value), *sorted = lq_alloc_array(n, sizeof *sorted);
    lq_status status = value && sorted ? effective(value, x->a, i) : LQ_EMEM;
    if (status == LQ_OK && lq_weight_is_experts(w)) {
        status = add_experts(x, w, value);
    } else if (status == LQ_OK) {
        const bool vector = w->rows == 1;
        if (layout.transposed && !vector) transpose(sorted, value, w->rows, w->cols);
        else lay_out(sorted, value, &layout, vector ? n : w->rows, vector ? 1 : w->cols);
        status = add_data(x, w, lq_hf_tensor_name(x->a->model, w, -1), sorted, layout.transposed);
    }
    lq_free(value);
    lq_free(sorted);
    return status;
}

/* ---- all of them --------------------------------------------------------------------------- */

static lq_status add_all(tensors *x) {
    const lq_model *m = x->a->model;
    int64_t n = 0;
    for (int i = 0; i < m->n_weights; i++) n += m->weight[i].n_mats;
    x->t = lq_alloc_array(n, sizeof *x->t);
    x->data = lq_alloc_array(n, sizeof *x->data);
    if (!x->t || !x->data) return LQ_EMEM;
    for (int i = 0; i < m->n_weights; i++)
        if (strcmp(m->weight[i].module, "model.rotary_emb") != 0)   /* computed from the config */
            LQ_TRY(add_weight(x, i));
    return LQ_OK;
}

lq_status lq_export_hf(const lq_adapter *a, const char *dir, const lq_format **type) {
    tensors x = {.a = a, .type = matrix_type(a)};
    lq_status status;
    if (a->options.mode == LQ_QAT_SEPARATE)
        return lq_fail(LQ_EUNSUPPORTED, "export.merged_safetensors: qat.mode separate keeps the "
                       "adapter beside its quantized base; merged, they are another model");
    LQ_TRY(lq_hf_can_write(a->model));
    LQ_GOTO(status, add_all(&x));
    LQ_GOTO(status, lq_make_dirs(dir));
    LQ_GOTO(status, lq_hf_write_files(a->model, x.type, dir));
    status = lq_safetensors_write_dir(dir, "model", x.t, x.n, SHARD_BYTES);
    *type = x.type;
done:
    for (int64_t i = 0; i < x.n; i++) {
        lq_free(x.t[i].name);
        lq_free(x.data[i]);
    }
    lq_free(x.t);
    lq_free(x.data);
    return status;
}
