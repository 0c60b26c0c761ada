/* The table of cuda_formats.h. */
#include "cuda_formats.h"

static const lq_cuda_format *const rows[] = {
    &lq_cuda_f32, &lq_cuda_f16, &lq_cuda_bf16,
};

extern "C" const lq_cuda_format *lq_cuda_format_of(const lq_format *fmt) {
    for (const lq_cuda_format *row : rows)
        if (row->fmt == fmt) return row;
    return NULL;
}
