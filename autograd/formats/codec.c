/* The choice of a format's version: the fastest one that exists up to the level in use. */
#include "codec.h"

void lq_codec_quant(const lq_codec codecs[LQ_LEVELS], const float *x, void *out, int64_t n) {
    int level = lq_cpu_kernels()->level;
    while (!codecs[level].quant) level--;
    codecs[level].quant(x, out, n);
}

void lq_codec_dequant(const lq_codec codecs[LQ_LEVELS], const void *in, float *out, int64_t n) {
    int level = lq_cpu_kernels()->level;
    while (!codecs[level].dequant) level--;
    codecs[level].dequant(in, out, n);
}
