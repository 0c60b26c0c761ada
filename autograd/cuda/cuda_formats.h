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
} lq_cuda_format;

/* NULL: no kernels for this format. */
const lq_cuda_format *lq_cuda_format_of(const lq_format *fmt);

extern const lq_cuda_format lq_cuda_f32, lq_cuda_f16, lq_cuda_bf16;

#ifdef __cplusplus
}
#endif
#endif
