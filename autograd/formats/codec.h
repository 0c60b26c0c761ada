/* One format on every instruction set. A format's file owns a small table of codecs, indexed by the
 * level of the CPU table in use; where a version is missing (NULL), the next slower one serves. The
 * plain one, LQ_LEVEL_REF, always exists. All versions write the same bytes. */
#ifndef LOQUAT_CODEC_H
#define LOQUAT_CODEC_H

#include "cpu.h"

typedef struct lq_codec {
    void (*quant)(const float *x, void *out, int64_t n);   /* without importance weights */
    void (*dequant)(const void *in, float *out, int64_t n);
} lq_codec;

void lq_codec_quant(const lq_codec codecs[LQ_LEVELS], const float *x, void *out, int64_t n);
void lq_codec_dequant(const lq_codec codecs[LQ_LEVELS], const void *in, float *out, int64_t n);

#endif
