/* See saturation.h. Q4_0's codes -8..7 are not symmetric: its scale puts the largest magnitude at
 * -8, so values of the other sign beyond 7.5 steps are clipped. Q8_0's scale puts the largest
 * magnitude at a code of its own: nothing is. */
#include "saturation.h"

#include "saturation_scalar.h"

#include <assert.h>

bool lq_can_saturate(const lq_format *fmt) { return fmt == &lq_q4_0; }

bool lq_knows_saturation(const lq_format *fmt) {
    return lq_can_saturate(fmt) || fmt == &lq_q8_0 || fmt->block == 1;
}

void lq_saturation(const lq_format *fmt, const float *x, const void *blocks, int64_t n,
                   uint32_t *mask) {
    const lq_q4_0_block *block = blocks;
    assert(lq_can_saturate(fmt) && n % LQ_CLIP_BITS == 0);
    for (int64_t i = 0; i < n / LQ_CLIP_BITS; i++)
        mask[i] = q4_0_clipped(x + i * LQ_CLIP_BITS, block[i].d, block[i].codes);
}
