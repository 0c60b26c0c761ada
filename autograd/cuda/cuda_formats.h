/* Number formats on CUDA: a row for each whose kernels exist (formats/<name>.cu). A quantizer gives
 * the bytes of the CPU's for the same F32 input, so those files are compiled with --fmad=false. */
#ifndef LOQUAT_CUDA_FORMATS_H
#define LOQUAT_CUDA_FORMATS_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_cuda_format {
    const lq_format *fmt;
    /* As lq_format's, for rows (rows,cols) on the device; importance (cols) or NULL. NULL: cannot. */
    void (*quant)(lq_dev *dev, const float *x, void *out, int64_t rows, int64_t cols,
                  const float *importance);
    /* n elements as out_fmt, lq_f32 or lq_bf16. */
    void (*dequant)(lq_dev *dev, const void *in, void *out, const lq_format *out_fmt, int64_t n);
    /* As lq_reround: n elements; NULL: has no scales worth keeping. */
    void (*reround)(lq_dev *dev, const float *x, void *blocks, int64_t n);
} lq_cuda_format;

/* NULL: no kernels for this format. */
const lq_cuda_format *lq_cuda_format_of(const lq_format *fmt);

extern const lq_cuda_format lq_cuda_f32, lq_cuda_f16, lq_cuda_bf16, lq_cuda_q8_0, lq_cuda_q4_0,
    lq_cuda_q4_1, lq_cuda_q5_0, lq_cuda_q5_1, lq_cuda_q2_k, lq_cuda_q3_k, lq_cuda_q4_k,
    lq_cuda_q5_k, lq_cuda_q6_k, lq_cuda_iq4_nl, lq_cuda_iq4_xs, lq_cuda_mxfp4, lq_cuda_nvfp4,
    lq_cuda_tq1_0, lq_cuda_tq2_0, lq_cuda_q1_0, lq_cuda_q2_0, lq_cuda_iq1_s, lq_cuda_iq1_m, lq_cuda_iq2_xxs,
    lq_cuda_iq2_xs, lq_cuda_iq2_s, lq_cuda_iq3_xxs, lq_cuda_iq3_s;

#ifdef __cplusplus
}
#endif
#endif
