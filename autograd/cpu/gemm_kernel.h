/* What an instruction set gives to the blocked product of gemm.c: tiles of c, and packing of b.
 *
 * A tile multiplies some rows of a, read where they lie, with a strip of b: for each k as many
 * numbers side by side as the tile is wide. */
#ifndef LOQUAT_GEMM_KERNEL_H
#define LOQUAT_GEMM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

enum { LQ_GEMM_HEIGHTS = 5, LQ_GEMM_WIDTHS = 2 };

/* a(i, k) = a[i * a_row + k * a_step]; b(k, j) = b[k * b_step + j]. */
typedef struct lq_gemm_factor {
    const float *a, *b;
    int64_t a_row, a_step, b_step, k;
} lq_gemm_factor;

/* c (height, cols) = (add ? c : 0) + alpha * the sum of n products; cols up to the tile's width. Of
 * b nothing beyond cols is read. */
typedef struct lq_gemm_tile {
    float *c;
    int64_t ldc, cols;
    float alpha;
    bool add;
    int n;
    const lq_gemm_factor *factor;
} lq_gemm_tile;

typedef struct lq_gemm_kernel {
    int heights[LQ_GEMM_HEIGHTS]; /* falling; the last is 1 */
    int widths[LQ_GEMM_WIDTHS];   /* falling, multiples of 16 */
    void (*tile[LQ_GEMM_HEIGHTS][LQ_GEMM_WIDTHS])(const lq_gemm_tile *tile);
    /* dst[i * width + lane] = src[lane * ld + i], i < k, lane < lanes <= width; 0 for lanes beyond.
     * width is one of the widths. */
    void (*pack_across)(float *dst, int64_t width, const float *src, int64_t ld, int64_t lanes,
                        int64_t k);
    /* dst[i * width + lane] = src[i * ld + lane], otherwise the same. */
    void (*pack_along)(float *dst, int64_t width, const float *src, int64_t ld, int64_t lanes,
                       int64_t k);
} lq_gemm_kernel;

#endif
