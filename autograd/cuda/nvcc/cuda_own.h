/* What an opened CUDA device holds (lq_dev.own). Only for files that are not emulated. */
#ifndef LOQUAT_CUDA_OWN_H
#define LOQUAT_CUDA_OWN_H

#include "device.h"

#include <cuda_runtime.h>

typedef struct lq_cuda_gemm_plans lq_cuda_gemm_plans;   /* gemm_cuda.cu */

typedef struct lq_cuda_own {
    cudaError_t error;               /* the first of queued work */
    cudaEvent_t mark[LQ_DEV_MARKS];
    lq_cuda_gemm_plans *gemm;
} lq_cuda_own;

lq_status lq_cuda_gemm_open(lq_dev *dev);
void lq_cuda_gemm_close(lq_cuda_own *own);

#endif
