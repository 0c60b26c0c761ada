/* The table of cuda_formats.h. */
#include "cuda_formats.h"

static const lq_cuda_format *const rows[] = {
    &lq_cuda_f32, &lq_cuda_f16, &lq_cuda_bf16, &lq_cuda_q8_0, &lq_cuda_q4_0, &lq_cuda_q4_1,
    &lq_cuda_q5_0, &lq_cuda_q5_1, &lq_cuda_q2_k, &lq_cuda_q3_k, &lq_cuda_q4_k, &lq_cuda_q5_k,
    &lq_cuda_q6_k, &lq_cuda_iq4_nl, &lq_cuda_iq4_xs, &lq_cuda_mxfp4, &lq_cuda_nvfp4, &lq_cuda_tq1_0,
    &lq_cuda_tq2_0, &lq_cuda_q1_0, &lq_cuda_q2_0, &lq_cuda_iq1_s, &lq_cuda_iq1_m, &lq_cuda_iq2_xxs,
    &lq_cuda_iq2_xs, &lq_cuda_iq2_s, &lq_cuda_iq3_xxs, &lq_cuda_iq3_s,
};

extern "C" const lq_cuda_format *lq_cuda_format_of(const lq_format *fmt) {
    for (const lq_cuda_format *row : rows)
        if (row->fmt == fmt) return row;
    return NULL;
}
