/* Do weights lie on a quantizer's lattice? Quantizing them again then changes nothing. */
#include "inspect_parts.h"

#include <math.h>

enum { MAX_BLOCK = 256 };

/* A number stored in BF16 is off by up to 1/256, and so is the scale that is found again from one.
 */
static const float tolerance = 2.0F / 256;

static bool all_zero(const float *x, int n) {
    for (int i = 0; i < n; i++)
        if (x[i] != 0) return false;
    return true;
}

static bool is_unchanged(const float *x, const lq_format *fmt) {
    float back[MAX_BLOCK];
    char packed[MAX_BLOCK * sizeof(float)];
    fmt->quant(x, packed, fmt->block, NULL);
    fmt->dequant(packed, back, fmt->block);
    for (int i = 0; i < fmt->block; i++)
        if (!(fabsf(x[i] - back[i]) <= tolerance * fabsf(x[i]))) return false;
    return true;
}

lq_lattice lq_lattice_of(const lq_gguf_tensor *t, const lq_format *fmt, int64_t max_blocks) {
    lq_lattice found = {0, 0};
    const int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
    if (!t->fmt || t->fmt->block != 1 || t->ndim < 2 || t->ne[0] % fmt->block) return found;
    const int64_t total = t->ne[0] / fmt->block * rows;
    const int64_t step = total > max_blocks ? total / max_blocks : 1;
    for (int64_t i = 0; i < total; i += step) {
        float x[MAX_BLOCK];
        t->fmt->dequant((const char *)t->data + lq_format_bytes(t->fmt, i * fmt->block), x,
                        fmt->block);
        if (all_zero(x, fmt->block)) continue;
        found.blocks++;
        found.unchanged += is_unchanged(x, fmt);
    }
    return found;
}
