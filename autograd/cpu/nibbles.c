/* The fixed values of 4-bit formats, the plain kernels that define them, the choice of one. */
#include "nibbles.h"

#include "cpu.h"
#include "nibbles_scalar.h"

const int8_t lq_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
const float lq_iq4_borders[16] = {-115.5f, -93.5f, -74,   -57,   -42, -28.5f, -16,  -4.5f,
                                  7,       19,     31.5f, 45.5f, 61,  79,     101,  INFINITY};
/* E2M1, doubled. */
const int8_t lq_fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void unpack(const uint8_t *codes, int half, const int8_t values[16], float d, float *out) {
    for (int i = 0; i < half; i++) {
        out[i] = values[codes[i] & 15] * d;
        out[i + half] = values[codes[i] >> 4] * d;
    }
}

static void fit_iq4(const float *x, const float *w, lq_iq4_fits *fits) {
    for (int t = 0; t < LQ_IQ4_TRIALS; t++)
        iq4_sums(x, w, fits->inverse[t], &fits->wqx[t], &fits->wqq[t]);
}

static void pack_iq4(const float *x, float inverse, uint8_t codes[LQ_IQ4_BLOCK / 2]) {
    for (int i = 0; i < LQ_IQ4_BLOCK / 2; i++)
        codes[i] = (uint8_t)(iq4_code(inverse * x[i]) |
                             iq4_code(inverse * x[i + LQ_IQ4_BLOCK / 2]) << 4);
}

static void pack_fp4(const float *x, float d, int half, uint8_t *codes) {
    for (int i = 0; i < half; i++)
        codes[i] = (uint8_t)(fp4_code(x[i], d) | fp4_code(x[i + half], d) << 4);
}

static const lq_nibbles reference = {unpack, fit_iq4, pack_iq4, pack_fp4};

const lq_nibbles *lq_nibbles_kernels(void) {
    static const lq_nibbles *const by_level[LQ_LEVELS] = {
        [LQ_LEVEL_REF] = &reference,
        [LQ_LEVEL_AVX2] = &lq_nibbles_avx2,
        [LQ_LEVEL_AVX512] = &lq_nibbles_avx512,
    };
    return by_level[lq_cpu_kernels()->level];
}
