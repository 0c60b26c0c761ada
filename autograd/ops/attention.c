/* attention: causal, grouped-query, with segments and a window, in blocks of queries and keys, so
 * that memory is linear in the length (Milakov & Gimelshein 2018, online softmax; Dao et al. 2022).
 * Per head, with s_tj = cap(scale q_t.k_j), L_t = log sum_j exp(s_tj) and p = exp(s - L):
 *   out_t = sum_j p_tj v_j;  dv_j = sum_t p_tj dout_t
 *   ds_tj = p_tj (dout_t.v_j - dout_t.out_t) scale (1 - (s_tj/cap)^2)
 *   dq_t = sum_j ds_tj k_j;  dk_j = sum_t ds_tj q_t
 * ALiBi adds slope (j - t) to s_tj, which changes no derivative. Blocks without a visible pair are
 * skipped. Forward shares out (head, query block) pairs, backward query heads: each has its own dk
 * and dv, added up per key head at the end. */
#include "attention_parts.h"
#include "blas.h"
#include "cpu.h"
#include "ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { Q, K, V, STARTS, K_CACHE, V_CACHE, N_IN };
/* A block of scores is 64 KiB, on the stack. */
enum { BQ = LQ_ATTENTION_QUERIES, BK = LQ_ATTENTION_KEYS };
enum { PARALLEL_PRODUCTS = 1 << 18 };

static lq_status check_rows(const lq_tensor *t, const char *name, int64_t cols) {
    if (lq_is_activation_format(t->fmt) && t->ndim == 2 && t->dim[1] == cols) return LQ_OK;
    return lq_fail(LQ_ESHAPE, "attention: %s is %s with rows of %lld, wanted f32 with %lld", name,
                   t->fmt->name, (long long)lq_cols(t), (long long)cols);
}

static lq_status shape(lq_node *node) {
    const lq_attention_attr *attr = node->attr;
    if (attr->head_dim < 1 || attr->n_head_kv < 1 || attr->n_head < 1 ||
        attr->n_head % attr->n_head_kv)
        return lq_fail(LQ_ESHAPE,
                       "attention: %d query heads for %d key heads of size %d; wanted a multiple",
                       attr->n_head, attr->n_head_kv, attr->head_dim);
    if (attr->alibi > 0 && attr->softcap > 0)
        return lq_fail(LQ_EUNSUPPORTED, "attention: ALiBi together with a soft cap");
    const int64_t cols = (int64_t)attr->n_head * attr->head_dim;
    const int64_t kv_cols = (int64_t)attr->n_head_kv * attr->head_dim;
    LQ_TRY(check_rows(node->in[Q], "q", cols));
    LQ_TRY(check_rows(node->in[K], "k", kv_cols));
    LQ_TRY(check_rows(node->in[V], "v", kv_cols));
    if (!node->in[K_CACHE] != !node->in[V_CACHE])
        return lq_fail(LQ_ESHAPE, "attention: one cache without the other");
    if (node->in[K_CACHE]) LQ_TRY(check_rows(node->in[K_CACHE], "the key cache", kv_cols));
    if (node->in[V_CACHE]) LQ_TRY(check_rows(node->in[V_CACHE], "the value cache", kv_cols));
    if (node->in[STARTS]->fmt != &lq_i32)
        return lq_fail(LQ_ESHAPE, "attention: starts are %s, wanted i32",
                       node->in[STARTS]->fmt->name);
    lq_tensor *out = node->out, *saved = node->saved; /* saved (N,H): L */
    out->fmt = saved->fmt = &lq_f32;
    out->ndim = saved->ndim = 2;
    out->dim[0] = saved->dim[0] = node->in[Q]->dim[0];
    out->dim[1] = cols;
    saved->dim[1] = attr->n_head;
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(Q) | LQ_IN(K) | LQ_IN(V) | LQ_IN(STARTS) | LQ_OUT;
}

static lq_attention_job make_job(const lq_node *node, const lq_run *run) {
    const lq_attention_attr *attr = node->attr;
    const bool cached = node->in[K_CACHE] != NULL;
    lq_attention_job j = {.attr = attr, .q = lq_data_f32(node->in[Q]),
                          .starts = lq_data_i32(node->in[STARTS]),
                          .n = node->in[Q]->dim[0], .past = cached ? run->n_past : 0,
                          .q_ld = (int64_t)attr->n_head * attr->head_dim,
                          .kv_ld = (int64_t)attr->n_head_kv * attr->head_dim};
    j.k = lq_data_f32(node->in[cached ? K_CACHE : K]);
    j.v = lq_data_f32(node->in[cached ? V_CACHE : V]);
    return j;
}

/* ALiBi (arXiv 2108.12409): powers of 2^(-alibi/P) for the first P heads, P the power of 2 up to H,
 * and for the rest the odd powers of its root. */
static float alibi_slope(const lq_attention_attr *attr, int64_t h) {
    int64_t power = 1;
    if (!(attr->alibi > 0)) return 0;
    while (2 * power <= attr->n_head) power *= 2;
    const double by = h < power ? (double)(h + 1) : (double)(2 * (h - power) + 1) / 2;
    return (float)exp2(-(double)attr->alibi * by / (double)power);
}

/* A block of scores: queries [t, t + n) of head h against keys [key, key + m). */
typedef struct block {
    const float *q, *k, *v;  /* at head h, rows t and key */
    int64_t t, n, key, m;
    float slope;             /* ALiBi's; 0: none */
} block;

static block make_block(const lq_attention_job *j, int64_t h, int64_t t, int64_t key,
                        int64_t key_stop) {
    const int64_t d = j->attr->head_dim, kv = kv_head(j, h) * d + key * j->kv_ld;
    return (block){.q = j->q + t * j->q_ld + h * d, .k = j->k + kv, .v = j->v + kv, .t = t,
                   .n = lq_min64(BQ, j->n - t), .key = key, .m = lq_min64(BK, key_stop - key),
                   .slope = alibi_slope(j->attr, h)};
}

/* s += slope (key - query) */
static void add_alibi(const lq_attention_job *j, const block *b, float *s) {
    for (int64_t i = 0; i < b->n; i++) {
        const float first = (float)(b->key - (j->past + b->t + i));
        for (int64_t k = 0; k < b->m; k++) s[i * BK + k] += b->slope * (first + (float)k);
    }
}

/* s (n,m) = cap(scale q k^T), plus ALiBi */
static void make_scores(const lq_attention_job *j, const block *b, float *s) {
    const float cap = j->attr->softcap;
    lq_gemm_serial(s, BK, 0, j->attr->scale, (lq_mat){b->q, j->q_ld, false},
                   (lq_mat){b->k, j->kv_ld, true}, b->n, b->m, j->attr->head_dim);
    if (b->slope > 0) add_alibi(j, b, s);
    if (cap <= 0) return;
    for (int64_t i = 0; i < b->n; i++)
        lq_cpu_kernels()->tanh_cap(s + i * BK, s + i * BK, cap, b->m);
}

/* p = exp(s - shift) where visible, else 0. Returns the sum. */
static double exp_row(float *p, const float *s, float shift, int64_t begin, int64_t end,
                      int64_t m) {
    memset(p, 0, (size_t)begin * sizeof *p);
    memset(p + end, 0, (size_t)(m - end) * sizeof *p);
    return lq_cpu_kernels()->exp_sum(p + begin, s + begin, shift, end - begin);
}

/* ---- forward -------------------------------------------------------------------------------- */

/* Running maximum and sum of a block of queries. */
typedef struct softmax {
    float max[BQ];
    double sum[BQ];
} softmax;

/* Adds a key block: s becomes p relative to the new maximum, out and the sum are rescaled to it. */
static void online_softmax(const lq_attention_job *j, const block *b, float *s, softmax *state,
                           float *out) {
    const lq_cpu *cpu = lq_cpu_kernels();
    for (int64_t i = 0; i < b->n; i++) {
        float *const row = s + i * BK;
        int64_t begin, end;
        visible_keys(j, b->t + i, b->key, b->m, &begin, &end);
        const float old = state->max[i], most = fmaxf(old, cpu->max(row + begin, end - begin));
        if (begin < end && most > old) {
            const float shrink = expf(old - most); /* the first time 0 */
            cpu->scale(out + i * j->q_ld, shrink, j->attr->head_dim);
            state->sum[i] *= (double)shrink;
            state->max[i] = most;
        }
        state->sum[i] += exp_row(row, row, state->max[i], begin, end, b->m);
    }
}

/* out rows [t, t + BQ) of head h, and their L. */
static void forward_block(const lq_attention_job *j, int64_t h, int64_t t, float *out_all,
                          float *lse) {
    const int64_t d = j->attr->head_dim, n = lq_min64(BQ, j->n - t);
    float s[BQ * BK];
    softmax state;
    float *const out = out_all + t * j->q_ld + h * d;
    for (int64_t i = 0; i < n; i++) {
        state.max[i] = -INFINITY;
        state.sum[i] = 0;
        memset(out + i * j->q_ld, 0, (size_t)d * sizeof *out);
    }
    const int64_t stop = key_end(j, t + n - 1);
    for (int64_t key = key_begin(j, t); key < stop; key += BK) {
        const block b = make_block(j, h, t, key, stop);
        make_scores(j, &b, s);
        online_softmax(j, &b, s, &state, out);
        lq_gemm_serial(out, j->q_ld, 1, 1, (lq_mat){s, BK, false}, (lq_mat){b.v, j->kv_ld, false},
                       n, d, b.m);
    }
    for (int64_t i = 0; i < n; i++) {
        lq_cpu_kernels()->scale(out + i * j->q_ld, (float)(1 / state.sum[i]), d);
        lse[(t + i) * j->attr->n_head + h] = state.max[i] + (float)log(state.sum[i]);
    }
}

static void store_cache(lq_tensor *cache, const lq_tensor *rows, int64_t n_past) {
    assert(n_past + rows->dim[0] <= cache->dim[0]);
    const size_t row_bytes = (size_t)rows->dim[1] * sizeof(float);
    memcpy(lq_data_f32(cache) + n_past * rows->dim[1], rows->data,
           (size_t)rows->dim[0] * row_bytes);
}

static void forward(const lq_node *node, const lq_run *run) {
    if (node->in[K_CACHE]) {
        store_cache(node->in[K_CACHE], node->in[K], run->n_past);
        store_cache(node->in[V_CACHE], node->in[V], run->n_past);
    }
    const lq_attention_job j = make_job(node, run);
    const bool narrow = lq_attention_is_narrow(j.attr);
    void (*const run_block)(const lq_attention_job *, int64_t, int64_t, float *, float *) =
        narrow ? lq_attention_narrow_forward : forward_block;
    const int64_t blocks = (j.n + BQ - 1) / BQ, tasks = blocks * j.attr->n_head;
    const int64_t products = j.n * (j.past + j.n) * j.q_ld; /* at most; of a token, often few */
#pragma omp parallel for schedule(dynamic, 1) if (products >= PARALLEL_PRODUCTS)
    for (int64_t task = 0; task < tasks; task++) /* the longest first */
        run_block(&j, task % j.attr->n_head, (blocks - 1 - task / j.attr->n_head) * BQ,
                  lq_data_f32(node->out), lq_data_f32(node->saved));
}

/* ---- backward ------------------------------------------------------------------------------- */

/* s becomes p; and dp, which is dout v^T, becomes ds. correction_t = dout_t.out_t */
static void score_gradient(const lq_attention_job *j, const block *b, const float *lse,
                           const float *correction, float *s, float *dp) {
    const float inverse_cap = j->attr->softcap > 0 ? 1 / j->attr->softcap : 0;
    for (int64_t i = 0; i < b->n; i++) {
        float *const rows[] = {s + i * BK, dp + i * BK};
        int64_t begin, end;
        visible_keys(j, b->t + i, b->key, b->m, &begin, &end);
        lq_cpu_kernels()->score_bwd(rows[0] + begin, rows[1] + begin,
                                    lse[(b->t + i) * j->attr->n_head], correction[i],
                                    j->attr->scale, inverse_cap, end - begin);
        for (int r = 0; r < 2; r++) {
            memset(rows[r], 0, (size_t)begin * sizeof(float));
            memset(rows[r] + end, 0, (size_t)(b->m - end) * sizeof(float));
        }
    }
}

static void backward_block(const lq_attention_job *j, const block *b, const lq_attention_grad *g,
                           const float *correction) {
    const int64_t d = j->attr->head_dim;
    float p[BQ * BK], ds[BQ * BK];
    const lq_mat dout = {g->dout + b->t * j->q_ld, j->q_ld, false};
    make_scores(j, b, p);
    lq_gemm_serial(ds, BK, 0, 1, dout, (lq_mat){b->v, j->kv_ld, true}, b->n, b->m, d);
    score_gradient(j, b, g->lse, correction, p, ds);
    if (g->dv)
        lq_gemm_serial(g->dv + b->key * g->kv_ld, g->kv_ld, 1, 1, (lq_mat){p, BK, true}, dout, b->m,
                       d, b->n);
    if (g->dk)
        lq_gemm_serial(g->dk + b->key * g->kv_ld, g->kv_ld, 1, 1, (lq_mat){ds, BK, true},
                       (lq_mat){b->q, j->q_ld, false}, b->m, d, b->n);
    if (g->dq)
        lq_gemm_serial(g->dq + b->t * j->q_ld, j->q_ld, 1, 1, (lq_mat){ds, BK, false},
                       (lq_mat){b->k, j->kv_ld, false}, b->n, d, b->m);
}

static void backward_head(const lq_attention_job *j, int64_t h, const lq_attention_grad *g) {
    for (int64_t t = 0; t < j->n; t += BQ) {
        const int64_t n = lq_min64(BQ, j->n - t), stop = key_end(j, t + n - 1);
        float correction[BQ];
        for (int64_t i = 0; i < n; i++)
            correction[i] = lq_cpu_kernels()->dot(g->dout + (t + i) * j->q_ld,
                                                  g->out + (t + i) * j->q_ld, j->attr->head_dim);
        for (int64_t key = key_begin(j, t); key < stop; key += BK) {
            const block b = make_block(j, h, t, key, stop);
            backward_block(j, &b, g, correction);
        }
    }
}

/* Several query heads share a key head: each then sums its dk and dv in scratch, (H,N,d) each. */
static bool is_grouped(const lq_attention_attr *attr) { return attr->n_head != attr->n_head_kv; }

static size_t scratch(const lq_node *node, bool backward) {
    const lq_attention_attr *attr = node->attr;
    if (!backward || !is_grouped(attr)) return 0;
    return 2 * (size_t)(node->in[Q]->dim[0] * attr->n_head * attr->head_dim) * sizeof(float);
}

/* dst (N,K*d) += the partial sums (H,N,d) of its query heads, in the heads' order. */
static void add_partials(const lq_attention_job *j, const float *partial, float *dst) {
    const int64_t d = j->attr->head_dim;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < j->n; t++)
        for (int64_t h = 0; h < j->attr->n_head; h++)
            lq_cpu_kernels()->axpy(dst + t * j->kv_ld + kv_head(j, h) * d, 1,
                                   partial + (h * j->n + t) * d, d);
}

static lq_attention_grad make_head_grad(const lq_node *node, const lq_attention_job *j, int64_t h,
                                        float *partial) {
    const int64_t d = j->attr->head_dim, kv = kv_head(j, h) * d, size = j->n * d;
    float *const dq = lq_grad_f32(node->in[Q]), *const dk = lq_grad_f32(node->in[K]);
    float *const dv = lq_grad_f32(node->in[V]);
    lq_attention_grad g = {.out = lq_data_f32(node->out) + h * d,
                           .dout = lq_grad_f32(node->out) + h * d,
                           .lse = lq_data_f32(node->saved) + h, .dq = dq ? dq + h * d : NULL};
    if (!is_grouped(j->attr)) {
        g.kv_ld = j->kv_ld;
        g.dk = dk ? dk + kv : NULL;
        g.dv = dv ? dv + kv : NULL;
        return g;
    }
    g.kv_ld = d;
    g.dk = dk ? partial + h * size : NULL;
    g.dv = dv ? partial + (j->attr->n_head + h) * size : NULL;
    if (dk) memset(g.dk, 0, (size_t)size * sizeof(float));
    if (dv) memset(g.dv, 0, (size_t)size * sizeof(float));
    return g;
}

static void backward(const lq_node *node, const lq_run *run) {
    assert(!node->in[K_CACHE]);
    const lq_attention_job j = make_job(node, run);
    const bool narrow = lq_attention_is_narrow(j.attr);
    float *const partial = run->scratch;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t h = 0; h < j.attr->n_head; h++) {
        const lq_attention_grad g = make_head_grad(node, &j, h, partial);
        if (narrow) lq_attention_narrow_backward(&j, h, &g);
        else backward_head(&j, h, &g);
    }
    if (!is_grouped(j.attr)) return;
    if (node->in[K]->grad) add_partials(&j, partial, lq_grad_f32(node->in[K]));
    if (node->in[V]->grad) add_partials(&j, partial + j.n * j.q_ld, lq_grad_f32(node->in[V]));
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward, .scratch = scratch};

const lq_op lq_op_attention = {
    .name = "attention",
    .n_in = N_IN,
    .attr_bytes = sizeof(lq_attention_attr),
    .nograd = LQ_IN(STARTS) | LQ_IN(K_CACHE) | LQ_IN(V_CACHE),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(attention)},
};

lq_tensor *lq_attention(lq_tape *tape, lq_tensor *q, lq_tensor *k, lq_tensor *v, lq_tensor *starts,
                        lq_tensor *k_cache, lq_tensor *v_cache, lq_attention_attr attr) {
    lq_tensor *const in[N_IN] = {q, k, v, starts, k_cache, v_cache};
    return lq_tape_record(tape, &lq_op_attention, &attr, N_IN, in);
}
