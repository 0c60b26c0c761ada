/* See saturation.h. Q4_0's codes -8..7 are not symmetric: its scale puts the largest magnitude at
 * -8, so values of the other sign beyond 7.5 steps are clipped. Q8_0's scale puts the largest
 * magnitude at a code of its own: nothing is. */
#include "saturation.h"

#include "quant.h"

#include <assert.h>

static uint32_t block_mask(const float *x, const lq_q4_0_block *block) {
    const float d = lq_f32_from_f16(block->d), inverse = d != 0 ? 1 / d : 0;
    uint32_t mask = 0;
    for (int i = 0; i < LQ_Q_BLOCK; i++) {
        const int byte = block->codes[i % (LQ_Q_BLOCK / 2)];
        const int code = i < LQ_Q_BLOCK / 2 ? byte & 15 : byte >> 4;
        const float steps = x[i] * inverse;
        const bool clipped = (code == 15 && steps > 7.5f) || (code == 0 && steps < -8.5f);
        mask |= (uint32_t)clipped << i;
    }
    return mask;
}

bool lq_can_saturate(const lq_format *fmt) { return fmt == &lq_q4_0; }

bool lq_knows_saturation(const lq_format *fmt) {
    return lq_can_saturate(fmt) || fmt == &lq_q8_0 || fmt->block == 1;
}

void lq_saturation(const lq_format *fmt, const float *x, const void *blocks, int64_t n,
                   uint32_t *mask) {
    const lq_q4_0_block *block = blocks;
    assert(lq_can_saturate(fmt) && n % LQ_CLIP_BITS == 0);
    for (int64_t i = 0; i < n / LQ_CLIP_BITS; i++)
        mask[i] = block_mask(x + i * LQ_CLIP_BITS, block + i);
}
