/* Sums over rows, one per column, in an order that depends on nothing but their number: what
 * gradients of norms and biases are. A block has COLS columns and 1024 / COLS threads for each: 32
 * columns, or 8 where else there would be few blocks. */
#ifndef LOQUAT_COLUMN_SUMS_H
#define LOQUAT_COLUMN_SUMS_H

#include "kernels.h"

enum { LQ_SUM_THREADS = 1024, LQ_SUM_FEW_COLS = 1024 };

/* out[j] += sum over i of f(i, j) */
template <int COLS, typename F>
__global__ void __launch_bounds__(LQ_SUM_THREADS)
    lq_column_sums_kernel(int64_t rows, int64_t cols, F f, float *out) {
    constexpr unsigned ROWS = LQ_SUM_THREADS / COLS;
    __shared__ float part[ROWS][COLS];
    const int64_t j = (int64_t)blockIdx.x * COLS + threadIdx.x;
    float sum = 0;
    for (int64_t i = threadIdx.y; j < cols && i < rows; i += ROWS) sum += f(i, j);
    part[threadIdx.y][threadIdx.x] = sum;
    for (unsigned half = ROWS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            part[threadIdx.y][threadIdx.x] += part[threadIdx.y + half][threadIdx.x];
    }
    if (threadIdx.y == 0 && j < cols) out[j] += part[0][threadIdx.x];
}

template <int COLS, typename F>
static void lq_launch_column_sums(lq_dev *dev, int64_t rows, int64_t cols, F f, float *out) {
    lq_launch(dev, lq_column_sums_kernel<COLS, F>, dim3(lq_blocks(cols, COLS)),
              dim3(COLS, LQ_SUM_THREADS / COLS), 0, rows, cols, f, out);
}

template <typename F>
static void lq_column_sums(lq_dev *dev, int64_t rows, int64_t cols, F f, float *out) {
    if (cols <= LQ_SUM_FEW_COLS) lq_launch_column_sums<8>(dev, rows, cols, f, out);
    else lq_launch_column_sums<32>(dev, rows, cols, f, out);
}

#endif
