/* Rows of f32 and bf16 in 16-byte accesses, which kernels see as f32. A pack is W elements:
 * lq_pack_width<T> of them where sizes and addresses allow it, else one. */
#ifndef LOQUAT_PACK_H
#define LOQUAT_PACK_H

#include "launch.h"

template <int W> struct lq_floats { float v[W]; };

template <typename T, int W>
struct alignas(W * sizeof(T) < 16 ? W * sizeof(T) : 16) lq_pack { T v[W]; };

template <typename T> constexpr int lq_pack_width = 16 / sizeof(T);

template <int W, typename T> __device__ __forceinline__ lq_floats<W> lq_load(const T *p) {
    const lq_pack<T, W> packed = *reinterpret_cast<const lq_pack<T, W> *>(p);
    lq_floats<W> x;
    for (int j = 0; j < W; j++) x.v[j] = lq_to_float(packed.v[j]);
    return x;
}

template <int W, typename T> __device__ __forceinline__ void lq_store(T *p, lq_floats<W> x) {
    lq_pack<T, W> packed;
    for (int j = 0; j < W; j++) packed.v[j] = lq_from_float<T>(x.v[j]);
    *reinterpret_cast<lq_pack<T, W> *>(p) = packed;
}

/* NULL is aligned. */
template <typename... P> static bool lq_is_aligned(const P *...p) {
    return (((uintptr_t)p % 16 == 0) && ...);
}

#endif
