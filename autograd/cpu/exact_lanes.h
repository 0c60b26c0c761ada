/* The exact product over vectors: the text of both exact_avx2.c and exact_avx512.c, which include
 * their lanes_*.h first. A lane is an element of y, so it adds up in the order of exact_columns; a
 * tile of ROWS x 2 vectors stays in registers while the rank goes by. */
#include "exact_product.h"

enum { ROWS = 4 };

static inline __attribute__((always_inline)) void tile(float *y, float scale, const float *b,
                                                       const float *a, int n_rows, int64_t cols,
                                                       int64_t rank) {
    lanes left[ROWS], right[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++) left[r] = right[r] = all(0);
    for (int64_t k = 0; k < rank; k++) {
        const lanes a0 = load(a + k * cols), a1 = load(a + k * cols + LANES);
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++) {
            left[r] = fused(all(b[r * rank + k]), a0, left[r]);
            right[r] = fused(all(b[r * rank + k]), a1, right[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++) {
        float *const at = y + r * cols;
        store(at, fused(all(scale), left[r], load(at)));
        store(at + LANES, fused(all(scale), right[r], load(at + LANES)));
    }
}

static void exact_product(float *y, float scale, const float *b, const float *a, int64_t rows,
                          int64_t cols, int64_t rank) {
    const int64_t whole = cols / (2 * LANES) * (2 * LANES);
    int64_t i = 0;
    for (; i + ROWS <= rows; i += ROWS)
        for (int64_t j = 0; j < whole; j += 2 * LANES)
            tile(y + i * cols + j, scale, b + i * rank, a + j, ROWS, cols, rank);
    for (; i < rows; i++)
        for (int64_t j = 0; j < whole; j += 2 * LANES)
            tile(y + i * cols + j, scale, b + i * rank, a + j, 1, cols, rank);
    exact_columns(y, scale, b, a, rows, cols, rank, whole); /* too few for a tile */
}
