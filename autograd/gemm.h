/* Dense products for the ops of this folder and for merging adapters. An instruction set that has a
 * kernel (cpu/gemm_kernel.h) does them here, others use OpenBLAS. Each thread makes a block of the
 * result alone: no sum ever crosses threads, so the same thread count gives the same bits. */
#ifndef LOQUAT_GEMM_H
#define LOQUAT_GEMM_H

#include <stdbool.h>
#include <stdint.h>

/* A row-major operand: data, elements from one stored row to the next, used as stored or
 * transposed. */
typedef struct lq_mat {
    const float *data;
    int64_t ld;
    bool transposed;
} lq_mat;

/* One product of a sum: a (m,k) b (k,n), k from 1 on. */
typedef struct lq_gemm_term {
    lq_mat a, b;
    int64_t k;
} lq_gemm_term;

enum { LQ_GEMM_TERMS = 2 };

/* c (m,n) = beta c + alpha a (m,k) b (k,n), on all threads; on one inside a parallel region. beta
 * is 0, and c then not read, or 1. */
void lq_gemm(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
             int64_t n, int64_t k);

/* The same on the calling thread alone. */
void lq_gemm_serial(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
                    int64_t n, int64_t k);

/* c (m,n) = beta c + the sum of up to LQ_GEMM_TERMS products, c being written once: a product with
 * a short sum, such as an adapter's, costs least beside a long one. */
void lq_gemm_sum(float *c, int64_t ldc, float beta, const lq_gemm_term *term, int n_terms,
                 int64_t m, int64_t n);

#endif
