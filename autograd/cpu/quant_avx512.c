/* Block formats with AVX-512: the rules of quant_ref.c, 16 elements at a time, the same bytes. */
#include "quant.h"

#include <immintrin.h>

enum { LANES = 16 };

/* nextafter(0.5, 0): added with x's sign before truncation, it rounds half away from zero. */
static const float almost_half = 0x1.fffffep-2f;

static float largest_magnitude(__m512 low, __m512 high) {
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
}

/* The first element whose magnitude is `most`, with its sign; 0 for a zero block. */
static float signed_max(const float *x, __m512 low, __m512 high, float most) {
    if (most == 0) return 0;
    const __m512 m = _mm512_set1_ps(most);
    const uint32_t equal = (uint32_t)_mm512_cmp_ps_mask(_mm512_abs_ps(low), m, _CMP_EQ_OQ) |
                           (uint32_t)_mm512_cmp_ps_mask(_mm512_abs_ps(high), m, _CMP_EQ_OQ)
                               << LANES;
    return equal ? x[__builtin_ctz(equal)] : 0;
}

static uint16_t to_f16(float d) {
    return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(d), _MM_FROUND_TO_NEAREST_INT), 0);
}

static __m512 scale_of(uint16_t d) {
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(d)));
}

/* trunc(x * inverse + 8.5), at most 15. An infinite inverse converts to INT_MIN: code 0. */
static __m512i codes_q4_0(__m512 x, __m512 inverse) {
    const __m512 shifted = _mm512_add_ps(_mm512_mul_ps(x, inverse), _mm512_set1_ps(8.5f));
    const __m512i code = _mm512_min_epi32(_mm512_cvttps_epi32(shifted), _mm512_set1_epi32(15));
    return _mm512_and_si512(code, _mm512_set1_epi32(15));
}

void lq_quant_q4_0_avx512(const float *x, void *out, int64_t n) {
    lq_q4_0_block *block = out;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const __m512 low = _mm512_loadu_ps(x + i), high = _mm512_loadu_ps(x + i + LANES);
        const float d = signed_max(x + i, low, high, largest_magnitude(low, high)) / -8;
        const __m512 inverse = _mm512_set1_ps(d != 0 ? 1 / d : 0);
        const __m512i codes = _mm512_or_si512(codes_q4_0(low, inverse),
                                              _mm512_slli_epi32(codes_q4_0(high, inverse), 4));
        block->d = to_f16(d);
        _mm_storeu_si128((__m128i *)block->codes, _mm512_cvtepi32_epi8(codes));
    }
}

/* x * inverse rounded, half away from zero; the low byte of an overflow's INT_MIN is code 0. */
static __m128i codes_q8_0(__m512 x, __m512 inverse) {
    const __m512 y = _mm512_mul_ps(x, inverse);
    const __m512 half =
        _mm512_or_ps(_mm512_and_ps(y, _mm512_set1_ps(-0.0f)), _mm512_set1_ps(almost_half));
    return _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(_mm512_add_ps(y, half)));
}

void lq_quant_q8_0_avx512(const float *x, void *out, int64_t n) {
    lq_q8_0_block *block = out;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const __m512 low = _mm512_loadu_ps(x + i), high = _mm512_loadu_ps(x + i + LANES);
        const float d = largest_magnitude(low, high) / 127;
        const __m512 inverse = _mm512_set1_ps(d != 0 ? 1 / d : 0);
        block->d = to_f16(d);
        _mm_storeu_si128((__m128i *)block->codes, codes_q8_0(low, inverse));
        _mm_storeu_si128((__m128i *)block->codes + 1, codes_q8_0(high, inverse));
    }
}

static void store_scaled(float *out, __m128i bytes, __m512 d) {
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), d));
}

void lq_dequant_q4_0_avx512(const void *in, float *out, int64_t n) {
    const lq_q4_0_block *block = in;
    const __m128i nibble = _mm_set1_epi8(15), offset = _mm_set1_epi8(8);
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const __m512 d = scale_of(block->d);
        const __m128i bytes = _mm_loadu_si128((const __m128i *)block->codes);
        const __m128i low = _mm_and_si128(bytes, nibble);
        const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
        store_scaled(out + i, _mm_sub_epi8(low, offset), d);
        store_scaled(out + i + LANES, _mm_sub_epi8(high, offset), d);
    }
}

void lq_dequant_q8_0_avx512(const void *in, float *out, int64_t n) {
    const lq_q8_0_block *block = in;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const __m512 d = scale_of(block->d);
        const __m128i *bytes = (const __m128i *)block->codes;
        store_scaled(out + i, _mm_loadu_si128(bytes), d);
        store_scaled(out + i + LANES, _mm_loadu_si128(bytes + 1), d);
    }
}

void lq_dequant_f16_avx512(const void *in, float *out, int64_t n) {
    const uint16_t *half = in;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(half + i))));
    lq_dequant_f16_ref(half + i, out + i, n - i);
}

void lq_dequant_bf16_avx512(const void *in, float *out, int64_t n) {
    const uint16_t *half = in;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(half + i)));
        _mm512_storeu_ps(out + i, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
    }
    lq_dequant_bf16_ref(half + i, out + i, n - i);
}
