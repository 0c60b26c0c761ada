/* See clip.h. */
#include "clip.h"

#include "cpu.h"
#include "gemm.h"
#include "saturation.h"

#include <string.h>

enum { TILE_ROWS = 32 };

/* In scratch: x transposed (D,N); per row of a tile its column of dy (N); the tile (rows,D). */
typedef struct buffers { float *xt, *dy, *tile; } buffers;

size_t lq_clip_scratch(int64_t n, int64_t cols) {
    return (size_t)(n * cols + TILE_ROWS * n + TILE_ROWS * cols) * sizeof(float);
}

static buffers lay_out(const lq_clip *c, float *scratch) {
    const int64_t N = c->x->dim[0], D = lq_cols(c->x);
    return (buffers){scratch, scratch + N * D, scratch + N * D + TILE_ROWS * N};
}

static void transpose(float *out, const float *x, int64_t n, int64_t cols) {
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < n; i++) out[j * n + i] = x[i * cols + j];
}

/* The entries of G's row that are in the mask, zero elsewhere. */
static void masked_row(float *out, const uint32_t *mask, const float *dy, const float *xt,
                       int64_t n, int64_t cols) {
    memset(out, 0, (size_t)cols * sizeof *out);
    for (int64_t word = 0; word < cols / LQ_CLIP_BITS; word++)
        for (uint32_t left = mask[word]; left; left &= left - 1) {
            const int64_t j = word * LQ_CLIP_BITS + __builtin_ctz(left);
            out[j] = lq_cpu_kernels()->dot(dy, xt + j * n, n);
        }
}

static void make_tile(const lq_clip *c, const buffers *at, int64_t row, int64_t rows) {
    const int64_t N = c->x->dim[0], D = lq_cols(c->x), O = lq_cols(c->dy);
    const float *const dy = lq_data_f32(c->dy);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        float *const column = at->dy + i * N;
        for (int64_t t = 0; t < N; t++) column[t] = dy[t * O + row + i];
        masked_row(at->tile + i * D, c->mask + (row + i) * (D / LQ_CLIP_BITS), column, at->xt, N,
                   D);
    }
}

void lq_clip_backward(const lq_clip *c, void *scratch) {
    const int64_t D = lq_cols(c->x), O = lq_cols(c->dy), R = c->a->dim[0];
    const buffers at = lay_out(c, scratch);
    transpose(at.xt, lq_data_f32(c->x), c->x->dim[0], D);
    for (int64_t row = 0; row < O; row += TILE_ROWS) {
        const int64_t rows = O - row < TILE_ROWS ? O - row : TILE_ROWS;
        const lq_mat tile = {at.tile, D, false}, a = {lq_data_f32(c->a), D, true};
        const lq_mat b = {lq_data_f32(c->b) + row * R, R, true};
        make_tile(c, &at, row, rows);
        if (c->b->grad)
            lq_gemm(lq_grad_f32(c->b) + row * R, R, 1, -c->scale, tile, a, rows, R, D);
        if (c->a->grad) lq_gemm(lq_grad_f32(c->a), D, 1, -c->scale, b, tile, R, D, rows);
    }
}
