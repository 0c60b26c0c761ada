/* Sums over rows, one per column, in an order that depends on nothing but their number: what
 * gradients of norms and biases are. A block has 32 columns and 32 threads for each. */
#ifndef LOQUAT_COLUMN_SUMS_H
#define LOQUAT_COLUMN_SUMS_H

#include "launch.h"

enum { LQ_SUM_COLS = 32, LQ_SUM_ROWS = 32 };

/* out[j] += sum over i of f(i, j) */
template <typename F>
__global__ void __launch_bounds__(LQ_SUM_COLS *LQ_SUM_ROWS)
lq_column_sums_kernel(int64_t rows, int64_t cols, F f, float *out) {
    __shared__ float part[LQ_SUM_ROWS][LQ_SUM_COLS];
    const int64_t j = (int64_t)blockIdx.x * LQ_SUM_COLS + threadIdx.x;
    float sum = 0;
    for (int64_t i = threadIdx.y; j < cols && i < rows; i += LQ_SUM_ROWS) sum += f(i, j);
    part[threadIdx.y][threadIdx.x] = sum;
    for (unsigned half = LQ_SUM_ROWS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            part[threadIdx.y][threadIdx.x] += part[threadIdx.y + half][threadIdx.x];
    }
    if (threadIdx.y == 0 && j < cols) out[j] += part[0][threadIdx.x];
}

template <typename F>
static void lq_column_sums(lq_dev *dev, int64_t rows, int64_t cols, F f, float *out) {
    lq_launch(dev, lq_column_sums_kernel<F>,
              dim3((unsigned)((cols + LQ_SUM_COLS - 1) / LQ_SUM_COLS)),
              dim3(LQ_SUM_COLS, LQ_SUM_ROWS), 0, rows, cols, f, out);
}

#endif
