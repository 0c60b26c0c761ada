/* The row kernels with AVX-512: 16 elements at a time, the rest under a mask, so every kernel is
 * one loop. */
#include "cpu_tables.h"
#include "scores_avx512.h"
#include "vector_avx512.h"

#include <immintrin.h>
#include <math.h>

/* ---- sums ----------------------------------------------------------------------------------- */

static float dot(const float *a, const float *b, int64_t n) {
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                   _mm512_setzero_ps()};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++)
            s[k] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + k * LANES),
                                   _mm512_loadu_ps(b + i + k * LANES), s[k]);
    for (; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        s[0] = _mm512_fmadd_ps(load(m, a + i), load(m, b + i), s[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]),
                                              _mm512_add_ps(s[2], s[3])));
}

static double sum_squares(const float *x, int64_t n) {
    __m512d s0 = _mm512_setzero_pd(), s1 = s0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __m512 v = load(lanes(n - i), x + i);
        s0 = _mm512_fmadd_pd(low(v), low(v), s0);
        s1 = _mm512_fmadd_pd(high(v), high(v), s1);
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(s0, s1));
}

static double dot3(const float *a, const float *b, const float *c, int64_t n) {
    __m512d s0 = _mm512_setzero_pd(), s1 = s0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        const __m512 u = load(m, a + i), v = load(m, b + i), w = load(m, c + i);
        s0 = _mm512_fmadd_pd(_mm512_mul_pd(low(u), low(v)), low(w), s0);
        s1 = _mm512_fmadd_pd(_mm512_mul_pd(high(u), high(v)), high(w), s1);
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(s0, s1));
}

static float max(const float *x, int64_t n) {
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        most = _mm512_mask_max_ps(most, m, load(m, x + i), most);   /* of a NaN: the second */
    }
    return _mm512_reduce_max_ps(most);
}

static double exp_sum(float *y, const float *x, float shift, int64_t n) {
    const __m512 minus = _mm512_set1_ps(shift);
    __m512d s0 = _mm512_setzero_pd(), s1 = s0;
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        const __m512 e = _mm512_maskz_mov_ps(m, vexp(_mm512_sub_ps(load(m, x + i), minus)));
        store(y + i, m, e);
        s0 = _mm512_add_pd(s0, low(e));
        s1 = _mm512_add_pd(s1, high(e));
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(s0, s1));
}

/* ---- attention scores: 16 queries at a time -------------------------------------------------- */

static void clear(float *s, int64_t key, int64_t stop) {
    for (; key < stop; key++) _mm512_storeu_ps(s + key * LQ_SCORE_QUERIES, _mm512_setzero_ps());
}

/* The highest score of keys [key, stop); masked: some of them some queries do not see. */
INLINE __m512 highest(const float *at, const seen *c, int64_t key, int64_t stop, const bool masked,
                      __m512 most) {
    for (; key < stop; key++)
        most = _mm512_mask_max_ps(most, masked ? who_sees(c, key) : (__mmask16)-1, most,
                                  _mm512_loadu_ps(at + key * LQ_SCORE_QUERIES));
    return most;
}

/* Scores become p = exp(score - max), max2 being max log2(e); returns total and their sum. */
INLINE __m512 weigh(float *at, const seen *c, int64_t key, int64_t stop, const bool masked,
                    __m512 max2, __m512 total) {
    for (; key < stop; key++) {
        float *const s = at + key * LQ_SCORE_QUERIES;
        __m512 p = vexp2(_mm512_fmsub_ps(_mm512_loadu_ps(s), _mm512_set1_ps(LOG2_E), max2));
        if (masked) p = _mm512_maskz_mov_ps(who_sees(c, key), p);
        _mm512_storeu_ps(s, p);
        total = _mm512_add_ps(total, p);
    }
    return total;
}

static void softmax(const lq_scores *s, float *max, float *sum, float *shrink) {
    for (int64_t i = 0; i < s->n; i += LANES) {
        float *const at = s->s + i;
        const seen c = seen_by(s, i);
        const __mmask16 m = lanes(s->n - i);
        const __m512 old = load(m, max + i);
        __m512 most = highest(at, &c, c.first, c.all_begin, true, old);
        most = highest(at, &c, c.all_begin, c.all_end, false, most);
        most = highest(at, &c, c.all_end, c.stop, true, most);
        const __m512 max2 = _mm512_mul_ps(most, _mm512_set1_ps(LOG2_E));
        clear(at, 0, lq_min64(c.first, s->m));
        __m512 total = weigh(at, &c, c.first, c.all_begin, true, max2, _mm512_setzero_ps());
        total = weigh(at, &c, c.all_begin, c.all_end, false, max2, total);
        total = weigh(at, &c, c.all_end, c.stop, true, max2, total);
        clear(at, c.stop, s->m);
        const __mmask16 same = _mm512_cmp_ps_mask(old, most, _CMP_EQ_OQ);
        const __m512 by = _mm512_mask_mov_ps(vexp(_mm512_sub_ps(old, most)), same,
                                             _mm512_set1_ps(1));
        store(shrink + i, m, by);
        store(max + i, m, most);
        store(sum + i, m, _mm512_fmadd_ps(load(m, sum + i), by, total));
    }
}

/* Of 16 queries log2(e) times L and the correction; scale and 1 / cap in every lane. */
typedef struct row_terms { __m512 lse2, correction, scale, inverse_cap; } row_terms;

INLINE void differ(float *at, float *dp, const seen *c, int64_t key, int64_t stop,
                   const bool masked, const bool capped, const row_terms *r) {
    for (; key < stop; key++) {
        float *const s = at + key * LQ_SCORE_QUERIES, *const d = dp + key * LQ_SCORE_QUERIES;
        const __m512 x = _mm512_loadu_ps(s);
        const __mmask16 mask = masked ? who_sees(c, key) : (__mmask16)-1;
        const __m512 p = _mm512_maskz_mov_ps(
            mask, vexp2(_mm512_fmsub_ps(x, _mm512_set1_ps(LOG2_E), r->lse2)));
        __m512 slope = r->scale;
        if (capped) {
            const __m512 t = _mm512_mul_ps(x, r->inverse_cap);
            slope = _mm512_mul_ps(slope, _mm512_fnmadd_ps(t, t, _mm512_set1_ps(1)));
        }
        const __m512 e = _mm512_mul_ps(p, _mm512_sub_ps(_mm512_loadu_ps(d), r->correction));
        _mm512_storeu_ps(s, p);
        _mm512_storeu_ps(d, _mm512_maskz_mul_ps(mask, e, slope));
    }
}

INLINE void differ_all(float *at, float *dp, const seen *c, const bool capped,
                       const row_terms *r) {
    differ(at, dp, c, c->first, c->all_begin, true, capped, r);
    differ(at, dp, c, c->all_begin, c->all_end, false, capped, r);
    differ(at, dp, c, c->all_end, c->stop, true, capped, r);
}

static void softmax_bwd(const lq_scores *s, float *dp, const float *lse, const float *correction,
                        float scale, float inverse_cap) {
    for (int64_t i = 0; i < s->n; i += LANES) {
        const seen c = seen_by(s, i);
        const __mmask16 m = lanes(s->n - i);
        const row_terms r = {_mm512_mul_ps(load(m, lse + i), _mm512_set1_ps(LOG2_E)),
                             load(m, correction + i), _mm512_set1_ps(scale),
                             _mm512_set1_ps(inverse_cap)};
        clear(s->s + i, 0, lq_min64(c.first, s->m));
        clear(dp + i, 0, lq_min64(c.first, s->m));
        if (inverse_cap > 0) differ_all(s->s + i, dp + i, &c, true, &r);
        else differ_all(s->s + i, dp + i, &c, false, &r);
        clear(s->s + i, c.stop, s->m);
        clear(dp + i, c.stop, s->m);
    }
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void axpy(float *y, float alpha, const float *x, int64_t n) {
    const __m512 a = _mm512_set1_ps(alpha);
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        store(y + i, m, _mm512_fmadd_ps(a, load(m, x + i), load(m, y + i)));
    }
}

static void scale(float *y, float alpha, int64_t n) {
    const __m512 a = _mm512_set1_ps(alpha);
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        store(y + i, m, _mm512_mul_ps(a, load(m, y + i)));
    }
}

static void add(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        store(y + i, m, _mm512_add_ps(load(m, a + i), load(m, b + i)));
    }
}

static void rmsnorm(float *y, const float *x, const float *w, float inv_rms, int64_t n) {
    const __m512 r = _mm512_set1_ps(inv_rms);
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        store(y + i, m, _mm512_mul_ps(_mm512_mul_ps(load(m, x + i), r), load(m, w + i)));
    }
}

static void rmsnorm_bwd(float *dx, const float *x, const float *w, const float *dy, float inv_rms,
                        float coefficient, int64_t n) {
    const __m512 r = _mm512_set1_ps(inv_rms), c = _mm512_set1_ps(coefficient);
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        const __m512 dyw = _mm512_mul_ps(load(m, dy + i), load(m, w + i));
        const __m512 d = _mm512_fmadd_ps(r, dyw, _mm512_mul_ps(c, load(m, x + i)));
        store(dx + i, m, _mm512_add_ps(load(m, dx + i), d));
    }
}

static void tanh_cap(float *y, const float *x, float cap, int64_t n) {
    const __m512 c = _mm512_set1_ps(cap);
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        store(y + i, m, _mm512_mul_ps(c, vtanh(_mm512_div_ps(load(m, x + i), c))));
    }
}

/* ---- gated activations ---------------------------------------------------------------------- */

/* act(g) = g s, its derivative is s + g s t slope; see cpu_ref.c. */
static inline void gate_backward(float *dgate, float *dup, __mmask16 m, __m512 g, sigmoids z,
                                 __m512 slope, __m512 up, __m512 dy) {
    const __m512 act = _mm512_mul_ps(g, z.s);
    if (dgate) {
        const __m512 derivative = _mm512_fmadd_ps(_mm512_mul_ps(act, z.t), slope, z.s);
        store(dgate, m, _mm512_fmadd_ps(_mm512_mul_ps(dy, up), derivative, load(m, dgate)));
    }
    if (dup) store(dup, m, _mm512_fmadd_ps(dy, act, load(m, dup)));
}

static void silu_mul(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        const __m512 g = load(m, gate + i);
        store(y + i, m, _mm512_mul_ps(_mm512_mul_ps(g, vsigmoid(g).s), load(m, up + i)));
    }
}

static void silu_mul_bwd(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        const __m512 g = load(m, gate + i);
        gate_backward(dgate ? dgate + i : NULL, dup ? dup + i : NULL, m, g, vsigmoid(g),
                      _mm512_set1_ps(1), load(m, up + i), load(m, dy + i));
    }
}

static const float gelu_k = 1.5957691216057308f;              /* 2 sqrt(2/pi) */
static const float gelu_k3 = 1.5957691216057308f * 0.044715f;

/* g (k + k3 g^2) */
static __m512 gelu_argument(__m512 g) {
    const __m512 square = _mm512_mul_ps(g, g);
    return _mm512_mul_ps(g,
                         _mm512_fmadd_ps(_mm512_set1_ps(gelu_k3), square, _mm512_set1_ps(gelu_k)));
}

static void gelu_mul(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        const __m512 g = load(m, gate + i);
        store(y + i, m,
              _mm512_mul_ps(_mm512_mul_ps(g, vsigmoid(gelu_argument(g)).s), load(m, up + i)));
    }
}

static void gelu_mul_bwd(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 m = lanes(n - i);
        const __m512 g = load(m, gate + i);
        const __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(3 * gelu_k3), _mm512_mul_ps(g, g),
                                             _mm512_set1_ps(gelu_k));
        gate_backward(dgate ? dgate + i : NULL, dup ? dup + i : NULL, m, g,
                      vsigmoid(gelu_argument(g)), slope, load(m, up + i), load(m, dy + i));
    }
}

/* ---- rope ----------------------------------------------------------------------------------- */

static void put(float *y, __mmask16 m, __m512 v, bool adds) {
    store(y, m, adds ? _mm512_add_ps(load(m, y), v) : v);
}

/* Pairs (i, i + n_pairs): 16 pairs at a time. */
static void rope_halves(float *y, const float *x, const float *cos, const float *sin,
                        int64_t n_pairs, __m512 sign, bool adds) {
    for (int64_t i = 0; i < n_pairs; i += LANES) {
        const __mmask16 m = lanes(n_pairs - i);
        const __m512 a = load(m, x + i), b = load(m, x + n_pairs + i);
        const __m512 c = load(m, cos + i), s = _mm512_mul_ps(sign, load(m, sin + i));
        put(y + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)), adds);
        put(y + n_pairs + i, m, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)), adds);
    }
}

/* Pairs (2i, 2i + 1): 8 pairs at a time, cos and sin of a pair in both its lanes. */
static void rope_neighbours(float *y, const float *x, const float *cos, const float *sin,
                            int64_t n_pairs, __m512 sign, bool adds) {
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (int64_t i = 0; i < n_pairs; i += LANES / 2) {
        const __mmask16 m = lanes(2 * (n_pairs - i)), half = m & lanes(n_pairs - i) & 0xff;
        const __m512 c = _mm512_permutexvar_ps(twice, load(half, cos + i));
        const __m512 s = _mm512_mul_ps(sign, _mm512_permutexvar_ps(twice, load(half, sin + i)));
        const __m512 v = load(m, x + 2 * i), swapped = _mm512_permute_ps(v, 0xb1);
        put(y + 2 * i, m, _mm512_fmaddsub_ps(v, c, _mm512_mul_ps(swapped, s)), adds);
    }
}

/* Heads of 2, 4, 8 or 16 columns, all of which turn: as many as a vector holds at a time. */
static void rope_narrow(float *y, const float *x, const float *cos, const float *sin,
                        const lq_rope_row *row) {
    const int P = (int)row->n_pairs, other = row->neox ? P : 1;
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i pair = _mm512_and_si512(_mm512_srli_epi32(lane, row->neox ? 0 : 1),
                                          _mm512_set1_epi32(P - 1));
    const __m512i partner = _mm512_xor_si512(lane, _mm512_set1_epi32(other));
    const __mmask16 first = _mm512_testn_epi32_mask(lane, _mm512_set1_epi32(other));
    const __m512 c = _mm512_permutexvar_ps(pair, load(lanes(P), cos));
    __m512 s = _mm512_permutexvar_ps(pair, load(lanes(P), sin));
    s = _mm512_mul_ps(s, _mm512_mask_blend_ps(first, _mm512_set1_ps(row->sign),
                                              _mm512_set1_ps(-row->sign)));
    for (int64_t i = 0; i < row->n_heads * row->head_dim; i += LANES) {
        const __mmask16 m = lanes(row->n_heads * row->head_dim - i);
        const __m512 v = load(m, x + i), w = _mm512_permutexvar_ps(partner, v);
        put(y + i, m, _mm512_fmadd_ps(v, c, _mm512_mul_ps(w, s)), row->adds);
    }
}

static bool is_narrow(const lq_rope_row *row) {
    return row->head_dim == 2 * row->n_pairs && row->head_dim <= LANES &&
           (row->head_dim & (row->head_dim - 1)) == 0;
}

static void rope(float *y, const float *x, const float *cos, const float *sin,
                 const lq_rope_row *row) {
    if (is_narrow(row)) {
        rope_narrow(y, x, cos, sin, row);
        return;
    }
    const __m512 sign = _mm512_set1_ps(row->sign);
    for (int64_t h = 0; h < row->n_heads; h++, x += row->head_dim, y += row->head_dim)
        if (row->neox) rope_halves(y, x, cos, sin, row->n_pairs, sign, row->adds);
        else rope_neighbours(y, x, cos, sin, row->n_pairs, sign, row->adds);
}

const lq_cpu lq_cpu_avx512 = {
    .name = "avx512",
    .level = LQ_LEVEL_AVX512,
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
    .gemm = &lq_gemm_avx512,
    .narrow = &lq_narrow_avx512,
};
