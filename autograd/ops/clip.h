/* The clipped straight-through estimator of a merged lora_linear: with G = dy^T x and the set M of
 * weights whose codes are clipped, what M's part of G would add to dA and dB is taken out again.
 * Only M's entries of G are computed, a few rows of W at a time. */
#ifndef LOQUAT_CLIP_H
#define LOQUAT_CLIP_H

#include "op.h"

typedef struct lq_clip {
    const lq_tensor *x, *dy;     /* data (N,D), data (N,O) */
    const lq_tensor *a, *b;      /* (R,D), (O,R) and their gradients */
    const uint32_t *mask;        /* (O,D/32) */
    float scale;
} lq_clip;

size_t lq_clip_scratch(int64_t n, int64_t cols);
/* dB -= scale * G_M A^T,  dA -= scale * B^T G_M */
void lq_clip_backward(const lq_clip *c, void *scratch);

#endif
