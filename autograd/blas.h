/* Dense products for the ops of this folder, on OpenBLAS. The result is split into blocks, one for
 * each OpenMP thread, and every block is one single-threaded sgemm: no sum ever crosses threads, so
 * the same thread count gives the same bits. On two cores this is faster than the library's own
 * threading for narrow products, such as an adapter's, and near it for large ones. */
#ifndef LOQUAT_BLAS_H
#define LOQUAT_BLAS_H

#include <stdbool.h>
#include <stdint.h>

/* A row-major operand: data, elements from one stored row to the next, used as stored or
 * transposed. */
typedef struct lq_mat {
    const float *data;
    int64_t ld;
    bool transposed;
} lq_mat;

/* c (m,n) = beta c + alpha a (m,k) b (k,n), on all threads; on one inside a parallel region. */
void lq_gemm(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
             int64_t n, int64_t k);

/* The same on the calling thread alone. */
void lq_gemm_serial(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
                    int64_t n, int64_t k);

#endif
