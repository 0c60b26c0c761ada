/* y_i = f(x_i, ...) over n elements, a pack per thread. y may be one of the x. */
#ifndef LOQUAT_MAP_H
#define LOQUAT_MAP_H

#include "kernels.h"
#include "pack.h"

template <int W, typename F, typename... X>
__device__ __forceinline__ lq_floats<W> lq_map_pack(F f, lq_floats<W> first, X... x) {
    for (int j = 0; j < W; j++) first.v[j] = f(first.v[j], x.v[j]...);
    return first;
}

template <int W, typename F, typename T, typename... X>
__global__ void lq_map_kernel(int64_t n, F f, T *y, const X *...x) {
    const int64_t at = ((int64_t)blockIdx.x * LQ_BLOCK + threadIdx.x) * W;
    if (at + W <= n) {
        lq_store<W>(y + at, lq_map_pack<W>(f, lq_load<W>(x + at)...));
        return;
    }
    for (int64_t i = at; i < n; i++) y[i] = lq_from_float<T>(f(lq_to_float(x[i])...));
}

template <int W> static dim3 lq_map_blocks(int64_t n) { return dim3(lq_blocks(n, LQ_BLOCK * W)); }

template <typename T, typename F, typename... X>
static void lq_map(lq_dev *dev, int64_t n, F f, T *y, const X *...x) {
    constexpr int W = lq_pack_width<T>;
    if (lq_is_aligned(y, x...))
        lq_launch(dev, lq_map_kernel<W, F, T, X...>, lq_map_blocks<W>(n), LQ_BLOCK, 0, n, f,
                  y, x...);
    else
        lq_launch(dev, lq_map_kernel<1, F, T, X...>, lq_map_blocks<1>(n), LQ_BLOCK, 0, n, f,
                  y, x...);
}

struct lq_plus {
    __device__ float operator()(float a, float b) const { return a + b; }
};

struct lq_times {
    float factor;
    __device__ float operator()(float x) const { return factor * x; }
};

#endif
