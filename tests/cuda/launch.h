/* What a .cu file sees of CUDA when a host compiler builds it for tests; nvcc's is
 * autograd/cuda/nvcc/launch.h, and the include path chooses. Only what our kernels use. */
#ifndef LOQUAT_LAUNCH_H
#define LOQUAT_LAUNCH_H

#include "device.h"
#include "emulate.h"

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __constant__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

/* ---- vectors --------------------------------------------------------------------------------- */

struct dim3 : lq_uint3 {
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : lq_uint3{a, b, c} {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

/* ---- launching ------------------------------------------------------------------------------- */

template <typename P> static void lq_check_argument(P p) {
    if constexpr (std::is_pointer_v<P>)
        if (p && !lq_emulated_memory_holds((const void *)p))
            lq_emulated_die("a kernel's argument points to memory that is not the device's");
}

template <typename... P, typename... A>
static void lq_launch(lq_dev *, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                      A... args) {
    (lq_check_argument<P>(P(args)), ...);
    auto thread = [=] { kernel(P(args)...); };
    auto launch = [=] {
        auto body = thread;
        lq_emulate(grid, block, shared_bytes, [](void *ctx) { (*(decltype(body) *)ctx)(); }, &body);
    };
    typedef decltype(launch) closure;
    lq_emulated_queue([](void *ctx) {
        (*(closure *)ctx)();
        delete (closure *)ctx;
    }, new closure(launch));
}

/* ---- what threads call ----------------------------------------------------------------------- */

#define lq_dynamic_shared(T, name) T *const name = (T *)lq_emulated_shared()

static inline void __syncthreads() { lq_emulated_barrier(); }
static inline void __syncwarp(unsigned mask = ~0u) { lq_emulated_exchange(mask, 0); }

template <typename T> static T lq_exchanged(unsigned mask, T value, int from) {
    static_assert(sizeof(T) <= 8, "a register or two");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = lq_emulated_exchange(mask, bits)[from];
    if (!(mask >> from & 1)) lq_emulated_die("a shuffle reads a lane outside its mask");
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int lq_lane() {
    return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}

template <typename T> static T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    return lq_exchanged(mask, v, (lq_lane() & ~(width - 1)) | (from & (width - 1)));
}
template <typename T> static T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
    const int to = lq_lane() ^ bits;   /* beyond the group: its own value */
    return lq_exchanged(mask, v, to / width == lq_lane() / width ? to : lq_lane());
}
template <typename T> static T __shfl_down_sync(unsigned mask, T v, unsigned n, int width = 32) {
    const int at = lq_lane() % width + (int)n;
    return lq_exchanged(mask, v, at < width ? lq_lane() + (int)n : lq_lane());
}
template <typename T> static T __shfl_up_sync(unsigned mask, T v, unsigned n, int width = 32) {
    const int at = lq_lane() % width - (int)n;
    return lq_exchanged(mask, v, at >= 0 ? lq_lane() - (int)n : lq_lane());
}

static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const uint64_t *const value = lq_emulated_exchange(mask, predicate != 0);
    unsigned bits = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) bits |= (unsigned)value[i] << i;
    return bits;
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }

/* One thread runs at a time. No atomics on floats: sums have a fixed order. */
template <typename T, typename U> static T atomicAdd(T *p, U v) {
    static_assert(std::is_integral_v<T>, "the order of a float's atomic sum is not fixed");
    const T old = *p;
    *p = (T)(old + (T)v);
    return old;
}
template <typename T, typename U> static T atomicMax(T *p, U v) {
    const T old = *p;
    if ((T)v > old) *p = (T)v;
    return old;
}
template <typename T, typename U> static T atomicMin(T *p, U v) {
    const T old = *p;
    if ((T)v < old) *p = (T)v;
    return old;
}
template <typename T, typename U> static T atomicOr(T *p, U v) {
    const T old = *p;
    *p = old | (T)v;
    return old;
}

/* ---- numbers --------------------------------------------------------------------------------- */

struct lq_b16 { uint16_t bits; };   /* a bfloat16 */

static inline float lq_to_float(float x) { return x; }
static inline float lq_to_float(lq_b16 x) { return lq_f32_from_bf16(x.bits); }
template <typename T> static T lq_from_float(float x) {
    if constexpr (std::is_same_v<T, lq_b16>) return {lq_bf16_from_f32(x)};
    else return x;
}
static inline uint16_t lq_half_bits(float x) { return lq_f16_from_f32(x); }
static inline float lq_half_value(uint16_t bits) { return lq_f32_from_f16(bits); }

static inline void sincospif(float x, float *s, float *c) {
    *s = (float)sin(3.14159265358979323846 * (double)x);
    *c = (float)cos(3.14159265358979323846 * (double)x);
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline float __int_as_float(int x) { float f; memcpy(&f, &x, 4); return f; }
static inline int __float_as_int(float x) { int i; memcpy(&i, &x, 4); return i; }
static inline float __uint_as_float(unsigned x) { float f; memcpy(&f, &x, 4); return f; }
static inline unsigned __float_as_uint(float x) { unsigned i; memcpy(&i, &x, 4); return i; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline int __float2int_rn(float x) { return (int)rintf(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
template <typename T> static T __ldg(const T *p) { return *p; }
template <typename T> static T min(T a, T b) { return b < a ? b : a; }
template <typename T> static T max(T a, T b) { return a < b ? b : a; }

#endif
