/* The kernels of nibbles.h with AVX2, 8 elements or trials at a time. */
#include "nibbles.h"

#include <immintrin.h>

enum { LANES = 8 };

static void store_scaled(float *out, __m128i bytes, __m256 d) {
    const __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    _mm256_storeu_ps(out, _mm256_mul_ps(v, d));
}

static void unpack(const uint8_t *codes, int half, const int8_t values[16], float d, float *out) {
    const __m128i table = _mm_loadu_si128((const __m128i *)values), nibble = _mm_set1_epi8(15);
    const __m256 scale = _mm256_set1_ps(d);
    for (int i = 0; i < half; i += LANES) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(codes + i));
        const __m128i low = _mm_and_si128(bytes, nibble),
                      high = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
        store_scaled(out + i, _mm_shuffle_epi8(table, low), scale);
        store_scaled(out + i + half, _mm_shuffle_epi8(table, high), scale);
    }
}

/* Starting from values[0], each border not above v adds the step to the next value. */
static __m256 iq4_value(__m256 v) {
    __m256 q = _mm256_set1_ps(lq_iq4_values[0]);
    for (int i = 0; i < 15; i++) {
        const __m256 step = _mm256_set1_ps((float)(lq_iq4_values[i + 1] - lq_iq4_values[i]));
        const __m256 above = _mm256_cmp_ps(v, _mm256_set1_ps(lq_iq4_borders[i]), _CMP_NLT_UQ);
        q = _mm256_add_ps(q, _mm256_and_ps(above, step));
    }
    return q;
}

static __m256i iq4_code(__m256 v) {
    __m256i code = _mm256_setzero_si256();
    for (int i = 0; i < 15; i++) {
        const __m256 above = _mm256_cmp_ps(v, _mm256_set1_ps(lq_iq4_borders[i]), _CMP_NLT_UQ);
        code = _mm256_sub_epi32(code, _mm256_castps_si256(above));
    }
    return code;
}

/* The lanes are trials. */
static void fit_iq4(const float *x, const float *w, lq_iq4_fits *fits) {
    for (int t = 0; t < LQ_IQ4_TRIALS; t += LANES) {
        const __m256 inverse = _mm256_loadu_ps(fits->inverse + t);
        __m256 wqx = _mm256_setzero_ps(), wqq = wqx;
        for (int i = 0; i < LQ_IQ4_BLOCK; i++) {
            const __m256 v = _mm256_set1_ps(x[i]), q = iq4_value(_mm256_mul_ps(inverse, v));
            const __m256 wq = _mm256_mul_ps(_mm256_set1_ps(w[i]), q);
            wqx = _mm256_add_ps(wqx, _mm256_mul_ps(wq, v));
            wqq = _mm256_add_ps(wqq, _mm256_mul_ps(wq, q));
        }
        _mm256_storeu_ps(fits->wqx + t, wqx);
        _mm256_storeu_ps(fits->wqq + t, wqq);
    }
}

/* 8 bytes of codes 0..15 in their low nibbles, others in their high ones. */
static void store_codes(uint8_t *codes, __m256i low, __m256i high) {
    const __m256i both = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(both),
                                           _mm256_extracti128_si256(both, 1));
    _mm_storel_epi64((__m128i *)codes, _mm_packus_epi16(words, words));
}

static void pack_iq4(const float *x, float inverse, uint8_t codes[LQ_IQ4_BLOCK / 2]) {
    enum { HALF = LQ_IQ4_BLOCK / 2 };
    const __m256 by = _mm256_set1_ps(inverse);
    for (int i = 0; i < HALF; i += LANES)
        store_codes(codes + i, iq4_code(_mm256_mul_ps(by, _mm256_loadu_ps(x + i))),
                    iq4_code(_mm256_mul_ps(by, _mm256_loadu_ps(x + i + HALF))));
}

/* Only values of x's sign come nearer than 0: the search is among magnitudes. */
static __m256i fp4_code(__m256 x, __m256 d) {
    const __m256 sign = _mm256_set1_ps(-0.0f), size = _mm256_andnot_ps(sign, x);
    __m256 least = size;
    __m256i best = _mm256_setzero_si256();
    for (int i = 1; i < 8; i++) {
        const __m256 at = _mm256_mul_ps(_mm256_set1_ps(lq_fp4_values[i]), d);
        const __m256 distance = _mm256_andnot_ps(sign, _mm256_sub_ps(at, size));
        const __m256 nearer = _mm256_cmp_ps(distance, least, _CMP_LT_OQ);
        least = _mm256_blendv_ps(least, distance, nearer);
        best = _mm256_blendv_epi8(best, _mm256_set1_epi32(i), _mm256_castps_si256(nearer));
    }
    const __m256i zero = _mm256_cmpeq_epi32(best, _mm256_setzero_si256());
    const __m256i upper = _mm256_and_si256(_mm256_castps_si256(x), _mm256_castps_si256(sign));
    return _mm256_or_si256(best, _mm256_andnot_si256(zero, _mm256_srli_epi32(upper, 28)));
}

static void pack_fp4(const float *x, float d, int half, uint8_t *codes) {
    const __m256 scale = _mm256_set1_ps(d);
    for (int i = 0; i < half; i += LANES)
        store_codes(codes + i, fp4_code(_mm256_loadu_ps(x + i), scale),
                    fp4_code(_mm256_loadu_ps(x + i + half), scale));
}

const lq_nibbles lq_nibbles_avx2 = {unpack, fit_iq4, pack_iq4, pack_fp4};
