/* NVFP4: 64 numbers of E2M1 in groups of 16, each with a scale of 8 bits (UE4M3: no sign, 4 bits of
 * exponent with bias 7, 3 of mantissa); value = scale / 2 * (twice the number). The scale is the
 * largest magnitude / 6. An importance matrix does not change it. */
#include "format.h"
#include "groups.h"
#include "nibbles.h"
#include "nibbles_scalar.h"

enum { GROUP = 16, GROUPS = 4, BLOCK = GROUP * GROUPS };

typedef struct block {
    uint8_t scale[GROUPS];
    uint8_t codes[GROUPS][GROUP / 2];
} block;

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    const lq_nibbles *const k = lq_nibbles_kernels();
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        for (int g = 0; g < GROUPS; g++) {
            const float *const group = x + i + g * GROUP;
            b->scale[g] = nv_scale_code(lq_groups()->largest(group, GROUP) / 6);
            k->pack_fp4(group, nv_half_scale(b->scale[g]), GROUP / 2, b->codes[g]);
        }
    }
}

static void dequant(const void *in, float *out, int64_t n) {
    const lq_nibbles *const k = lq_nibbles_kernels();
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK, b++)
        for (int g = 0; g < GROUPS; g++)
            k->unpack(b->codes[g], GROUP / 2, lq_fp4_values, nv_half_scale(b->scale[g]),
                      out + i + g * GROUP);
}

const lq_format lq_nvfp4 = {"nvfp4", "NVFP4", 40, 39, BLOCK, sizeof(block), quant, dequant};
