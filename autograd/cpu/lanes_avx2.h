/* Eight F32 lanes with AVX2, for groups_lanes.h and exact_lanes.h. Arithmetic is done by the
 * compiler's vector operators, a multiply-add by `fused` where it is to be rounded once. */
#ifndef LOQUAT_LANES_AVX2_H
#define LOQUAT_LANES_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum { LANES = 8 };

typedef __m256 lanes;
typedef __m256i ints;
typedef __m256 mask;

static inline lanes load(const float *p) { return _mm256_loadu_ps(p); }
static inline void store(float *p, lanes v) { _mm256_storeu_ps(p, v); }
static inline lanes all(float x) { return _mm256_set1_ps(x); }
static inline lanes magnitude(lanes v) { return _mm256_andnot_ps(all(-0.0f), v); }
static inline lanes fused(lanes a, lanes b, lanes c) { return _mm256_fmadd_ps(a, b, c); }
static inline lanes lesser(lanes a, lanes b) { return _mm256_min_ps(a, b); }
static inline lanes greater(lanes a, lanes b) { return _mm256_max_ps(a, b); }

static inline mask below(lanes a, lanes b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline mask at_least(lanes a, lanes b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
static inline mask differs(lanes a, lanes b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
static inline mask both(mask a, mask b) { return _mm256_and_ps(a, b); }
static inline bool any(mask m) { return _mm256_movemask_ps(m) != 0; }
static inline lanes pick(mask m, lanes yes, lanes no) { return _mm256_blendv_ps(no, yes, m); }

static inline ints all_int(int x) { return _mm256_set1_epi32(x); }
static inline ints bits_of(lanes v) { return _mm256_castps_si256(v); }
static inline ints and_int(ints a, ints b) { return _mm256_and_si256(a, b); }
static inline ints minus_int(ints a, ints b) { return _mm256_sub_epi32(a, b); }
static inline ints min_int(ints a, ints b) { return _mm256_min_epi32(a, b); }
static inline ints max_int(ints a, ints b) { return _mm256_max_epi32(a, b); }
static inline ints trunc_int(lanes v) { return _mm256_cvttps_epi32(v); }
static inline lanes to_float(ints v) { return _mm256_cvtepi32_ps(v); }

static inline ints load_bytes(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

/* Numbers 0..255. */
static inline void store_bytes(uint8_t *p, ints v) {
    const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
    const __m128i words = _mm_packs_epi32(low, high);
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}

static inline float least(lanes v) {
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}

static inline float largest(lanes v) { return -least(-v); }

#endif
