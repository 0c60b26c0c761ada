/* Sixteen F32 lanes with AVX-512, for groups_lanes.h and exact_lanes.h. Arithmetic is done by the
 * compiler's vector operators, a multiply-add by `fused` where it is to be rounded once. */
#ifndef LOQUAT_LANES_AVX512_H
#define LOQUAT_LANES_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum { LANES = 16 };

typedef __m512 lanes;
typedef __m512i ints;
typedef __mmask16 mask;

static inline lanes load(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, lanes v) { _mm512_storeu_ps(p, v); }
static inline lanes all(float x) { return _mm512_set1_ps(x); }
static inline lanes magnitude(lanes v) { return _mm512_abs_ps(v); }
static inline lanes fused(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
static inline lanes lesser(lanes a, lanes b) { return _mm512_min_ps(a, b); }
static inline lanes greater(lanes a, lanes b) { return _mm512_max_ps(a, b); }

static inline mask below(lanes a, lanes b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline mask at_least(lanes a, lanes b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline mask differs(lanes a, lanes b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
static inline mask both(mask a, mask b) { return a & b; }
static inline bool any(mask m) { return m != 0; }
static inline lanes pick(mask m, lanes yes, lanes no) { return _mm512_mask_blend_ps(m, no, yes); }

static inline ints all_int(int x) { return _mm512_set1_epi32(x); }
static inline ints bits_of(lanes v) { return _mm512_castps_si512(v); }
static inline ints and_int(ints a, ints b) { return _mm512_and_si512(a, b); }
static inline ints minus_int(ints a, ints b) { return _mm512_sub_epi32(a, b); }
static inline ints min_int(ints a, ints b) { return _mm512_min_epi32(a, b); }
static inline ints max_int(ints a, ints b) { return _mm512_max_epi32(a, b); }
static inline ints trunc_int(lanes v) { return _mm512_cvttps_epi32(v); }
static inline lanes to_float(ints v) { return _mm512_cvtepi32_ps(v); }

static inline ints load_bytes(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}

/* Numbers 0..255. */
static inline void store_bytes(uint8_t *p, ints v) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(v));
}

static inline float least(lanes v) { return _mm512_reduce_min_ps(v); }
static inline float largest(lanes v) { return _mm512_reduce_max_ps(v); }

#endif
