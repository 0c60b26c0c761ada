/* The row kernels with AVX2 and FMA: 8 elements at a time, the rest under a mask, so every kernel
 * is one loop.
 *
 * exp: x = k ln 2 + r with |r| <= ln(2)/2, and e^r = 1 + r + r^2 q(r), q the least-maximum fit of
 * degree 4 (relative error 3e-9, so rounding dominates). expm1 adds the same parts in an order that
 * keeps small results exact. */
#include "cpu_tables.h"

#include <immintrin.h>
#include <math.h>

enum { LANES = 8 };

/* The mask of the lanes that are left: all bits of a lane. */
static __m256i lanes(int64_t left) {
    const int n = left < LANES ? (int)left : LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static __m256 load(__m256i m, const float *p) { return _mm256_maskload_ps(p, m); }
static void store(float *p, __m256i m, __m256 v) { _mm256_maskstore_ps(p, m, v); }

static __m256 abs_of(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

static __m256d low(__m256 v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
static __m256d high(__m256 v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }

static double total_pd(__m256d v) {
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

static float total(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static float largest(__m256 v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* ---- functions of a vector ------------------------------------------------------------------ */

typedef struct exp_parts { __m256 k, tail; } exp_parts;   /* e^x = 2^k (1 + tail) */

/* Below -105 e^x is 0 in float, above 89 infinite; the clamp keeps NaN. */
static inline exp_parts split_exp(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(-105.0f), _mm256_min_ps(_mm256_set1_ps(89.0f), x));
    const __m256 k = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(k, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(k, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 q = _mm256_set1_ps(0.001381459879f);
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0.008368716576f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0.041668388993f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0.166665211320f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0.499999940395f));
    return (exp_parts){k, _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r)};
}

/* 2^k for k in -126..128, written into the exponent; 128 gives infinity. */
static inline __m256 power_of_2(__m256 k) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(k), _mm256_set1_epi32(127)), 23));
}

/* v 2^k in two steps, as 2^k alone may be out of range. */
static inline __m256 scale_by_power(__m256 v, __m256 k) {
    const __m256 half = _mm256_round_ps(_mm256_mul_ps(k, _mm256_set1_ps(0.5f)),
                                        _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    return _mm256_mul_ps(_mm256_mul_ps(v, power_of_2(half)), power_of_2(_mm256_sub_ps(k, half)));
}

static inline __m256 vexp(__m256 x) {
    const exp_parts e = split_exp(x);
    return scale_by_power(_mm256_add_ps(_mm256_set1_ps(1), e.tail), e.k);
}

/* e^x - 1 for x <= 0 */
static inline __m256 vexpm1(__m256 x) {
    const exp_parts e = split_exp(x);
    const __m256 one = _mm256_set1_ps(1), power = scale_by_power(one, e.k);
    return _mm256_fmadd_ps(power, e.tail, _mm256_sub_ps(power, one));
}

typedef struct sigmoids { __m256 s, t; } sigmoids;   /* s = sigmoid(z), t = 1 - s = sigmoid(-z) */

static inline sigmoids vsigmoid(__m256 z) {
    const __m256 one = _mm256_set1_ps(1);
    const __m256 e = vexp(_mm256_or_ps(z, _mm256_set1_ps(-0.0f)));   /* e^-|z| */
    const __m256 large = _mm256_div_ps(one, _mm256_add_ps(one, e)), small = _mm256_mul_ps(e, large);
    return (sigmoids){_mm256_blendv_ps(large, small, z), _mm256_blendv_ps(small, large, z)};
}

static inline __m256 vtanh(__m256 x) {
    const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
    const __m256 e = vexpm1(_mm256_mul_ps(_mm256_set1_ps(-2), abs_of(x)));
    const __m256 t = _mm256_div_ps(_mm256_sub_ps(_mm256_setzero_ps(), e),
                                   _mm256_add_ps(_mm256_set1_ps(2), e));
    return _mm256_or_ps(t, sign);
}

/* ---- sums ----------------------------------------------------------------------------------- */

static float dot(const float *a, const float *b, int64_t n) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++)
            s[k] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + k * LANES),
                                   _mm256_loadu_ps(b + i + k * LANES), s[k]);
    for (; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        s[0] = _mm256_fmadd_ps(load(m, a + i), load(m, b + i), s[0]);
    }
    return total(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static double sum_squares(const float *x, int64_t n) {
    __m256d s0 = _mm256_setzero_pd(), s1 = s0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256 v = load(lanes(n - i), x + i);
        s0 = _mm256_fmadd_pd(low(v), low(v), s0);
        s1 = _mm256_fmadd_pd(high(v), high(v), s1);
    }
    return total_pd(_mm256_add_pd(s0, s1));
}

static double dot3(const float *a, const float *b, const float *c, int64_t n) {
    __m256d s0 = _mm256_setzero_pd(), s1 = s0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 u = load(m, a + i), v = load(m, b + i), w = load(m, c + i);
        s0 = _mm256_fmadd_pd(_mm256_mul_pd(low(u), low(v)), low(w), s0);
        s1 = _mm256_fmadd_pd(_mm256_mul_pd(high(u), high(v)), high(w), s1);
    }
    return total_pd(_mm256_add_pd(s0, s1));
}

static float max(const float *x, int64_t n) {
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 most = lowest;
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 v = _mm256_blendv_ps(lowest, load(m, x + i), _mm256_castsi256_ps(m));
        most = _mm256_max_ps(v, most);   /* of a NaN: the second */
    }
    return largest(most);
}

static double exp_sum(float *y, const float *x, float shift, int64_t n) {
    const __m256 minus = _mm256_set1_ps(shift);
    __m256d s0 = _mm256_setzero_pd(), s1 = s0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 e = _mm256_and_ps(_mm256_castsi256_ps(m),
                                       vexp(_mm256_sub_ps(load(m, x + i), minus)));
        store(y + i, m, e);
        s0 = _mm256_add_pd(s0, low(e));
        s1 = _mm256_add_pd(s1, high(e));
    }
    return total_pd(_mm256_add_pd(s0, s1));
}

/* ---- attention scores: 8 queries at a time --------------------------------------------------- */

/* All bits of the lanes of queries [i, i + 8) that see a key. */
static __m256 visible(const lq_scores *s, int64_t i, int64_t key) {
    const __m256i k = _mm256_set1_epi32((int)key);
    const __m256i begin = _mm256_loadu_si256((const __m256i *)(s->begin + i));
    const __m256i end = _mm256_loadu_si256((const __m256i *)(s->end + i));
    return _mm256_castsi256_ps(
        _mm256_andnot_si256(_mm256_cmpgt_epi32(begin, k), _mm256_cmpgt_epi32(end, k)));
}

static void softmax(const lq_scores *s, float *max, float *sum, float *shrink) {
    for (int64_t i = 0; i < s->n; i += LANES) {
        float *const at = s->s + i;
        const __m256i m = lanes(s->n - i);
        const __m256 old = load(m, max + i);
        __m256 most = old, total = _mm256_setzero_ps();
        for (int64_t k = 0; k < s->m; k++) {
            const __m256 x = _mm256_loadu_ps(at + k * LQ_SCORE_QUERIES);
            most = _mm256_max_ps(most, _mm256_blendv_ps(most, x, visible(s, i, k)));
        }
        for (int64_t k = 0; k < s->m; k++) {
            const __m256 x = _mm256_loadu_ps(at + k * LQ_SCORE_QUERIES);
            const __m256 p = _mm256_and_ps(visible(s, i, k), vexp(_mm256_sub_ps(x, most)));
            _mm256_storeu_ps(at + k * LQ_SCORE_QUERIES, p);
            total = _mm256_add_ps(total, p);
        }
        const __m256 same = _mm256_cmp_ps(old, most, _CMP_EQ_OQ);
        const __m256 by =
            _mm256_blendv_ps(vexp(_mm256_sub_ps(old, most)), _mm256_set1_ps(1), same);
        store(shrink + i, m, by);
        store(max + i, m, most);
        store(sum + i, m, _mm256_fmadd_ps(load(m, sum + i), by, total));
    }
}

static void softmax_bwd(const lq_scores *s, float *dp, const float *lse, const float *correction,
                        float scale, float inverse_cap) {
    const __m256 by = _mm256_set1_ps(scale), cap = _mm256_set1_ps(inverse_cap),
                 one = _mm256_set1_ps(1);
    for (int64_t i = 0; i < s->n; i += LANES) {
        const __m256i m = lanes(s->n - i);
        const __m256 minus = load(m, lse + i), less = load(m, correction + i);
        for (int64_t k = 0; k < s->m; k++) {
            float *const at = s->s + k * LQ_SCORE_QUERIES + i, *const d = dp + (at - s->s);
            const __m256 seen = visible(s, i, k), x = _mm256_loadu_ps(at);
            const __m256 p = _mm256_and_ps(seen, vexp(_mm256_sub_ps(x, minus)));
            const __m256 r = _mm256_mul_ps(x, cap);
            const __m256 slope = _mm256_mul_ps(by, _mm256_fnmadd_ps(r, r, one));
            const __m256 e = _mm256_mul_ps(p, _mm256_sub_ps(_mm256_loadu_ps(d), less));
            _mm256_storeu_ps(at, p);
            _mm256_storeu_ps(d, _mm256_and_ps(seen, _mm256_mul_ps(e, slope)));
        }
    }
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void axpy(float *y, float alpha, const float *x, int64_t n) {
    const __m256 a = _mm256_set1_ps(alpha);
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        store(y + i, m, _mm256_fmadd_ps(a, load(m, x + i), load(m, y + i)));
    }
}

static void scale(float *y, float alpha, int64_t n) {
    const __m256 a = _mm256_set1_ps(alpha);
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        store(y + i, m, _mm256_mul_ps(a, load(m, y + i)));
    }
}

static void add(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        store(y + i, m, _mm256_add_ps(load(m, a + i), load(m, b + i)));
    }
}

static void rmsnorm(float *y, const float *x, const float *w, float inv_rms, int64_t n) {
    const __m256 r = _mm256_set1_ps(inv_rms);
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        store(y + i, m, _mm256_mul_ps(_mm256_mul_ps(load(m, x + i), r), load(m, w + i)));
    }
}

static void rmsnorm_bwd(float *dx, const float *x, const float *w, const float *dy, float inv_rms,
                        float coefficient, int64_t n) {
    const __m256 r = _mm256_set1_ps(inv_rms), c = _mm256_set1_ps(coefficient);
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 dyw = _mm256_mul_ps(load(m, dy + i), load(m, w + i));
        const __m256 d = _mm256_fmadd_ps(r, dyw, _mm256_mul_ps(c, load(m, x + i)));
        store(dx + i, m, _mm256_add_ps(load(m, dx + i), d));
    }
}

static void tanh_cap(float *y, const float *x, float cap, int64_t n) {
    const __m256 c = _mm256_set1_ps(cap);
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        store(y + i, m, _mm256_mul_ps(c, vtanh(_mm256_div_ps(load(m, x + i), c))));
    }
}

/* ---- gated activations ---------------------------------------------------------------------- */

/* act(g) = g s, its derivative is s + g s t slope; see cpu_ref.c. */
static inline void gate_backward(float *dgate, float *dup, __m256i m, __m256 g, sigmoids z,
                                 __m256 slope, __m256 up, __m256 dy) {
    const __m256 act = _mm256_mul_ps(g, z.s);
    if (dgate) {
        const __m256 derivative = _mm256_fmadd_ps(_mm256_mul_ps(act, z.t), slope, z.s);
        store(dgate, m, _mm256_fmadd_ps(_mm256_mul_ps(dy, up), derivative, load(m, dgate)));
    }
    if (dup) store(dup, m, _mm256_fmadd_ps(dy, act, load(m, dup)));
}

static void silu_mul(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 g = load(m, gate + i);
        store(y + i, m, _mm256_mul_ps(_mm256_mul_ps(g, vsigmoid(g).s), load(m, up + i)));
    }
}

static void silu_mul_bwd(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 g = load(m, gate + i);
        gate_backward(dgate ? dgate + i : NULL, dup ? dup + i : NULL, m, g, vsigmoid(g),
                      _mm256_set1_ps(1), load(m, up + i), load(m, dy + i));
    }
}

static const float gelu_k = 1.5957691216057308f;              /* 2 sqrt(2/pi) */
static const float gelu_k3 = 1.5957691216057308f * 0.044715f;

/* g (k + k3 g^2) */
static __m256 gelu_argument(__m256 g) {
    const __m256 square = _mm256_mul_ps(g, g);
    return _mm256_mul_ps(g,
                         _mm256_fmadd_ps(_mm256_set1_ps(gelu_k3), square, _mm256_set1_ps(gelu_k)));
}

static void gelu_mul(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 g = load(m, gate + i);
        store(y + i, m,
              _mm256_mul_ps(_mm256_mul_ps(g, vsigmoid(gelu_argument(g)).s), load(m, up + i)));
    }
}

static void gelu_mul_bwd(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __m256i m = lanes(n - i);
        const __m256 g = load(m, gate + i);
        const __m256 slope = _mm256_fmadd_ps(_mm256_set1_ps(3 * gelu_k3), _mm256_mul_ps(g, g),
                                             _mm256_set1_ps(gelu_k));
        gate_backward(dgate ? dgate + i : NULL, dup ? dup + i : NULL, m, g,
                      vsigmoid(gelu_argument(g)), slope, load(m, up + i), load(m, dy + i));
    }
}

/* ---- rope ----------------------------------------------------------------------------------- */

static void put(float *y, __m256i m, __m256 v, bool adds) {
    store(y, m, adds ? _mm256_add_ps(load(m, y), v) : v);
}

/* Pairs (i, i + n_pairs): 8 pairs at a time. */
static void rope_halves(float *y, const float *x, const float *cos, const float *sin,
                        int64_t n_pairs, __m256 sign, bool adds) {
    for (int64_t i = 0; i < n_pairs; i += LANES) {
        const __m256i m = lanes(n_pairs - i);
        const __m256 a = load(m, x + i), b = load(m, x + n_pairs + i);
        const __m256 c = load(m, cos + i), s = _mm256_mul_ps(sign, load(m, sin + i));
        put(y + i, m, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)), adds);
        put(y + n_pairs + i, m, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)), adds);
    }
}

/* Pairs (2i, 2i + 1): 4 pairs at a time, cos and sin of a pair in both its lanes. */
static void rope_neighbours(float *y, const float *x, const float *cos, const float *sin,
                            int64_t n_pairs, __m256 sign, bool adds) {
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    for (int64_t i = 0; i < n_pairs; i += LANES / 2) {
        const __m256i m = lanes(2 * (n_pairs - i)), half = _mm256_and_si256(m, lanes(n_pairs - i));
        const __m256 c = _mm256_permutevar8x32_ps(load(half, cos + i), twice);
        const __m256 s = _mm256_mul_ps(sign, _mm256_permutevar8x32_ps(load(half, sin + i), twice));
        const __m256 v = load(m, x + 2 * i), swapped = _mm256_permute_ps(v, 0xb1);
        put(y + 2 * i, m, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(swapped, s)), adds);
    }
}

static void rope(float *y, const float *x, const float *cos, const float *sin,
                 const lq_rope_row *row) {
    const __m256 sign = _mm256_set1_ps(row->sign);
    for (int64_t h = 0; h < row->n_heads; h++, x += row->head_dim, y += row->head_dim)
        if (row->neox) rope_halves(y, x, cos, sin, row->n_pairs, sign, row->adds);
        else rope_neighbours(y, x, cos, sin, row->n_pairs, sign, row->adds);
}

const lq_cpu lq_cpu_avx2 = {
    .name = "avx2",
    .level = LQ_LEVEL_AVX2,
    .dot = dot,
    .axpy = axpy,
    .scale = scale,
    .add = add,
    .max = max,
    .sum_squares = sum_squares,
    .dot3 = dot3,
    .exp_sum = exp_sum,
    .softmax = softmax,
    .softmax_bwd = softmax_bwd,
    .rmsnorm = rmsnorm,
    .rmsnorm_bwd = rmsnorm_bwd,
    .silu_mul = silu_mul,
    .silu_mul_bwd = silu_mul_bwd,
    .gelu_mul = gelu_mul,
    .gelu_mul_bwd = gelu_mul_bwd,
    .tanh_cap = tanh_cap,
    .rope = rope,
};
