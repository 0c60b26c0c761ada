/* Attention with narrow heads with AVX-512: 16 keys at a time, an element of the head after the
 * other. Heads of up to 8 numbers and of up to 16 are two instances of the same code. */
#include "cpu_tables.h"
#include "narrow.h"
#include "vector_avx512.h"

#include <math.h>

enum { HALF = LQ_NARROW_HEAD / 2 };

#define INLINE static inline __attribute__((always_inline))

/* 16 rows become 16 columns. */
INLINE void transpose(__m512 v[LANES]) {
    __m512 t[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 4) {
        const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
        const __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
        v[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        v[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        v[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        v[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    /* quarter g of v[4 h + j] is now column 4 g + j of rows 4 h .. 4 h + 3 */
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        t[j] = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x88);
        t[4 + j] = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xdd);
        t[8 + j] = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x88);
        t[12 + j] = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xdd);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0x88);
        v[4 + j] = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0x88);
        v[8 + j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0xdd);
        v[12 + j] = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0xdd);
    }
}

static void gather(lq_narrow_cols *cols, const float *rows, int64_t ld, int64_t m,
                   int64_t head_dim) {
    const __mmask16 elements = lanes(head_dim);
    for (int64_t j = 0; j < m; j += LANES) {
        __m512 v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            v[i] = j + i < m ? load(elements, rows + (j + i) * ld) : _mm512_setzero_ps();
        transpose(v);
#pragma GCC unroll 16
        for (int e = 0; e < LANES; e++) _mm512_store_ps((*cols)[e] + j, v[e]);
    }
}

static void scatter(float *rows, int64_t ld, const lq_narrow_cols *cols, int64_t m,
                    int64_t head_dim) {
    const __mmask16 elements = lanes(head_dim);
    for (int64_t j = 0; j < m; j += LANES) {
        __m512 v[LANES];
#pragma GCC unroll 16
        for (int e = 0; e < LANES; e++) v[e] = _mm512_load_ps((*cols)[e] + j);
        transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            if (j + i >= m) continue;
            float *const row = rows + (j + i) * ld;
            store(row, elements, _mm512_add_ps(load(elements, row), v[i]));
        }
    }
}

/* The lanes of keys [j, j + 16) that a query sees. */
INLINE __mmask16 seen(int64_t j, int64_t begin, int64_t end) {
    const __mmask16 upto = lanes(end - j);
    return begin > j ? upto & (__mmask16)~lanes(begin - j) : upto;
}

/* Element e of D broadcast to all lanes; 0 beyond the head. */
INLINE void spread(__m512 out[], const float *x, const int D, int64_t head_dim) {
#pragma GCC unroll 16
    for (int e = 0; e < D; e++) out[e] = _mm512_set1_ps(e < head_dim ? x[e] : 0);
}

/* Element by element: sum over e of x[e] cols[e][j ..]. */
INLINE __m512 project(const __m512 x[], const lq_narrow_cols *cols, int64_t j, const int D) {
    __m512 even = _mm512_mul_ps(x[0], _mm512_load_ps((*cols)[0] + j));
    __m512 odd = _mm512_mul_ps(x[1], _mm512_load_ps((*cols)[1] + j));
#pragma GCC unroll 8
    for (int e = 2; e < D; e += 2) {
        even = _mm512_fmadd_ps(x[e], _mm512_load_ps((*cols)[e] + j), even);
        odd = _mm512_fmadd_ps(x[e + 1], _mm512_load_ps((*cols)[e + 1] + j), odd);
    }
    return _mm512_add_ps(even, odd);
}

/* Lane e becomes the sum of v[e]'s lanes: each step adds what is left of two, side by side. */
INLINE __m512 sums(const __m512 v[], const int D) {
    __m512 t[HALF];
#pragma GCC unroll 8
    for (int i = 0; i < HALF; i++)
        t[i] = D <= HALF ? _mm512_add_ps(v[i], _mm512_shuffle_f32x4(v[i], v[i], 0x4e))
                         : _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + HALF], 0x44),
                                         _mm512_shuffle_f32x4(v[i], v[i + HALF], 0xee));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(t[i], t[i + 4], 0x88),
                             _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const __m512d x = _mm512_castps_pd(t[i]), y = _mm512_castps_pd(t[i + 2]);
        t[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    t[0] = _mm512_add_ps(_mm512_shuffle_ps(t[0], t[1], 0x88), _mm512_shuffle_ps(t[0], t[1], 0xdd));
    /* quarter by quarter the sums of 0 2 1 3, 8 10 9 11, 4 6 5 7 and 12 14 13 15 */
    const __m512i order =
        _mm512_set_epi32(15, 13, 14, 12, 7, 5, 6, 4, 11, 9, 10, 8, 3, 1, 2, 0);
    return _mm512_permutexvar_ps(order, t[0]);
}

INLINE void forward_row(const lq_narrow *b, int64_t i, float *max, double *sum, float *out,
                        const int D) {
    const int64_t begin = b->begin[i], end = b->end[i], first = begin / LANES * LANES;
    if (begin >= end) return;
    _Alignas(64) float score[LQ_NARROW_KEYS];
    __m512 q[LQ_NARROW_HEAD];
    spread(q, b->q + i * b->q_ld, D, b->head_dim);
    const __m512 scale = _mm512_set1_ps(b->scale), least = _mm512_set1_ps(-INFINITY);
    __m512 most = least;
    for (int64_t j = first; j < end; j += LANES) {
        const __m512 s = _mm512_mul_ps(scale, project(q, b->k, j, D));
        const __m512 visible = _mm512_mask_blend_ps(seen(j, begin, end), least, s);
        _mm512_store_ps(score + j, visible);
        most = _mm512_max_ps(most, visible);
    }
    const float old = *max, top = fmaxf(old, _mm512_reduce_max_ps(most));
    const float shrink = old == top ? 1 : old == -INFINITY ? 0 : expf(old - top);
    __m512 total = _mm512_setzero_ps(), add[LQ_NARROW_HEAD];
#pragma GCC unroll 16
    for (int e = 0; e < D; e++) add[e] = _mm512_setzero_ps();
    const __m512 shift = _mm512_set1_ps(top);
    for (int64_t j = first; j < end; j += LANES) {
        const __m512 p = _mm512_maskz_mov_ps(
            seen(j, begin, end), vexp(_mm512_sub_ps(_mm512_load_ps(score + j), shift)));
        total = _mm512_add_ps(total, p);
#pragma GCC unroll 16
        for (int e = 0; e < D; e++)
            add[e] = _mm512_fmadd_ps(p, _mm512_load_ps((*b->v)[e] + j), add[e]);
    }
    const __mmask16 elements = lanes(b->head_dim);
    store(out, elements,
          _mm512_fmadd_ps(load(elements, out), _mm512_set1_ps(shrink), sums(add, D)));
    *max = top;
    *sum = *sum * (double)shrink + (double)_mm512_reduce_add_ps(total);
}

INLINE void forward_rows(const lq_narrow *b, float *max, double *sum, float *out, const int D) {
    for (int64_t i = 0; i < b->n; i++) forward_row(b, i, max + i, sum + i, out + i * b->q_ld, D);
}

static void forward(const lq_narrow *block, float *max, double *sum, float *out) {
    if (block->head_dim <= HALF) forward_rows(block, max, sum, out, HALF);
    else forward_rows(block, max, sum, out, LQ_NARROW_HEAD);
}

INLINE void accumulate(lq_narrow_cols *cols, int64_t j, __m512 factor, const __m512 x[],
                       const int D) {
#pragma GCC unroll 16
    for (int e = 0; e < D; e++) {
        float *const at = (*cols)[e] + j;
        _mm512_store_ps(at, _mm512_fmadd_ps(factor, x[e], _mm512_load_ps(at)));
    }
}

INLINE void backward_row(const lq_narrow *b, int64_t i, const lq_narrow_grad *g, const int D) {
    const int64_t begin = b->begin[i], end = b->end[i];
    __m512 q[LQ_NARROW_HEAD], dout[LQ_NARROW_HEAD], dq[LQ_NARROW_HEAD];
    spread(q, b->q + i * b->q_ld, D, b->head_dim);
    spread(dout, g->dout + i * b->q_ld, D, b->head_dim);
    spread(dq, NULL, D, 0);
    const __m512 scale = _mm512_set1_ps(b->scale), shift = _mm512_set1_ps(g->lse[i * g->lse_ld]);
    const __m512 correction = _mm512_set1_ps(g->correction[i]);
    for (int64_t j = begin / LANES * LANES; j < end; j += LANES) {
        const __m512 s = _mm512_mul_ps(scale, project(q, b->k, j, D));
        const __m512 p = _mm512_maskz_mov_ps(seen(j, begin, end), vexp(_mm512_sub_ps(s, shift)));
        const __m512 dp = _mm512_sub_ps(project(dout, b->v, j, D), correction);
        const __m512 ds = _mm512_mul_ps(_mm512_mul_ps(p, dp), scale);
        accumulate(g->dv, j, p, dout, D);
        accumulate(g->dk, j, ds, q, D);
#pragma GCC unroll 16
        for (int e = 0; e < D; e++)
            dq[e] = _mm512_fmadd_ps(ds, _mm512_load_ps((*b->k)[e] + j), dq[e]);
    }
    if (!g->dq || begin >= end) return;
    const __mmask16 elements = lanes(b->head_dim);
    float *const out = g->dq + i * b->q_ld;
    store(out, elements, _mm512_add_ps(load(elements, out), sums(dq, D)));
}

INLINE void backward_rows(const lq_narrow *b, const lq_narrow_grad *g, const int D) {
    for (int64_t i = 0; i < b->n; i++) backward_row(b, i, g, D);
}

static void backward(const lq_narrow *block, const lq_narrow_grad *grad) {
    if (block->head_dim <= HALF) backward_rows(block, grad, HALF);
    else backward_rows(block, grad, LQ_NARROW_HEAD);
}

const lq_narrow_kernel lq_narrow_avx512 = {gather, scatter, forward, backward};
