/* What kernels share: choosing the activation type, how many blocks, sums with a fixed tree. */
#ifndef LOQUAT_KERNELS_H
#define LOQUAT_KERNELS_H

#include "launch.h"
#include "ops.h"

enum { LQ_BLOCK = 256, LQ_WARP = 32 };

/* f(T()) with T the type of an activation of this format: float or lq_b16. */
template <typename F> static void lq_by_activation(const lq_format *fmt, F f) {
    if (fmt == &lq_bf16) f(lq_b16());
    else f(float());
}

static inline unsigned lq_blocks(int64_t n, int64_t per_block) {
    return (unsigned)((n + per_block - 1) / per_block);
}

/* Elements of a tensor in this run; its data and gradient as T. */
static inline int64_t lq_count(const lq_tensor *t) { return lq_rows(t) * lq_cols(t); }
template <typename T> static T *lq_data(const lq_tensor *t) { return t ? (T *)t->data : NULL; }
template <typename T> static T *lq_grad(const lq_tensor *t) {
    return t && t->grad ? (T *)t->grad->data : NULL;
}

/* This thread's first element and the step to its next in a loop over all threads of the grid. */
static __device__ __forceinline__ int64_t lq_thread_first() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}
static __device__ __forceinline__ int64_t lq_thread_step() {
    return (int64_t)gridDim.x * blockDim.x;
}

/* *p += x, rounded once. */
template <typename T> static __device__ __forceinline__ void lq_accumulate(T *p, float x) {
    *p = lq_from_float<T>(lq_to_float(*p) + x);
}

/* Over the 32 lanes of a warp; every lane gets the result. */
template <typename T> static __device__ __forceinline__ T lq_warp_sum(T x) {
    for (int width = LQ_WARP / 2; width > 0; width /= 2) x += __shfl_xor_sync(~0u, x, width);
    return x;
}
static __device__ __forceinline__ float lq_warp_max(float x) {
    for (int width = LQ_WARP / 2; width > 0; width /= 2)
        x = fmaxf(x, __shfl_xor_sync(~0u, x, width));
    return x;
}

/* Over a block of whole warps; every thread gets the result. Has barriers: all threads call it. */
template <typename T> static inline __device__ T lq_block_sum(T x) {
    __shared__ T part[LQ_WARP];
    const int warps = (int)blockDim.x / LQ_WARP, warp = (int)threadIdx.x / LQ_WARP;
    x = lq_warp_sum(x);
    if (lq_lane() == 0) part[warp] = x;
    __syncthreads();
    x = lq_lane() < warps ? part[lq_lane()] : T(0);
    __syncthreads();   /* before the next call writes part */
    return lq_warp_sum(x);
}
static inline __device__ float lq_block_max(float x) {
    __shared__ float part[LQ_WARP];
    const int warps = (int)blockDim.x / LQ_WARP, warp = (int)threadIdx.x / LQ_WARP;
    x = lq_warp_max(x);
    if (lq_lane() == 0) part[warp] = x;
    __syncthreads();
    x = lq_lane() < warps ? part[lq_lane()] : -INFINITY;
    __syncthreads();
    return lq_warp_max(x);
}

#endif
