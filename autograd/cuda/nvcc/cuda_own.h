/* What an opened CUDA device holds (lq_dev.own). Only for files that are not emulated. */
#ifndef LOQUAT_CUDA_OWN_H
#define LOQUAT_CUDA_OWN_H

#include "device.h"

#include <cuda_runtime.h>

typedef struct lq_cuda_plans lq_cuda_plans;   /* gemm_cuda.cu */

typedef struct lq_cuda_own {
    char error[240];                 /* the first of queued work; "": none */
    lq_cuda_plans *plans;
} lq_cuda_own;

static inline lq_cuda_own *lq_cuda_own_of(const lq_dev *dev) { return (lq_cuda_own *)dev->own; }
/* Makes the device the calling thread's, before any call that needs one: another thread, or another
 * device of this one, may have come between. */
static inline cudaError_t lq_cuda_enter(const lq_dev *dev) { return cudaSetDevice(dev->index); }
/* Keeps what failed, and its error's text, for the device's check and wait; NULL: nothing did. */
void lq_cuda_note(lq_dev *dev, const char *what, const char *error);

lq_status lq_cuda_plans_open(lq_dev *dev);
void lq_cuda_plans_close(lq_cuda_own *own);

#endif
