/* Functions of an AVX-512 vector, shared by the files that use that instruction set.
 *
 * exp: x = k ln 2 + r with |r| <= ln(2)/2, and e^r = 1 + r + r^2 q(r), q the least-maximum fit of
 * degree 4 (relative error 3e-9, so rounding dominates). expm1 adds the same parts in an order that
 * keeps small results exact. */
#ifndef LOQUAT_VECTOR_AVX512_H
#define LOQUAT_VECTOR_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

/* The mask of the lanes that are left. */
static inline __mmask16 lanes(int64_t left) {
    return left >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

static inline __m512 load(__mmask16 m, const float *p) { return _mm512_maskz_loadu_ps(m, p); }
static inline void store(float *p, __mmask16 m, __m512 v) { _mm512_mask_storeu_ps(p, m, v); }

static inline __m512d low(__m512 v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
static inline __m512d high(__m512 v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }

/* ---- functions of a vector ------------------------------------------------------------------ */

typedef struct exp_parts { __m512 k, tail; } exp_parts;   /* e^x = 2^k (1 + tail) */

/* Below EXP_LEAST e^x is subnormal, and a subnormal result takes the processor a hundred times as
 * long: it is 0 instead. Above 89 it is infinite. The clamp keeps NaN. */
#define EXP_LEAST -87.3365f
static inline exp_parts split_exp(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(EXP_LEAST), _mm512_min_ps(_mm512_set1_ps(89.0f), x));
    const __m512 k = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(k, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(k, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 q = _mm512_set1_ps(0.001381459879f);
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0.008368716576f));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0.041668388993f));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0.166665211320f));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0.499999940395f));
    return (exp_parts){k, _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r)};
}

static inline __m512 vexp(__m512 x) {
    const exp_parts e = split_exp(x);
    const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_LEAST), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(normal, _mm512_add_ps(_mm512_set1_ps(1), e.tail), e.k);
}

#define LOG2_E 1.44269504f

/* 2^x for x <= 0: x = k + r, and 2^r by the least-maximum fit of degree 5 (relative error 2e-7).
 * Far below, where nothing matters, it stays at 2^-126: a subnormal result takes long. The clamp
 * keeps NaN. */
static inline __m512 vexp2(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-126), x);
    const __m512 k = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_sub_ps(x, k);
    __m512 p = _mm512_set1_ps(0.001326473f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.009671513f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.055507337f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240222421f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693146978f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, k);
}

/* e^x - 1 for x <= 0 */
static inline __m512 vexpm1(__m512 x) {
    const exp_parts e = split_exp(x);
    const __m512 one = _mm512_set1_ps(1), power = _mm512_scalef_ps(one, e.k);
    return _mm512_fmadd_ps(power, e.tail, _mm512_sub_ps(power, one));
}

typedef struct sigmoids { __m512 s, t; } sigmoids;   /* s = sigmoid(z), t = 1 - s = sigmoid(-z) */

static inline sigmoids vsigmoid(__m512 z) {
    const __m512 one = _mm512_set1_ps(1);
    const __m512 e = vexp(_mm512_or_ps(z, _mm512_set1_ps(-0.0f)));   /* e^-|z| */
    const __m512 large = _mm512_div_ps(one, _mm512_add_ps(one, e)), small = _mm512_mul_ps(e, large);
    const __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(z));
    return (sigmoids){_mm512_mask_blend_ps(negative, large, small),
                      _mm512_mask_blend_ps(negative, small, large)};
}

static inline __m512 vtanh(__m512 x) {
    const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
    const __m512 e = vexpm1(_mm512_mul_ps(_mm512_set1_ps(-2), _mm512_abs_ps(x)));
    const __m512 t = _mm512_div_ps(_mm512_sub_ps(_mm512_setzero_ps(), e),
                                   _mm512_add_ps(_mm512_set1_ps(2), e));
    return _mm512_or_ps(t, sign);
}

#endif
