/* How .cu files start kernels and convert numbers. Compiled by nvcc; the tests build the same .cu
 * files with a host compiler and tests/cuda/launch.h in this one's place, which emulates the
 * device. So our kernels use what both offer and never <<<>>>. */
#ifndef LOQUAT_LAUNCH_H
#define LOQUAT_LAUNCH_H

#include "device.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <utility>

typedef __nv_bfloat16 lq_b16;

/* device_cuda.cu: before a launch and behind it; a failed one is kept for the device's check. */
extern "C" void lq_cuda_before_launch(lq_dev *dev, const void *kernel, size_t shared_bytes);
extern "C" void lq_cuda_after_launch(lq_dev *dev, const void *kernel);

/* kernel<<<grid, block, shared_bytes, the device's queue>>>(args...) */
template <typename... P, typename... A>
static void lq_launch(lq_dev *dev, void (*kernel)(P...), dim3 grid, dim3 block,
                      size_t shared_bytes, A... args) {
    lq_cuda_before_launch(dev, (const void *)kernel, shared_bytes);
    kernel<<<grid, block, shared_bytes, (cudaStream_t)dev->queue>>>(P(args)...);
    lq_cuda_after_launch(dev, (const void *)kernel);
}

/* T *const name: the block's dynamic shared memory, 128-byte aligned. */
#define lq_dynamic_shared(T, name)                                     \
    extern __shared__ __align__(128) unsigned char lq_shared_bytes[]; \
    T *const name = (T *)lq_shared_bytes

/* The thread's lane in its warp. */
static __device__ __forceinline__ int lq_lane() {
    return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}

static __device__ __forceinline__ float lq_to_float(float x) { return x; }
static __device__ __forceinline__ float lq_to_float(lq_b16 x) { return __bfloat162float(x); }

template <typename T> static __device__ __forceinline__ T lq_from_float(float x);
template <> __device__ __forceinline__ float lq_from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ lq_b16 lq_from_float<lq_b16>(float x) {
    return __float2bfloat16_rn(x);
}

/* An IEEE half as its bits. */
static __device__ __forceinline__ uint16_t lq_half_bits(float x) {
    return __half_as_ushort(__float2half_rn(x));
}
static __device__ __forceinline__ float lq_half_value(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
}

#endif
