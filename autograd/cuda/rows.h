/* Kernels that need sums over a row. Its columns are shared by THREADS threads: a warp for narrow
 * rows, of which a block then has several, or the whole block. */
#ifndef LOQUAT_ROWS_H
#define LOQUAT_ROWS_H

#include "kernels.h"
#include "pack.h"

enum { LQ_NARROW_COLS = 1024 };

/* The thread's row, and its place among those that share it. */
template <int THREADS> __device__ __forceinline__ int64_t lq_row() {
    return (int64_t)blockIdx.x * (LQ_BLOCK / THREADS) + threadIdx.x / THREADS;
}
template <int THREADS> __device__ __forceinline__ int lq_place() {
    return (int)(threadIdx.x % THREADS);
}

/* Every thread of the row gets the result. */
template <int THREADS> __device__ inline float lq_row_sum(float x) {
    if constexpr (THREADS == LQ_WARP) return lq_warp_sum(x);
    else return lq_block_sum(x);
}

template <int N> using lq_int = std::integral_constant<int, N>;

/* Calls f(a T, lq_int<W>(), lq_int<THREADS>()) for rows of `cols` elements. */
template <typename F>
static void lq_by_row(const lq_format *fmt, int64_t cols, bool aligned, F f) {
    lq_by_activation(fmt, [&](auto of) {
        constexpr int W = lq_pack_width<decltype(of)>;
        if (!aligned || cols % W != 0) f(of, lq_int<1>(), lq_int<LQ_WARP>());
        else if (cols <= LQ_NARROW_COLS) f(of, lq_int<W>(), lq_int<LQ_WARP>());
        else f(of, lq_int<W>(), lq_int<LQ_BLOCK>());
    });
}

/* Blocks of LQ_BLOCK threads for so many rows. */
template <int THREADS> static dim3 lq_row_blocks(int64_t rows) {
    return dim3(lq_blocks(rows, LQ_BLOCK / THREADS));
}

#endif
