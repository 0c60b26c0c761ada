/* Dense products on CUDA, on the device's queue: cuBLASLt (gemm_cuda.cu), or in tests plain loops.
 * As lq_gemm of blas.h: row-major operands, used as stored or transposed; F32 accumulation. */
#ifndef LOQUAT_GEMM_H
#define LOQUAT_GEMM_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_cuda_mat {
    const void *data;       /* of fmt: lq_f32 or lq_bf16 */
    const lq_format *fmt;
    int64_t ld;             /* elements from one stored row to the next */
    bool transposed;
} lq_cuda_mat;

/* c (m,n) = beta c + alpha a (m,k) b (k,n). a and b have one format; c has it, too, or is F32. With
 * beta 0 c is not read. */
void lq_cuda_gemm(lq_dev *dev, void *c, const lq_format *c_fmt, int64_t ldc, float beta,
                  float alpha, lq_cuda_mat a, lq_cuda_mat b, int64_t m, int64_t n, int64_t k);

#ifdef __cplusplus
}
#endif
#endif
