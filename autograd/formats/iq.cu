/* The IQ formats on CUDA, which are only read; layouts as in iq<n>_<name>.c. A thread reads one
 * entry of 8 numbers, or two of 4. */
#include "cuda_blocks.h"
#include "iq_scalar.h"

#define LQ_GRID static __device__ const
#include "iq_grids.h"

static __device__ unsigned word_at(const uint8_t *p) { return (unsigned)(p[0] | p[1] << 8); }
static __device__ unsigned long_at(const uint8_t *p) { return word_at(p) | word_at(p + 2) << 16; }

/* Eight numbers are the quarter k of the 32 of group g. */
struct IQ1_S {
    enum { BLOCK = 256, BYTES = 50 };
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const int g = at / 32, k = at / 8 % 4;
        const unsigned high = word_at(b + 34 + 2 * g);
        const unsigned index = b[2 + at / 8] | (high >> 3 * k & 7) << 8;
        iq1_put(out, lq_iq1_s_grid[index], half_at(b) * (float)(2 * (high >> 12 & 7) + 1),
                high >> 15);
    }
};

struct IQ1_M {
    enum { BLOCK = 256, BYTES = 56 };
    static __device__ float scale(const uint8_t *scales) {
        unsigned half = 0;
        for (int w = 0; w < 4; w++) half |= word_at(scales + 2 * w) >> 12 << 4 * w;
        return f32_from_f16((uint16_t)half);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const int g = at / 32, k = at / 8 % 4;
        const unsigned s = word_at(b + 48 + g / 2 * 2) >> (6 * (g % 2) + 3 * (k / 2)) & 7;
        const unsigned high = b[32 + 2 * g + k / 2] >> 4 * (k % 2) & 15;
        iq1_put(out, lq_iq1_s_grid[b[at / 8] | (high & 7) << 8],
                scale(b + 48) * (float)(2 * s + 1), high >> 3);
    }
};

struct IQ2_XXS {
    enum { BLOCK = 256, BYTES = 66 };
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const int k = at / 8 % 4;
        const uint8_t *const group = b + 2 + at / 32 * 8;
        const unsigned word = long_at(group + 4);
        const float scale = half_at(b) * (0.5f + (float)(word >> 28)) * 0.25f;
        iq2_put(out, lq_iq2_xxs_grid[group[k]], scale, iq_signs(word >> 7 * k & 127));
    }
};

/* Per 16 numbers a scale of 4 bits. */
static __device__ float iq2_scale(const uint8_t *b, const uint8_t *scales, int at) {
    const int s = scales[at / 32] >> 4 * (at / 16 % 2) & 15;
    return half_at(b) * (0.5f + (float)s) * 0.25f;
}

struct IQ2_XS {
    enum { BLOCK = 256, BYTES = 74 };
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const unsigned code = word_at(b + 2 + at / 8 * 2);
        iq2_put(out, lq_iq2_xs_grid[code & 511], iq2_scale(b, b + 66, at), iq_signs(code >> 9));
    }
};

struct IQ2_S {
    enum { BLOCK = 256, BYTES = 82 };
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const int high = b[66 + at / 32] >> 2 * (at / 8 % 4) & 3;
        iq2_put(out, lq_iq2_s_grid[b[2 + at / 8] | high << 8], iq2_scale(b, b + 74, at),
                b[34 + at / 8]);
    }
};

struct IQ3_XXS {
    enum { BLOCK = 256, BYTES = 98 };
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        static const uint8_t values[8] = {4, 12, 20, 28, 36, 44, 52, 62};
        const unsigned word = long_at(b + 66 + at / 32 * 4);
        const unsigned signs = iq_signs(word >> 7 * (at / 8 % 4) & 127);
        const float scale = half_at(b) * (0.5f + (float)(word >> 28)) * 0.5f;
        for (int h = 0; h < 2; h++)
            iq3_put(out + 4 * h, lq_iq3_xxs_grid[b[2 + at / 4 + h]], values, scale,
                    signs >> 4 * h);
    }
};

struct IQ3_S {
    enum { BLOCK = 256, BYTES = 110 };
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        static const uint8_t values[8] = {1, 3, 5, 7, 9, 11, 13, 15};
        const int g = at / 32, s = b[106 + g / 2] >> 4 * (g % 2) & 15;
        const float scale = half_at(b) * (float)(2 * s + 1);
        for (int h = 0; h < 2; h++) {
            const int high = b[66 + g] >> (at / 4 % 8 + h) & 1;
            iq3_put(out + 4 * h, lq_iq3_s_grid[b[2 + at / 4 + h] | high << 8], values, scale,
                    b[74 + at / 8] >> 4 * h);
        }
    }
};

extern "C" const lq_cuda_format lq_cuda_iq1_s = {
    &lq_iq1_s, NULL, dequant_blocks<IQ1_S>, NULL};
extern "C" const lq_cuda_format lq_cuda_iq1_m = {
    &lq_iq1_m, NULL, dequant_blocks<IQ1_M>, NULL};
extern "C" const lq_cuda_format lq_cuda_iq2_xxs = {
    &lq_iq2_xxs, NULL, dequant_blocks<IQ2_XXS>, NULL};
extern "C" const lq_cuda_format lq_cuda_iq2_xs = {
    &lq_iq2_xs, NULL, dequant_blocks<IQ2_XS>, NULL};
extern "C" const lq_cuda_format lq_cuda_iq2_s = {
    &lq_iq2_s, NULL, dequant_blocks<IQ2_S>, NULL};
extern "C" const lq_cuda_format lq_cuda_iq3_xxs = {
    &lq_iq3_xxs, NULL, dequant_blocks<IQ3_XXS>, NULL};
extern "C" const lq_cuda_format lq_cuda_iq3_s = {
    &lq_iq3_s, NULL, dequant_blocks<IQ3_S>, NULL};
