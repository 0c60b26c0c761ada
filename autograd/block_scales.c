/* See block_scales.h. */
#include "block_scales.h"

#include "quant.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static_assert(offsetof(lq_q4_0_block, d) == 0 && offsetof(lq_q8_0_block, d) == 0,
              "both begin with their scale");

bool lq_has_block_scales(const lq_format *fmt) { return fmt == &lq_q4_0 || fmt == &lq_q8_0; }

void lq_block_scales_get(const lq_format *fmt, const void *blocks, float *d, int64_t n_blocks) {
    uint16_t half;
    assert(lq_has_block_scales(fmt));
    for (int64_t i = 0; i < n_blocks; i++) {
        memcpy(&half, (const char *)blocks + i * fmt->bytes, sizeof half);
        d[i] = lq_f32_from_f16(half);
    }
}

void lq_block_scales_set(const lq_format *fmt, void *blocks, const float *d, int64_t n_blocks) {
    assert(lq_has_block_scales(fmt));
    for (int64_t i = 0; i < n_blocks; i++) {
        const uint16_t half = lq_f16_from_f32(d[i]);
        memcpy((char *)blocks + i * fmt->bytes, &half, sizeof half);
    }
}

void lq_block_codes(const lq_format *fmt, const void *blocks, float *codes, int64_t n) {
    const float one = 1;
    char block[sizeof(lq_q8_0_block)];
    for (int64_t i = 0; i < n / fmt->block; i++) {
        memcpy(block, (const char *)blocks + i * fmt->bytes, (size_t)fmt->bytes);
        lq_block_scales_set(fmt, block, &one, 1);
        fmt->dequant(block, codes + i * fmt->block, fmt->block);
    }
}
