/* Quantizing a mapped model into memory, row by row. See gguf_requantize.h. */
#include "gguf_requantize.h"

#include "str.h"

#include <string.h>

typedef struct copies {
    lq_gguf *base;
    void **data;       /* per tensor; NULL: as in the base */
    int64_t n;
} copies;

static void release(void *owner) {
    copies *c = owner;
    for (int64_t i = 0; c->data && i < c->n; i++) lq_free(c->data[i]);
    lq_free(c->data);
    lq_gguf_close(c->base);
    lq_free(c);
}

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

/* a per element against b per element. */
static bool is_smaller(const lq_format *a, const lq_format *b) {
    return a->bytes * b->block < b->bytes * a->block;
}

/* The format that t is to have; NULL: its own. */
static const lq_format *wanted(const lq_gguf_tensor *t, const lq_format *fmt) {
    const size_t n = strlen(t->name);
    const bool matrix = t->ndim > 1 && n > 7 && strcmp(t->name + n - 7, ".weight") == 0;
    const bool in_block = starts_with(t->name, "blk.");
    const bool outer = strcmp(t->name, "token_embd.weight") == 0 ||
                       strcmp(t->name, "output.weight") == 0;
    if (!matrix || !(in_block || outer) || strstr(t->name, "ffn_gate_inp")) return NULL;
    if (outer && is_smaller(fmt, &lq_q8_0)) fmt = &lq_q8_0;
    if (t->ne[0] % fmt->block) fmt = &lq_f16;
    return t->fmt && t->fmt->dequant && is_smaller(fmt, t->fmt) ? fmt : NULL;
}

uint64_t lq_gguf_requantized_bytes(const lq_gguf *base, const lq_format *fmt) {
    uint64_t bytes = 0;
    for (int64_t i = 0; i < lq_gguf_n_tensors(base); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(base, i);
        const lq_format *want = wanted(t, fmt);
        bytes += want ? lq_format_bytes(want, t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]) : t->bytes;
    }
    return bytes;
}

static lq_status convert(lq_gguf_tensor *t, void **data, const lq_format *fmt) {
    const int64_t cols = t->ne[0], rows = t->ne[1] * t->ne[2] * t->ne[3];
    const size_t from = lq_format_bytes(t->fmt, cols), to = lq_format_bytes(fmt, cols);
    float *row = lq_alloc_array(cols, sizeof *row);
    char *out = *data = lq_alloc((size_t)rows * to);
    const bool enough = row && out;
    for (int64_t i = 0; enough && i < rows; i++) {
        t->fmt->dequant((const char *)t->data + (size_t)i * from, row, cols);
        fmt->quant(row, out + (size_t)i * to, cols, NULL);
    }
    lq_free(row);
    if (!enough) return LQ_EMEM;
    t->data = out;
    t->ggml_type = fmt->ggml_id;
    t->bytes = (uint64_t)rows * to;
    return LQ_OK;
}

static lq_status convert_all(lq_gguf_tensor *t, copies *c, const lq_format *fmt) {
    c->n = lq_gguf_n_tensors(c->base);
    c->data = lq_alloc_array(c->n, sizeof *c->data);
    if (!c->data) return LQ_EMEM;
    int64_t converted = 0;
    uint64_t before = 0, after = 0;
    for (int64_t i = 0; i < c->n; i++) {
        t[i] = *lq_gguf_tensor_at(c->base, i);
        const lq_format *want = wanted(&t[i], fmt);
        before += t[i].bytes;
        if (want) LQ_TRY(convert(&t[i], &c->data[i], want));
        after += t[i].bytes;
        converted += want != NULL;
    }
    lq_log(LQ_LOG_INFO, "base_quant %s: %lld matrices re-quantized in memory, %.1f MB instead of "
           "%.1f MB",
           fmt->label, (long long)converted, 1e-6 * (double)after, 1e-6 * (double)before);
    return LQ_OK;
}

static lq_status assemble(lq_gguf **out, copies *c, const lq_format *fmt) {
    lq_gguf_assembly a = {.path = lq_gguf_path(c->base), .n_tensors = lq_gguf_n_tensors(c->base),
                          .owner = c, .release = release};
    lq_gguf_writer *w = NULL;
    lq_status status = LQ_OK;
    lq_gguf_tensor *t = lq_alloc_array(a.n_tensors, sizeof *t);
    LQ_GOTO(status, t ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, convert_all(t, c, fmt));
    LQ_GOTO(status, lq_gguf_writer_new(&w));
    LQ_GOTO(status, lq_gguf_writer_copy_kv(w, c->base));
    if (fmt->file_type >= 0)
        LQ_GOTO(status,
                lq_gguf_writer_set_u32(w, "general.file_type", (uint32_t)fmt->file_type));
    a.keys = w;
    a.tensor = t;
    a.region = lq_gguf_regions(c->base, &a.n_regions);
    status = lq_gguf_assemble(out, &a);
done:
    lq_gguf_writer_free(w);
    lq_free(t);
    return status;
}

lq_status lq_gguf_requantize(lq_gguf **out, lq_gguf *base, const lq_format *fmt) {
    copies *c = lq_alloc(sizeof *c);
    if (!c) return LQ_EMEM;
    c->base = base;
    const lq_status status = assemble(out, c, fmt);
    if (status == LQ_OK) return LQ_OK;
    c->base = NULL;   /* the caller's */
    release(c);
    return status;
}
