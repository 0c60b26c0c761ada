/* Products by OpenBLAS, on the calling thread alone. For gemm.c. */
#ifndef LOQUAT_BLAS_H
#define LOQUAT_BLAS_H

#include "gemm.h"

/* As lq_gemm_serial. */
void lq_blas_gemm(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
                  int64_t n, int64_t k);

#endif
