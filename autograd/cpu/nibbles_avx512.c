/* The kernels of nibbles.h with AVX-512: 16 elements at a time, or all 16 trials. */
#include "nibbles.h"

#include <immintrin.h>

enum { LANES = 16, HALF = LQ_IQ4_BLOCK / 2 };

static __m512 widen(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)); }

static __m512 widened(const int8_t values[16]) {
    return widen(_mm_loadu_si128((const __m128i *)values));
}

/* A run of 16 elements comes in one vector, one of 32 in two. */
static void unpack(const uint8_t *codes, int half, const int8_t values[16], float d, float *out) {
    const __m128i table = _mm_loadu_si128((const __m128i *)values), nibble = _mm_set1_epi8(15);
    const __m512 scale = _mm512_set1_ps(d);
    const __m128i bytes = half == 8 ? _mm_loadl_epi64((const __m128i *)codes)
                                    : _mm_loadu_si128((const __m128i *)codes);
    const __m128i low = _mm_and_si128(bytes, nibble),
                  high = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
    if (half == 8) {
        const __m128i both = _mm_unpacklo_epi64(low, high);
        _mm512_storeu_ps(out, _mm512_mul_ps(widen(_mm_shuffle_epi8(table, both)), scale));
        return;
    }
    _mm512_storeu_ps(out, _mm512_mul_ps(widen(_mm_shuffle_epi8(table, low)), scale));
    _mm512_storeu_ps(out + LANES, _mm512_mul_ps(widen(_mm_shuffle_epi8(table, high)), scale));
}

/* How many of the 15 borders are not above v: a binary search in every lane. */
static inline __m512i iq4_code(__m512 v, __m512 borders) {
    __m512i code = _mm512_setzero_si512();
    for (int step = 8; step > 0; step /= 2) {
        const __m512i probe = _mm512_add_epi32(code, _mm512_set1_epi32(step - 1));
        const __m512 border = _mm512_permutexvar_ps(probe, borders);
        const __mmask16 above = _mm512_cmp_ps_mask(v, border, _CMP_NLT_UQ);
        code = _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(step));
    }
    return code;
}

static void fit_iq4(const float *x, const float *w, lq_iq4_fits *fits) {
    const __m512 borders = _mm512_loadu_ps(lq_iq4_borders), values = widened(lq_iq4_values);
    const __m512 inverse = _mm512_loadu_ps(fits->inverse);
    __m512 wqx = _mm512_setzero_ps(), wqq = wqx;
    for (int i = 0; i < LQ_IQ4_BLOCK; i++) {
        const __m512 v = _mm512_set1_ps(x[i]);
        const __m512i code = iq4_code(_mm512_mul_ps(inverse, v), borders);
        const __m512 q = _mm512_permutexvar_ps(code, values);
        const __m512 wq = _mm512_mul_ps(_mm512_set1_ps(w[i]), q);
        wqx = _mm512_add_ps(wqx, _mm512_mul_ps(wq, v));
        wqq = _mm512_add_ps(wqq, _mm512_mul_ps(wq, q));
    }
    _mm512_storeu_ps(fits->wqx, wqx);
    _mm512_storeu_ps(fits->wqq, wqq);
}

static __m128i both_nibbles(__m512i low, __m512i high) {
    return _mm512_cvtepi32_epi8(_mm512_or_si512(low, _mm512_slli_epi32(high, 4)));
}

static void pack_iq4(const float *x, float inverse, uint8_t codes[LQ_IQ4_BLOCK / 2]) {
    const __m512 borders = _mm512_loadu_ps(lq_iq4_borders), by = _mm512_set1_ps(inverse);
    const __m512i low = iq4_code(_mm512_mul_ps(by, _mm512_loadu_ps(x)), borders),
                  high = iq4_code(_mm512_mul_ps(by, _mm512_loadu_ps(x + HALF)), borders);
    _mm_storeu_si128((__m128i *)codes, both_nibbles(low, high));
}

/* Only values of x's sign come nearer than 0: the search is among magnitudes. */
static inline __m512i fp4_code(__m512 x, float d) {
    const __m512 size = _mm512_abs_ps(x);
    __m512 least = size;
    __m512i best = _mm512_setzero_si512();
    for (int i = 1; i < 8; i++) {
        const __m512 at = _mm512_set1_ps(lq_fp4_values[i] * d);
        const __m512 distance = _mm512_abs_ps(_mm512_sub_ps(at, size));
        const __mmask16 nearer = _mm512_cmp_ps_mask(distance, least, _CMP_LT_OQ);
        least = _mm512_mask_mov_ps(least, nearer, distance);
        best = _mm512_mask_mov_epi32(best, nearer, _mm512_set1_epi32(i));
    }
    const __mmask16 negative =
        _mm512_movepi32_mask(_mm512_castps_si512(x)) & _mm512_test_epi32_mask(best, best);
    return _mm512_mask_add_epi32(best, negative, best, _mm512_set1_epi32(8));
}

/* A run of 16 elements: the codes of the upper half move beside those of the lower. */
static void pack_fp4(const float *x, float d, int half, uint8_t *codes) {
    const __m512i low = fp4_code(_mm512_loadu_ps(x), d);
    if (half == 8) {
        const __m512i high = _mm512_shuffle_i64x2(low, low, 0x4e);
        _mm_storel_epi64((__m128i *)codes, both_nibbles(low, high));
        return;
    }
    _mm_storeu_si128((__m128i *)codes, both_nibbles(low, fp4_code(_mm512_loadu_ps(x + HALF), d)));
}

const lq_nibbles lq_nibbles_avx512 = {unpack, fit_iq4, pack_iq4, pack_fp4};
