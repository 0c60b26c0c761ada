/* Attention with narrow heads with AVX-512: 16 queries lie in the lanes, elements of a key and a
 * value are broadcast from where they lie. Heads of up to 8 numbers and of up to 16 are two
 * instances of the same code. Exponents are of 2: the queries are scaled by log2(e) besides. */
#include "narrow.h"
#include "cpu_tables.h"
#include "scores_avx512.h"
#include "transpose_avx512.h"

#include <math.h>
#include <string.h>

enum { HALF = LQ_NARROW_HEAD / 2, CHUNK = 8, SOME_KEYS = 64 };

#define LN_2 0.693147181f

/* ---- 16 queries ------------------------------------------------------------------------------ */

/* Queries [first, first + rows), and what they see. */
typedef struct group {
    int64_t first, rows;
    __mmask16 lanes;
    seen seen;
} group;

static group make_group(const lq_narrow *b, int64_t first) {
    const int64_t rows = lq_min64(LANES, b->scores->n - first);
    return (group){.first = first, .rows = rows, .lanes = lanes(rows),
                   .seen = seen_by(b->scores, first)};
}

/* Elements of the group's rows, times factor: out[e] has element e of each. */
INLINE void load_columns(__m512 out[LANES], const float *rows, int64_t ld, const group *g,
                         int64_t head_dim, float factor) {
    const __mmask16 elements = lanes(head_dim);
    const __m512 by = _mm512_set1_ps(factor);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        out[i] = i < g->rows ? _mm512_mul_ps(by, load(elements, rows + (g->first + i) * ld))
                             : _mm512_setzero_ps();
    transpose(out);
}

/* The sum over e of x[e] row[e]. */
INLINE __m512 project(const __m512 x[], const float *row, const int D, int64_t head_dim) {
    __m512 even = _mm512_mul_ps(x[0], _mm512_set1_ps(row[0])), odd = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int e = 1; e < D; e++) {
        if (D != head_dim && e >= head_dim) break;
        if (e % 2) odd = _mm512_fmadd_ps(x[e], _mm512_set1_ps(row[e]), odd);
        else even = _mm512_fmadd_ps(x[e], _mm512_set1_ps(row[e]), even);
    }
    return _mm512_add_ps(even, odd);
}

/* sum[e] += factor row[e] */
INLINE void accumulate(__m512 sum[], __m512 factor, const float *row, const int D,
                       int64_t head_dim) {
#pragma GCC unroll 16
    for (int e = 0; e < D; e++) {
        if (D != head_dim && e >= head_dim) break;
        sum[e] = _mm512_fmadd_ps(factor, _mm512_set1_ps(row[e]), sum[e]);
    }
}

/* ---- forward -------------------------------------------------------------------------------- */

typedef struct running { __m512 max, sum, out[LANES]; } running;

/* The scores of a group's keys, in passes of which each keeps all it needs in registers. */
typedef struct key_scores { _Alignas(64) float of[LQ_NARROW_KEYS][LANES]; } key_scores;

/* Keys [key, stop): their scores and the maximum; masked: some of them some queries do not see. */
INLINE void score_keys(const lq_narrow *b, const group *g, const __m512 q[], int64_t key,
                       int64_t stop, const bool masked, key_scores *to, running *run, const int D,
                       int64_t head_dim) {
    const __m512 least = _mm512_set1_ps(-INFINITY);
    __m512 max = run->max;
    for (; key < stop; key++) {
        __m512 s = project(q, b->k + key * b->kv_ld, D, head_dim);
        if (masked) s = _mm512_mask_mov_ps(least, who_sees(&g->seen, key), s);
        _mm512_store_ps(to->of[key], s);
        max = _mm512_max_ps(max, s);
    }
    run->max = max;
}

INLINE void add_keys(const lq_narrow *b, const group *g, int64_t key, int64_t stop,
                     const bool masked, const key_scores *from, running *run, const int D,
                     int64_t head_dim) {
    running r = *run;
    for (; key < stop; key++) {
        __m512 p = vexp2(_mm512_sub_ps(_mm512_load_ps(from->of[key]), r.max));
        if (masked) p = _mm512_maskz_mov_ps(who_sees(&g->seen, key), p);
        r.sum = _mm512_add_ps(r.sum, p);
        accumulate(r.out, p, b->v + key * b->kv_ld, D, head_dim);
    }
    *run = r;
}

INLINE void forward_group(const lq_narrow *b, const group *g, float *max, float *sum, float *out,
                          const int D, int64_t head_dim) {
    const __m512 to_log2 = _mm512_set1_ps(LOG2_E), one = _mm512_set1_ps(1);
    const __m512 old = _mm512_mul_ps(to_log2, load(g->lanes, max + g->first));
    __m512 q[LANES];
    load_columns(q, b->q, b->q_ld, g, head_dim, b->scale * LOG2_E);
    running run = {.max = old};
    run.sum = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int e = 0; e < LANES; e++) run.out[e] = _mm512_setzero_ps();
    key_scores s;
    score_keys(b, g, q, g->seen.first, g->seen.all_begin, true, &s, &run, D, head_dim);
    score_keys(b, g, q, g->seen.all_begin, g->seen.all_end, false, &s, &run, D, head_dim);
    score_keys(b, g, q, g->seen.all_end, g->seen.stop, true, &s, &run, D, head_dim);
    add_keys(b, g, g->seen.first, g->seen.all_begin, true, &s, &run, D, head_dim);
    add_keys(b, g, g->seen.all_begin, g->seen.all_end, false, &s, &run, D, head_dim);
    add_keys(b, g, g->seen.all_end, g->seen.stop, true, &s, &run, D, head_dim);
    const __mmask16 same = _mm512_cmp_ps_mask(old, run.max, _CMP_EQ_OQ);
    const __m512 shrink = _mm512_mask_mov_ps(vexp2(_mm512_sub_ps(old, run.max)), same, one);
    store(sum + g->first, g->lanes,
          _mm512_fmadd_ps(load(g->lanes, sum + g->first), shrink, run.sum));
    store(max + g->first, g->lanes, _mm512_mul_ps(run.max, _mm512_set1_ps(LN_2)));
    float by[LANES];
    _mm512_storeu_ps(by, shrink);
    transpose(run.out);
    const __mmask16 elements = lanes(head_dim);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        float *const row = out + (g->first + i) * b->q_ld;
        if (i < g->rows)
            store(row, elements,
                  _mm512_fmadd_ps(load(elements, row), _mm512_set1_ps(by[i]), run.out[i]));
    }
}

static void forward(const lq_narrow *b, float *max, float *sum, float *out) {
    for (int64_t i = 0; i < b->scores->n; i += LANES) {
        const group g = make_group(b, i);
        if (g.seen.first >= g.seen.stop) continue;
        if (b->head_dim == HALF) forward_group(b, &g, max, sum, out, HALF, HALF);
        else forward_group(b, &g, max, sum, out, LQ_NARROW_HEAD, b->head_dim);
    }
}

/* ---- backward ------------------------------------------------------------------------------- */

/* Of a key and 16 queries: p and ds / scale side by side, queries in the order below. */
typedef struct pairs { _Alignas(64) float of[SOME_KEYS][2 * LANES]; } pairs;

/* What interleaving two vectors, a quarter at a time, makes of the order of queries. */
static const int order[LANES] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};

/* dv and dk of a key, element by element side by side: 2 D numbers a key. */
typedef struct sums { _Alignas(64) float of[(LQ_NARROW_KEYS + CHUNK) * 2 * LQ_NARROW_HEAD]; } sums;

typedef struct columns { __m512 q[LANES], dout[LANES], dq[LANES], lse, correction; } columns;

/* p of keys [key, stop), the first of them at to->of[0]. */
INLINE void weigh_keys(const lq_narrow *b, const group *g, const columns *c, int64_t first,
                       int64_t key, int64_t stop, const bool masked, pairs *to, const int D,
                       int64_t head_dim) {
    for (; key < stop; key++) {
        const __m512 s = project(c->q, b->k + key * b->kv_ld, D, head_dim);
        __m512 p = vexp2(_mm512_sub_ps(s, c->lse));
        if (masked) p = _mm512_maskz_mov_ps(who_sees(&g->seen, key), p);
        _mm512_store_ps(to->of[key - first], p);
    }
}

/* ds goes beside p, and into dq. */
INLINE void differ_keys(const lq_narrow *b, columns *c, int64_t first, int64_t stop, pairs *to,
                        const int D, int64_t head_dim) {
    __m512 dq[LANES];
    memcpy(dq, c->dq, sizeof dq);
    for (int64_t key = first; key < stop; key++) {
        float *const at = to->of[key - first];
        const __m512 p = _mm512_load_ps(at);
        const __m512 dp = project(c->dout, b->v + key * b->kv_ld, D, head_dim);
        const __m512 ds = _mm512_mul_ps(p, _mm512_sub_ps(dp, c->correction));
        accumulate(dq, ds, b->k + key * b->kv_ld, D, head_dim);
        _mm512_store_ps(at, _mm512_unpacklo_ps(p, ds));
        _mm512_store_ps(at + LANES, _mm512_unpackhi_ps(p, ds));
    }
    memcpy(c->dq, dq, sizeof dq);
}

/* with (D/8 vectors a query): dout and scale q, element by element side by side. */
INLINE void interleave(__m512 with[LANES][2], const lq_narrow *b, const lq_narrow_grad *grad,
                       const group *g, const int D) {
    const __mmask16 elements = lanes(b->head_dim);
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for (int i = 0; i < LANES; i++) {
        const int64_t row = order[i] < g->rows ? (g->first + order[i]) * b->q_ld : -1;
        const __m512 q = row < 0 ? _mm512_setzero_ps()
                                 : _mm512_mul_ps(_mm512_set1_ps(b->scale),
                                                 load(elements, b->q + row));
        const __m512 dout = row < 0 ? _mm512_setzero_ps() : load(elements, grad->dout + row);
        with[i][0] = _mm512_permutex2var_ps(dout, low, q);
        if (D > HALF) with[i][1] = _mm512_permutex2var_ps(dout, high, q);
    }
}

/* Adds the pairs of CHUNK keys times what they go with to their sums. */
INLINE void add_products(float *to, const float from[][2 * LANES],
                         const __m512 with[LANES][2], const int D) {
    const int vectors = D / HALF;
    __m512 sum[CHUNK][2];
#pragma GCC unroll 8
    for (int j = 0; j < CHUNK; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[j][v] = _mm512_load_ps(to + j * 2 * D + v * LANES);
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i++)
#pragma GCC unroll 8
        for (int j = 0; j < CHUNK; j++) {
            double pair;
            memcpy(&pair, from[j] + 2 * i, sizeof pair);
            const __m512 both = _mm512_castpd_ps(_mm512_set1_pd(pair));
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[j][v] = _mm512_fmadd_ps(both, with[i][v], sum[j][v]);
        }
#pragma GCC unroll 8
    for (int j = 0; j < CHUNK; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            _mm512_store_ps(to + j * 2 * D + v * LANES, sum[j][v]);
}

INLINE void backward_group(const lq_narrow *b, const lq_narrow_grad *grad, const group *g,
                           pairs *p, sums *to, const int D, int64_t head_dim) {
    columns c;
    __m512 with[LANES][2];
    load_columns(c.q, b->q, b->q_ld, g, head_dim, b->scale * LOG2_E);
    load_columns(c.dout, grad->dout, b->q_ld, g, head_dim, 1);
    c.lse = _mm512_mul_ps(_mm512_set1_ps(LOG2_E), load(g->lanes, grad->lse + g->first));
    c.correction = load(g->lanes, grad->correction + g->first);
#pragma GCC unroll 16
    for (int e = 0; e < LANES; e++) c.dq[e] = _mm512_setzero_ps();
    interleave(with, b, grad, g, D);
    for (int64_t first = g->seen.first; first < g->seen.stop; first += SOME_KEYS) {
        const int64_t stop = lq_min64(g->seen.stop, first + SOME_KEYS);
        const int64_t all = lq_min64(stop, lq_max64(first, g->seen.all_begin));
        const int64_t some = lq_max64(all, lq_min64(stop, g->seen.all_end));
        weigh_keys(b, g, &c, first, first, all, true, p, D, head_dim);
        weigh_keys(b, g, &c, first, all, some, false, p, D, head_dim);
        weigh_keys(b, g, &c, first, some, stop, true, p, D, head_dim);
        differ_keys(b, &c, first, stop, p, D, head_dim);
        for (int64_t i = stop - first; i % CHUNK; i++) memset(p->of[i], 0, sizeof p->of[i]);
        for (int64_t i = 0; i < stop - first; i += CHUNK)
            add_products(to->of + (first + i) * 2 * D, p->of + i, with, D);
    }
    if (!grad->dq) return;
    transpose(c.dq);
    const __mmask16 elements = lanes(head_dim);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        float *const row = grad->dq + (g->first + i) * b->q_ld;
        if (i < g->rows)
            store(row, elements, _mm512_fmadd_ps(_mm512_set1_ps(b->scale), c.dq[i],
                                                 load(elements, row)));
    }
}

/* row += what `which` picks out of a and c. */
INLINE void add_row(float *row, __mmask16 elements, __m512 a, __m512i which, __m512 c) {
    store(row, elements, _mm512_add_ps(load(elements, row), _mm512_permutex2var_ps(a, which, c)));
}

/* dv and dk (rows head_dim apart) += the sums, two vectors at a time: one row, or two of HALF. */
INLINE void add_sums(const lq_narrow *b, const lq_narrow_grad *grad, const sums *from,
                     int64_t begin, int64_t end, const int D) {
    const __m512i even =
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (int64_t key = begin; key < end; key += LANES / D) {
        const float *const of = from->of + key * 2 * D;
        const __mmask16 elements = lanes(D == HALF ? (end - key) * HALF : b->head_dim);
        const __m512 a = _mm512_loadu_ps(of), c = _mm512_loadu_ps(of + LANES);
        if (grad->dv) add_row(grad->dv + key * b->head_dim, elements, a, even, c);
        if (grad->dk) add_row(grad->dk + key * b->head_dim, elements, a, odd, c);
    }
}

INLINE void backward_block(const lq_narrow *b, const lq_narrow_grad *grad, const int D,
                           int64_t head_dim) {
    pairs p;
    sums to;
    int64_t begin = b->scores->m, end = 0;
    memset(to.of, 0, (size_t)((b->scores->m + CHUNK) * 2 * D) * sizeof to.of[0]);
    for (int64_t i = 0; i < b->scores->n; i += LANES) {
        const group g = make_group(b, i);
        if (g.seen.first >= g.seen.stop) continue;
        backward_group(b, grad, &g, &p, &to, D, head_dim);
        begin = lq_min64(begin, g.seen.first);
        end = lq_max64(end, g.seen.stop);
    }
    add_sums(b, grad, &to, begin, end, D);
}

static void backward(const lq_narrow *b, const lq_narrow_grad *grad) {
    if (b->head_dim == HALF) backward_block(b, grad, HALF, HALF);
    else backward_block(b, grad, LQ_NARROW_HEAD, b->head_dim);
}

const lq_narrow_kernel lq_narrow_avx512 = {forward, backward};
