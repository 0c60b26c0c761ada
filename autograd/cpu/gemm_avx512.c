/* Tiles of the blocked product with AVX-512: 14 rows x 32 columns are 28 accumulators, which leaves
 * room for two vectors of b and an element of a; 2 loads of b and 14 of a feed 28 multiply-adds. */
#include "cpu_tables.h"
#include "gemm_kernel.h"
#include "transpose_avx512.h"
#include "vector_avx512.h"

enum { ROWS = 14, VECTORS = 2, GROUP = 3, GROUPS = (ROWS + GROUP - 1) / GROUP, AHEAD = 12 };

static void pack_across(float *dst, int64_t width, const float *src, int64_t ld, int64_t lanes_left,
                        int64_t k) {
    for (int64_t l = 0; l < width; l += LANES, lanes_left -= LANES) {
        for (int64_t i = 0; i < k; i += LANES) {
            const __mmask16 m = lanes(k - i);
            __m512 v[LANES];
#pragma GCC unroll 16
            for (int lane = 0; lane < LANES; lane++)
                v[lane] = lane < lanes_left ? load(m, src + (l + lane) * ld + i)
                                            : _mm512_setzero_ps();
            transpose(v);
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++)
                if (i + j < k) _mm512_storeu_ps(dst + (i + j) * width + l, v[j]);
        }
    }
}

static void pack_along(float *dst, int64_t width, const float *src, int64_t ld, int64_t lanes_left,
                       int64_t k) {
    for (int64_t i = 0; i < k; i++)
        for (int64_t l = 0; l < width; l += LANES)
            _mm512_storeu_ps(dst + i * width + l,
                             lanes_left > l ? load(lanes(lanes_left - l), src + i * ld + l)
                                            : _mm512_setzero_ps());
}

/* ---- the tile ------------------------------------------------------------------------------- */

/* What is asked for before it is needed, two lines a step: of the tile's rows of a what comes two
 * lines later, into the first cache, and the next tile's rows into the second; if a is read across
 * its rows, the rows that follow. */
typedef struct fetch { const float *next; int64_t step, jump; } fetch;

INLINE fetch fetch_of(const lq_gemm_factor *f, int height) {
    if (f->a_step == 1) return (fetch){f->a + height * f->a_row, f->a_row, LANES};
    return (fetch){f->a + AHEAD * f->a_step, f->a_step, LANES * f->a_step};
}

/* Adds a product to the sums. Rows are addressed from one pointer for three of them: all fourteen
 * would not leave a register. */
INLINE void multiply(const int height, const int vectors, __m512 sum[ROWS][VECTORS],
                     const lq_gemm_factor *f, const __mmask16 mask[VECTORS]) {
    const float *a[GROUPS], *b = f->b;
    const int64_t row = f->a_row;
    fetch ahead = fetch_of(f, height);
#pragma GCC unroll 5
    for (int g = 0; g < GROUPS; g++) a[g] = f->a + g * GROUP * row;
    for (int64_t k = f->k; k > 0; ahead.next += ahead.jump) {
        const float *line = ahead.next, *near = a[0] + 2 * LANES;
        const int64_t end = k > LANES ? k - LANES : 0;
        for (; k > end; k--) {
            __m512 bv[VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) bv[v] = load(mask[v], b + v * LANES);
#pragma GCC unroll 14
            for (int i = 0; i < height; i++) {
                const __m512 av = _mm512_set1_ps(a[i / GROUP][i % GROUP * row]);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) sum[i][v] = _mm512_fmadd_ps(av, bv[v], sum[i][v]);
            }
#pragma GCC unroll 5
            for (int g = 0; g < GROUPS; g++) a[g] += f->a_step;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                __builtin_prefetch(b + AHEAD * f->b_step + v * LANES, 0, 3);
            b += f->b_step;
            __builtin_prefetch(line, 0, 2);
            __builtin_prefetch(near, 0, 3);
            line += ahead.step;
            near += row;
        }
    }
}

/* All of c is read before any is written: where rows are narrower than a vector, what is read of
 * one would otherwise wait for the masked store of the one before. */
INLINE void finish(const int height, const int vectors, __m512 sum[ROWS][VECTORS],
                   const lq_gemm_tile *t, const __mmask16 mask[VECTORS]) {
    const __m512 alpha = _mm512_set1_ps(t->alpha);
#pragma GCC unroll 14
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[i][v] = t->add ? _mm512_fmadd_ps(sum[i][v], alpha,
                                                 load(mask[v], t->c + i * t->ldc + v * LANES))
                               : _mm512_mul_ps(sum[i][v], alpha);
#pragma GCC unroll 14
    for (int i = 0; i < height; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            store(t->c + i * t->ldc + v * LANES, mask[v], sum[i][v]);
}

INLINE void run_masked(const int height, const int vectors, const lq_gemm_tile *t,
                       const __mmask16 mask[VECTORS]) {
    __m512 sum[ROWS][VECTORS];
#pragma GCC unroll 14
    for (int i = 0; i < height; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            __builtin_prefetch(t->c + i * t->ldc + v * LANES, 1, 3);
            sum[i][v] = _mm512_setzero_ps();
        }
    }
    for (int i = 0; i < t->n; i++) multiply(height, vectors, sum, &t->factor[i], mask);
    finish(height, vectors, sum, t, mask);
}

/* Inlined with constant sizes, so that the sums live in registers, and with constant masks for a
 * whole tile: a load under a mask takes one of the multipliers' turns. */
INLINE void run(const int height, const int vectors, const lq_gemm_tile *t) {
    if (t->cols == vectors * LANES) {
        run_masked(height, vectors, t, (const __mmask16[]){0xffff, 0xffff});
    } else {
        run_masked(height, vectors, t, (const __mmask16[]){lanes(t->cols),
                                          lanes(t->cols > LANES ? t->cols - LANES : 0)});
    }
}

static void tile_14x32(const lq_gemm_tile *t) { run(14, 2, t); }
static void tile_14x16(const lq_gemm_tile *t) { run(14, 1, t); }
static void tile_8x32(const lq_gemm_tile *t) { run(8, 2, t); }
static void tile_8x16(const lq_gemm_tile *t) { run(8, 1, t); }
static void tile_4x32(const lq_gemm_tile *t) { run(4, 2, t); }
static void tile_4x16(const lq_gemm_tile *t) { run(4, 1, t); }
static void tile_2x32(const lq_gemm_tile *t) { run(2, 2, t); }
static void tile_2x16(const lq_gemm_tile *t) { run(2, 1, t); }
static void tile_1x32(const lq_gemm_tile *t) { run(1, 2, t); }
static void tile_1x16(const lq_gemm_tile *t) { run(1, 1, t); }

const lq_gemm_kernel lq_gemm_avx512 = {
    .heights = {ROWS, 8, 4, 2, 1},
    .widths = {VECTORS * LANES, LANES},
    .tile = {{tile_14x32, tile_14x16}, {tile_8x32, tile_8x16}, {tile_4x32, tile_4x16},
             {tile_2x32, tile_2x16}, {tile_1x32, tile_1x16}},
    .pack_across = pack_across,
    .pack_along = pack_along,
};
