/* See cuda_wtile.h. */
#include "cuda_wtile.h"

#include "cuda_formats.h"

#include <assert.h>

enum { TILE_ELEMENTS = 1 << 25, TILE_ROW_STEP = 64 };   /* 64 MiB of BF16: most matrices are one */

/* w's memory in this format; NULL: it has none. */
static const void *stored_as(const lq_tensor *w, const lq_format *type) {
    if (w->fmt == type) return w->data;
    return type == &lq_bf16 ? w->narrow : NULL;
}

static int64_t tile_height(const lq_tensor *w) {
    const int64_t rows = TILE_ELEMENTS / lq_cols(w) / TILE_ROW_STEP * TILE_ROW_STEP;
    return lq_min64(lq_rows(w), lq_max64(rows, TILE_ROW_STEP));
}

int64_t lq_cuda_wtile_step(const lq_tensor *w, const lq_format *type) {
    return stored_as(w, type) ? lq_rows(w) : tile_height(w);
}

size_t lq_cuda_wtile_scratch(const lq_tensor *w, const lq_format *type) {
    return w->fmt == type ? 0 : lq_format_bytes(type, tile_height(w) * lq_cols(w));
}

lq_status lq_cuda_wtile_accepts(const lq_tensor *w) {
    if (lq_cuda_format_of(w->fmt)) return LQ_OK;
    return lq_fail(LQ_EUNSUPPORTED, "'%s': %s is not on this device yet", w->name ? w->name : "?",
                   w->fmt->label);
}

lq_cuda_mat lq_cuda_wtile_rows(lq_dev *dev, const lq_tensor *w, const lq_format *type, int64_t o,
                               int64_t n, void *scratch) {
    const int64_t D = lq_cols(w);
    const char *const stored = stored_as(w, type);
    assert(o >= 0 && n >= 0 && o + n <= lq_rows(w));
    if (stored) return (lq_cuda_mat){stored + lq_format_bytes(type, o * D), type, D, false};
    lq_cuda_format_of(w->fmt)->dequant(dev, (const char *)w->data + lq_format_bytes(w->fmt, o * D),
                                       scratch, type, n * D);
    return (lq_cuda_mat){scratch, type, D, false};
}

void lq_cuda_wtile_forward(lq_dev *dev, const lq_tensor *w, const lq_format *type, const void *x,
                           void *y, float beta, int64_t n, void *scratch) {
    const int64_t D = lq_cols(w), O = lq_rows(w), height = lq_cuda_wtile_step(w, type);
    for (int64_t o = 0; o < O; o += height) {
        const int64_t rows = lq_min64(height, O - o);
        lq_cuda_mat tile = lq_cuda_wtile_rows(dev, w, type, o, rows, scratch);
        tile.transposed = true;
        lq_cuda_gemm(dev, (char *)y + lq_format_bytes(type, o), type, O, beta, 1,
                     (lq_cuda_mat){x, type, D, false}, tile, n, rows, D);
    }
}

void lq_cuda_wtile_backward(lq_dev *dev, const lq_tensor *w, const lq_format *type, const void *dy,
                            void *dx, int64_t n, void *scratch) {
    const int64_t D = lq_cols(w), O = lq_rows(w), height = lq_cuda_wtile_step(w, type);
    for (int64_t o = 0; o < O; o += height) {
        const int64_t rows = lq_min64(height, O - o);
        const lq_cuda_mat tile = lq_cuda_wtile_rows(dev, w, type, o, rows, scratch);
        const lq_cuda_mat dym = {(const char *)dy + lq_format_bytes(type, o), type, O, false};
        lq_cuda_gemm(dev, dx, type, D, 1, 1, dym, tile, n, D, rows);
    }
}

lq_cuda_mat lq_cuda_operand(const lq_tensor *t, const lq_format *type, bool transposed) {
    const void *const stored = stored_as(t, type);
    assert(stored);
    return (lq_cuda_mat){stored, type, lq_cols(t), transposed};
}
