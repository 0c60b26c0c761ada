/* Block formats with AVX2: the rules of quant_ref.c, 8 elements at a time, the same bytes. */
#include "format.h"
#include "quant.h"

#include <immintrin.h>

enum { LANES = 8, VECTORS = LQ_Q_BLOCK / LANES };

/* nextafter(0.5, 0): added with x's sign before truncation, it rounds half away from zero. */
static const float almost_half = 0x1.fffffep-2f;

static __m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

static float horizontal_max(__m256 x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* The largest magnitude of a block; its vectors are left in v. */
static float load_block(const float *x, __m256 v[VECTORS]) {
    __m256 most = _mm256_setzero_ps();
    for (int i = 0; i < VECTORS; i++) {
        v[i] = _mm256_loadu_ps(x + LANES * i);
        most = _mm256_max_ps(most, magnitude(v[i]));
    }
    return horizontal_max(most);
}

/* The first element whose magnitude is `most`, with its sign; 0 for a zero block. */
static float signed_max(const float *x, const __m256 v[VECTORS], float most) {
    if (most == 0) return 0;
    uint32_t equal = 0;
    for (int i = 0; i < VECTORS; i++) {
        const __m256 mask = _mm256_cmp_ps(magnitude(v[i]), _mm256_set1_ps(most), _CMP_EQ_OQ);
        equal |= (uint32_t)_mm256_movemask_ps(mask) << (LANES * i);
    }
    return equal ? x[__builtin_ctz(equal)] : 0;
}

static uint16_t to_f16(float d) {
    return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(d), _MM_FROUND_TO_NEAREST_INT), 0);
}

static float from_f16(uint16_t d) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(d))); }

/* trunc(x * inverse + 8.5), at most 15. An infinite inverse converts to INT_MIN: code 0. */
static __m256i codes_q4_0(__m256 x, __m256 inverse) {
    const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(x, inverse), _mm256_set1_ps(8.5f));
    const __m256i code = _mm256_min_epi32(_mm256_cvttps_epi32(shifted), _mm256_set1_epi32(15));
    return _mm256_and_si256(code, _mm256_set1_epi32(15));
}

void lq_quant_q4_0_avx2(const float *x, void *out, int64_t n) {
    lq_q4_0_block *block = out;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        __m256 v[VECTORS];
        const float most = load_block(x + i, v);
        const float d = signed_max(x + i, v, most) / -8;
        const __m256 inverse = _mm256_set1_ps(d != 0 ? 1 / d : 0);
        const __m256i low = _mm256_or_si256(codes_q4_0(v[0], inverse),
                                            _mm256_slli_epi32(codes_q4_0(v[2], inverse), 4));
        const __m256i high = _mm256_or_si256(codes_q4_0(v[1], inverse),
                                             _mm256_slli_epi32(codes_q4_0(v[3], inverse), 4));
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
        block->d = to_f16(d);
        _mm_storeu_si128(
            (__m128i *)block->codes,
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
}

/* x * inverse rounded, half away from zero; only the low byte counts (INT_MIN: code 0). */
static __m256i codes_q8_0(__m256 x, __m256 inverse) {
    const __m256 y = _mm256_mul_ps(x, inverse);
    const __m256 half =
        _mm256_or_ps(_mm256_and_ps(y, _mm256_set1_ps(-0.0f)), _mm256_set1_ps(almost_half));
    const __m256i code = _mm256_cvttps_epi32(_mm256_add_ps(y, half));
    return _mm256_srai_epi32(_mm256_slli_epi32(code, 24), 24);
}

void lq_quant_q8_0_avx2(const float *x, void *out, int64_t n) {
    lq_q8_0_block *block = out;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        __m256 v[VECTORS];
        const float d = load_block(x + i, v) / 127;
        const __m256 inverse = _mm256_set1_ps(d != 0 ? 1 / d : 0);
        const __m256i a = _mm256_packs_epi32(codes_q8_0(v[0], inverse), codes_q8_0(v[1], inverse));
        const __m256i b = _mm256_packs_epi32(codes_q8_0(v[2], inverse), codes_q8_0(v[3], inverse));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        block->d = to_f16(d);
        _mm256_storeu_si256((__m256i *)block->codes,
                            _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order));
    }
}

static void store_scaled(float *out, __m128i bytes, __m256 d) {
    const __m256i low = _mm256_cvtepi8_epi32(bytes),
                  high = _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8));
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(low), d));
    _mm256_storeu_ps(out + LANES, _mm256_mul_ps(_mm256_cvtepi32_ps(high), d));
}

void lq_dequant_q4_0_avx2(const void *in, float *out, int64_t n) {
    const lq_q4_0_block *block = in;
    const __m128i nibble = _mm_set1_epi8(15), offset = _mm_set1_epi8(8);
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const __m256 d = _mm256_set1_ps(from_f16(block->d));
        const __m128i bytes = _mm_loadu_si128((const __m128i *)block->codes);
        const __m128i low = _mm_and_si128(bytes, nibble);
        const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
        store_scaled(out + i, _mm_sub_epi8(low, offset), d);
        store_scaled(out + i + LQ_Q_BLOCK / 2, _mm_sub_epi8(high, offset), d);
    }
}

void lq_dequant_q8_0_avx2(const void *in, float *out, int64_t n) {
    const lq_q8_0_block *block = in;
    for (int64_t i = 0; i < n; i += LQ_Q_BLOCK, block++) {
        const __m256 d = _mm256_set1_ps(from_f16(block->d));
        const __m128i *bytes = (const __m128i *)block->codes;
        store_scaled(out + i, _mm_loadu_si128(bytes), d);
        store_scaled(out + i + LQ_Q_BLOCK / 2, _mm_loadu_si128(bytes + 1), d);
    }
}

void lq_dequant_f16_avx2(const void *in, float *out, int64_t n) {
    const uint16_t *half = in;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(half + i))));
    lq_dequant_f16_ref(half + i, out + i, n - i);
}

void lq_dequant_bf16_avx2(const void *in, float *out, int64_t n) {
    const uint16_t *half = in;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(half + i)));
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
    lq_dequant_bf16_ref(half + i, out + i, n - i);
}
