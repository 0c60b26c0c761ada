/* F32: the numbers themselves. */
#include "format.h"

#include <string.h>

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    memcpy(out, x, (size_t)n * sizeof *x);
}

static void dequant(const void *in, float *out, int64_t n) {
    memcpy(out, in, (size_t)n * sizeof *out);
}

const lq_format lq_f32 = {"f32", "F32", 0, 0, 1, 4, quant, dequant};
