/* What optimizers do to flat F32 spans, on a device's queue. A row's NULL `span` means the CPU's
 * ways (optim/). Elementwise kernels give the CPU's bits. */
#ifndef LOQUAT_SPAN_H
#define LOQUAT_SPAN_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The scalars of AdamW and SGD: see optim/adamw.c and sgd.c. */
typedef struct lq_span_adamw {
    float keep, one_minus_beta1, beta2, one_minus_beta2, step, root, epsilon;
} lq_span_adamw;
typedef struct lq_span_sgd { float decay, momentum, lr; } lq_span_sgd;

enum { LQ_SPAN_WORK = 1024 };   /* doubles that norm works in */

typedef struct lq_span_kernels {
    void (*norm)(lq_dev *dev, double *work, const float *x, int64_t n);   /* into work[0] */
    void (*scale)(lq_dev *dev, float *x, int64_t n, float factor);
    void (*ema)(lq_dev *dev, float *ema, const float *x, int64_t n, float decay);
    void (*adamw)(lq_dev *dev, lq_span_adamw o, int64_t n, float *param, const float *grad,
                  float *m, float *v);
    void (*sgd)(lq_dev *dev, lq_span_sgd o, int64_t n, float *param, const float *grad, float *m);
    /* Writes n scales as F16 into packed blocks of Q4_0 or Q8_0 (block_scales.h). */
    void (*set_scales)(lq_dev *dev, const lq_format *fmt, void *blocks, const float *d, int64_t n);
} lq_span_kernels;

extern const lq_span_kernels lq_cuda_span;

#ifdef __cplusplus
}
#endif
#endif
