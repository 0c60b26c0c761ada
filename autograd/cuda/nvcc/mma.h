/* Instructions of sm_80 and later. A warp's products of 16 x 16 by 16 x 8 bfloat16 matrices on
 * tensor cores, sums in f32: all 32 lanes call together. Lane l holds of the sums rows l / 4 and l
 * / 4 + 8, columns 2 (l % 4) and the next: c[0], c[1] of the first row, c[2], c[3] of the second.
 * Copies to shared memory that go on while threads compute. The tests have an emulation in this
 * one's place. */
#ifndef LOQUAT_MMA_H
#define LOQUAT_MMA_H

#include "launch.h"

/* Four 8 x 8 matrices of shared memory; lanes 8 i .. 8 i + 7 point to the rows of matrix i, 16-byte
 * aligned. r[i]: of matrix i row l / 4 the columns 2 (l % 4) and the next. */
static __device__ __forceinline__ void lq_load_matrices(uint32_t r[4], const lq_b16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The same with each matrix transposed. */
static __device__ __forceinline__ void lq_load_transposed(uint32_t r[4], const lq_b16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* c (16 x 8) += a (16 x 16) b (16 x 8). a: the 8 x 8 quarters at (rows, columns) (0,0), (8,0),
 * (0,8), (8,8), as lq_load_matrices gives them; b: those of its transpose at (0,0), (0,8). */
static __device__ __forceinline__ void lq_mma(float c[4], const uint32_t a[4],
                                              const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 16 bytes of global memory to shared memory, zeros unless `inside`; both 16-byte aligned. They
 * arrive when lq_wait_copies has waited for their group and the block's threads have met. */
static __device__ __forceinline__ void lq_copy_async(lq_b16 *to, const lq_b16 *from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}

/* Ends the group of this thread's copies since the last call. */
static __device__ __forceinline__ void lq_commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits for this thread's groups except the last PENDING. */
template <int PENDING> static __device__ __forceinline__ void lq_wait_copies() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

/* 2^x to 2 units in the last place; below 2^-126 0. */
static __device__ __forceinline__ float lq_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Two numbers as bfloat16, the first in the low half. */
static __device__ __forceinline__ uint32_t lq_pack_b16(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *(const uint32_t *)&pair;
}

#endif
