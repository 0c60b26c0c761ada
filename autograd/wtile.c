/* Products with a weight in any format. A packed weight is expanded one tile of rows at a time, by
 * all threads together, and the tile is multiplied as an F32 weight would be: so results do not
 * depend on which thread did what, and an F32 weight is just the case of one tile. */
#include "wtile.h"

#include "gemm.h"

#include <assert.h>

/* Elements of a tile: 2 MiB of F32, written once and read once for packing, so the last-level cache
 * does. A smaller one would make the product pack the activations too often. */
enum { TILE_ELEMENTS = 1 << 19, TILE_ROW_STEP = 16 };

static bool is_plain(const lq_tensor *w) { return w->fmt == &lq_f32; }

int64_t lq_wtile_height(const lq_tensor *w) {
    const int64_t rows = TILE_ELEMENTS / lq_cols(w) / TILE_ROW_STEP * TILE_ROW_STEP;
    return lq_min64(lq_rows(w), rows < TILE_ROW_STEP ? TILE_ROW_STEP : rows);
}

size_t lq_wtile_scratch(const lq_tensor *w) {
    return is_plain(w) ? 0 : (size_t)(lq_wtile_height(w) * lq_cols(w)) * sizeof(float);
}

const float *lq_wtile_rows(const lq_tensor *w, int64_t o, int64_t n, float *scratch) {
    assert(o >= 0 && n >= 0 && o + n <= lq_rows(w));
    const int64_t D = lq_cols(w);
    if (is_plain(w)) return lq_data_f32(w) + o * D;
    const char *const packed = (const char *)w->data + lq_format_bytes(w->fmt, o * D);
    const size_t row_bytes = lq_format_bytes(w->fmt, D);
#pragma omp parallel for schedule(static) if (n > TILE_ROW_STEP)
    for (int64_t i = 0; i < n; i++)
        w->fmt->dequant(packed + (size_t)i * row_bytes, scratch + i * D, D);
    return scratch;
}

/* An F32 weight is one tile. */
static int64_t tile_rows(const lq_tensor *w) {
    return is_plain(w) ? lq_rows(w) : lq_wtile_height(w);
}

void lq_wtile_forward_sum(const lq_tensor *w, const lq_gemm_term *side, const float *x, float *y,
                          int64_t n, void *scratch) {
    const int64_t D = lq_cols(w), O = lq_rows(w), height = tile_rows(w);
    for (int64_t o = 0; o < O; o += height) {
        const int64_t rows = lq_min64(height, O - o);
        const lq_mat tile = {lq_wtile_rows(w, o, rows, scratch), D, true};
        lq_gemm_term term[2] = {{{x, D, false}, tile, D}};
        if (side) term[1] = *side;
        if (side) term[1].b.data += o * (side->b.transposed ? side->b.ld : 1);
        lq_gemm_sum(y + o, O, 0, term, side ? 2 : 1, n, rows);
    }
}

void lq_wtile_backward_sum(const lq_tensor *w, const lq_gemm_term *side, const float *dy,
                           float beta, float *dx, int64_t n, void *scratch) {
    const int64_t D = lq_cols(w), O = lq_rows(w), height = tile_rows(w);
    for (int64_t o = 0; o < O; o += height) {
        const int64_t rows = lq_min64(height, O - o);
        const lq_mat tile = {lq_wtile_rows(w, o, rows, scratch), D, false};
        lq_gemm_term term[2] = {{{dy + o, O, false}, tile, rows}};
        const bool last = side && o + rows == O;
        if (last) term[1] = *side;
        lq_gemm_sum(dx, D, o ? 1 : beta, term, last ? 2 : 1, n, D);
    }
}

void lq_wtile_forward(const lq_tensor *w, const float *x, float *y, int64_t n, void *scratch) {
    lq_wtile_forward_sum(w, NULL, x, y, n, scratch);
}

void lq_wtile_backward(const lq_tensor *w, const float *dy, float beta, float *dx, int64_t n,
                       void *scratch) {
    lq_wtile_backward_sum(w, NULL, dy, beta, dx, n, scratch);
}
