/* See quantize_file.h. Tensors are written in llama.cpp's order; the rows go through merge.c, where
 * effective weights are quantized too, slab by slab. */
#include "quantize_file.h"

#include "atomic_file.h"
#include "imatrix_keys.h"
#include "merge.h"
#include "type_plan.h"

#include <string.h>

enum { QUANTIZATION_VERSION = 2, SLAB_BYTES = 1 << 24 };

typedef struct quantizer {
    const lq_gguf *in;
    const lq_planned *plan;     /* per tensor of `in` */
    lq_gguf_writer *writer;
    void *slab;                 /* SLAB_BYTES, or one row if that is more */
    size_t slab_bytes;
} quantizer;

/* ---- metadata -------------------------------------------------------------------------------- */

/* A key that is set moves to the end, as in llama.cpp's files. */
static lq_status set_u32(lq_gguf_writer *w, const char *key, uint32_t value) {
    lq_gguf_writer_remove(w, key);
    return lq_gguf_writer_set_u32(w, key, value);
}

static lq_status set_keys(const quantizer *q, const lq_mix_request *request) {
    lq_gguf_writer *w = q->writer;
    lq_imatrix_key key[LQ_N_IMATRIX_KEYS];
    LQ_TRY(lq_gguf_writer_copy_kv(w, q->in));
    LQ_TRY(set_u32(w, "general.quantization_version", QUANTIZATION_VERSION));
    LQ_TRY(set_u32(w, "general.file_type", (uint32_t)request->mix->file_type));
    lq_gguf_writer_remove(w, "split.no");
    lq_gguf_writer_remove(w, "split.count");
    lq_gguf_writer_remove(w, "split.tensors.count");
    const int n = lq_imatrix_keys(key, request->imatrix);
    for (int i = 0; i < n; i++) {
        lq_gguf_writer_remove(w, key[i].key);
        LQ_TRY(key[i].is_text ? lq_gguf_writer_set_string(w, key[i].key, key[i].text)
                              : lq_gguf_writer_set_u32(w, key[i].key, key[i].number));
    }
    return LQ_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static int64_t rows_of(const lq_gguf_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

static uint64_t bytes_after(const quantizer *q, int64_t i) {
    const lq_gguf_tensor *t = lq_gguf_tensor_at(q->in, i);
    return q->plan[i].fmt ? lq_format_bytes(q->plan[i].fmt, t->ne[0] * rows_of(t)) : t->bytes;
}

static lq_status check_source(const lq_gguf_tensor *t, bool requantize) {
    const char *label = lq_ggml_type_name(t->ggml_type);
    if (!t->fmt || !t->fmt->dequant)
        return lq_fail(LQ_EUNSUPPORTED, "%s is %s, which Loquat cannot read", t->name, label);
    if (t->fmt->block == 1 || requantize) return LQ_OK;
    return lq_fail(LQ_EVALUE,
                   "%s is %s already: rounding twice loses more than rounding once; start from "
                   "F32, F16 or BF16, or give --allow-requantize",
                   t->name, label);
}

/* ggml has no trailing dimensions of one. */
static int written_dims(const lq_gguf_tensor *t) {
    int n = t->ndim;
    while (n > 1 && t->ne[n - 1] == 1) n--;
    return n;
}

/* Announces the tensors, in order. */
static lq_status declare(quantizer *q, const int64_t *order, bool requantize,
                         lq_quantize_report *report) {
    q->slab_bytes = SLAB_BYTES;
    for (int64_t k = 0; k < lq_gguf_n_tensors(q->in); k++) {
        const int64_t i = order[k];
        const lq_gguf_tensor *t = lq_gguf_tensor_at(q->in, i);
        const lq_format *fmt = q->plan[i].fmt;
        const uint64_t bytes = bytes_after(q, i);
        if (fmt) LQ_TRY(check_source(t, requantize));
        if (fmt && lq_format_bytes(fmt, t->ne[0]) > q->slab_bytes)
            q->slab_bytes = lq_format_bytes(fmt, t->ne[0]);
        report->bytes_in += t->bytes;
        report->bytes_out += bytes;
        LQ_TRY(lq_gguf_writer_add(q->writer, t->name, fmt ? fmt->ggml_id : t->ggml_type,
                                  written_dims(t), t->ne, NULL, bytes));
    }
    return LQ_OK;
}

/* Rows [row, row + n) of tensor i into the slab. */
static lq_status quantize_slab(const quantizer *q, int64_t i, int64_t row, int64_t n) {
    const lq_gguf_tensor *t = lq_gguf_tensor_at(q->in, i);
    const lq_planned *p = &q->plan[i];
    const size_t row_bytes = lq_format_bytes(t->fmt, t->ne[0]);
    lq_merge *merge = NULL;
    LQ_TRY(lq_merge_new(&merge, 1));
    lq_merge_add(merge, (lq_merge_job){
        .name = t->name, .fmt = t->fmt, .data = (const char *)t->data + (size_t)row * row_bytes,
        .rows = n, .cols = t->ne[0], .n_mats = 1, .out_fmt = p->fmt, .out = q->slab,
        .importance = p->importance ? p->importance + row / t->ne[1] * t->ne[0] : NULL});
    lq_status status = lq_merge_prepare(merge);
    if (status == LQ_OK) status = lq_merge_run(merge);
    lq_merge_free(merge);
    return status;
}

/* A slab ends where a matrix ends, so that all its rows have the same importance weights. */
static lq_status write_tensor(const quantizer *q, int64_t i) {
    const lq_gguf_tensor *t = lq_gguf_tensor_at(q->in, i);
    const lq_planned *p = &q->plan[i];
    if (!p->fmt) return lq_gguf_writer_put(q->writer, t->data, t->bytes);
    const size_t row_bytes = lq_format_bytes(p->fmt, t->ne[0]);
    const int64_t most = (int64_t)(q->slab_bytes / row_bytes);
    for (int64_t row = 0, n; row < rows_of(t); row += n) {
        n = t->ne[1] - row % t->ne[1];
        if (n > most) n = most;
        LQ_TRY(quantize_slab(q, i, row, n));
        LQ_TRY(lq_gguf_writer_put(q->writer, q->slab, (size_t)n * row_bytes));
    }
    return LQ_OK;
}

static lq_status write_file(quantizer *q, const char *path, const lq_mix_request *request,
                            bool requantize, lq_quantize_report *report) {
    lq_status status = LQ_OK;
    int64_t *order = lq_alloc_array(lq_gguf_n_tensors(q->in), sizeof *order);
    LQ_GOTO(status, order ? LQ_OK : LQ_EMEM);
    lq_mix_order(order, q->in);
    LQ_GOTO(status, lq_gguf_writer_new(&q->writer));
    LQ_GOTO(status, set_keys(q, request));
    LQ_GOTO(status, declare(q, order, requantize, report));
    q->slab = lq_alloc(q->slab_bytes);
    LQ_GOTO(status, q->slab ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_gguf_writer_begin(q->writer, path));
    for (int64_t k = 0; k < lq_gguf_n_tensors(q->in); k++)
        LQ_GOTO(status, write_tensor(q, order[k]));
    status = lq_gguf_writer_commit(q->writer);
done:
    lq_gguf_writer_free(q->writer);
    lq_free(q->slab);
    lq_free(order);
    return status;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A part of a model, without the others. */
static lq_status check_whole(const lq_gguf *g) {
    const lq_gguf_kv *total = lq_gguf_find(g, "split.tensors.count");
    int32_t n;
    if (!total || total->type != LQ_GGUF_I32) return LQ_OK;
    memcpy(&n, total->data, sizeof n);
    if (n == lq_gguf_n_tensors(g)) return LQ_OK;
    return lq_fail(LQ_EUNSUPPORTED, "%s: has %lld of the %d tensors of a split model; join its "
                   "parts first", lq_gguf_path(g), (long long)lq_gguf_n_tensors(g), n);
}

lq_status lq_quantize_file(const char *in, const char *out, const lq_mix_request *request,
                           bool requantize, lq_quantize_report *report) {
    lq_gguf *g = NULL;
    lq_planned *plan = NULL;
    lq_status status = LQ_OK;
    *report = (lq_quantize_report){0, 0};
    if (lq_is_same_file(in, out))
        return lq_fail(LQ_EVALUE, "%s: is the file that is being quantized", out);
    LQ_GOTO(status, lq_gguf_open(&g, in));
    LQ_GOTO(status, check_whole(g));
    LQ_GOTO(status, lq_type_plan_file(&plan, request, g));
    LQ_GOTO(status, lq_type_plan_log(plan, lq_gguf_n_tensors(g), out));
    quantizer q = {.in = g, .plan = plan};
    status = write_file(&q, out, request, requantize, report);
done:
    lq_free(plan);
    lq_gguf_close(g);
    return status;
}
