/* attention: causal, grouped-query, with segments and a window, in blocks of queries and keys, so
 * that memory is linear in the length (Milakov & Gimelshein 2018, online softmax; Dao et al. 2022).
 * Per head, with s_tj = cap(scale q_t.k_j), L_t = log sum_j exp(s_tj) and p = exp(s - L):
 *   out_t = sum_j p_tj v_j;  dv_j = sum_t p_tj dout_t
 *   ds_tj = p_tj (dout_t.v_j - dout_t.out_t) scale (1 - (s_tj/cap)^2)
 *   dq_t = sum_j ds_tj k_j;  dk_j = sum_t ds_tj q_t
 * ALiBi adds slope (j - t) to s_tj, which changes no derivative. Blocks without a visible pair are
 * skipped. A block of scores has a row for each key: then all products but the scores' read their
 * operands as they lie. Forward shares out (head, query block) pairs; backward (key head, range of
 * queries) pairs, each with its own dk and dv, added up at the end. */
#include "cpu.h"
#include "gemm.h"
#include "narrow.h"
#include "ops.h"
#include "rowwise.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { Q, K, V, STARTS, K_CACHE, V_CACHE, N_IN };
/* A block of scores is 63 KiB, on the stack; as many keys as whole tiles of a product. */
enum { BQ = LQ_SCORE_QUERIES, BK = 252 };
enum { PARALLEL_PRODUCTS = 1 << 18, LEAST_TASKS = 12, MOST_PARTS = 16 };

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
    lq_set_matrix(node->out, node->in[Q]->dim[0], cols);
    lq_set_matrix(node->saved, node->in[Q]->dim[0], attr->n_head); /* L */
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(Q) | LQ_IN(K) | LQ_IN(V) | LQ_IN(STARTS) | LQ_OUT;
}

/* What all blocks of a run share. */
typedef struct job {
    const lq_attention_attr *attr;
    const float *q, *k, *v;  /* q (N, H*d); k and v (rows, K*d), caches or this run's */
    const int32_t *starts;   /* (N) */
    int64_t n, past;         /* rows of q; the key row of q's row 0 */
    int64_t q_ld, kv_ld;
    const lq_narrow_kernel *narrow;   /* NULL: none for these heads */
    int64_t block_keys;               /* at most, of a block of scores */
} job;

/* First and one past the last key row that query row t sees. */
static int64_t key_begin(const job *j, int64_t t) {
    const int64_t window_begin = j->attr->window > 0 ? j->past + t - j->attr->window + 1 : 0;
    return lq_max64(j->starts[t], window_begin);
}

static int64_t key_end(const job *j, int64_t t) { return j->past + t + 1; }

/* Heads that the instruction set has a kernel of their own for; NULL: none. */
static const lq_narrow_kernel *narrow_kernel(const lq_attention_attr *attr) {
    const bool plain = !(attr->softcap > 0) && !(attr->alibi > 0);
    return plain && attr->head_dim <= LQ_NARROW_HEAD ? lq_cpu_kernels()->narrow : NULL;
}

static job make_job(const lq_node *node, const lq_run *run) {
    const lq_attention_attr *attr = node->attr;
    const bool cached = node->in[K_CACHE] != NULL;
    const lq_narrow_kernel *const narrow = narrow_kernel(attr);
    return (job){.attr = attr, .starts = lq_data_i32(node->in[STARTS]),
                 .q = lq_data_f32(node->in[Q]),
                 .k = lq_data_f32(node->in[cached ? K_CACHE : K]),
                 .v = lq_data_f32(node->in[cached ? V_CACHE : V]),
                 .n = node->in[Q]->dim[0], .past = cached ? run->n_past : 0,
                 .q_ld = (int64_t)attr->n_head * attr->head_dim,
                 .kv_ld = (int64_t)attr->n_head_kv * attr->head_dim,
                 .narrow = narrow, .block_keys = narrow ? LQ_NARROW_KEYS : BK};
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

/* Queries [t, t + n) of head h against keys [key, key + m). */
typedef struct block {
    const float *q, *k, *v;  /* at head h, rows t and key */
    int64_t t, n, key, m;
    float slope;             /* ALiBi's; 0: none */
} block;

static block make_block(const job *j, int64_t h, int64_t t, int64_t n, int64_t key,
                        int64_t key_stop) {
    const int64_t d = j->attr->head_dim, group = j->attr->n_head / j->attr->n_head_kv;
    const int64_t kv = h / group * d + key * j->kv_ld;
    return (block){.q = j->q + t * j->q_ld + h * d, .k = j->k + kv, .v = j->v + kv, .t = t, .n = n,
                   .key = key, .m = lq_min64(j->block_keys, key_stop - key),
                   .slope = alibi_slope(j->attr, h)};
}

/* s += slope (key - query) */
static void add_alibi(const job *j, const block *b, float *s) {
    for (int64_t k = 0; k < b->m; k++) {
        const float first = (float)(b->key + k - (j->past + b->t));
        for (int64_t i = 0; i < b->n; i++) s[k * BQ + i] += b->slope * (first - (float)i);
    }
}

/* Who sees what. */
static void look(const job *j, const block *b, lq_scores *scores) {
    scores->m = b->m;
    scores->n = b->n;
    for (int64_t i = 0; i < BQ; i++) {
        int64_t begin = 0, end = 0;
        if (i < b->n) {
            begin = lq_min64(b->m, lq_max64(0, key_begin(j, b->t + i) - b->key));
            end = lq_max64(begin, lq_min64(b->m, key_end(j, b->t + i) - b->key));
        }
        scores->begin[i] = (int32_t)begin;
        scores->end[i] = (int32_t)end;
    }
}

static lq_narrow make_narrow(const job *j, const block *b, const lq_scores *scores) {
    return (lq_narrow){.scores = scores, .head_dim = j->attr->head_dim, .scale = j->attr->scale,
                       .q = b->q, .k = b->k, .v = b->v, .q_ld = j->q_ld, .kv_ld = j->kv_ld};
}

/* s (m,n) = cap(scale k q^T), plus ALiBi. */
static void make_scores(const job *j, const block *b, float *s) {
    const float cap = j->attr->softcap;
    lq_gemm_serial(s, BQ, 0, j->attr->scale, (lq_mat){b->k, j->kv_ld, false},
                   (lq_mat){b->q, j->q_ld, true}, b->m, b->n, j->attr->head_dim);
    if (b->slope > 0) add_alibi(j, b, s);
    if (cap <= 0) return;
    for (int64_t k = 0; k < b->m; k++)
        lq_cpu_kernels()->tanh_cap(s + k * BQ, s + k * BQ, cap, b->n);
}

/* ---- forward -------------------------------------------------------------------------------- */

/* Running maximum and sum of a block of queries; what the last block of keys shrank them by. */
typedef struct softmax {
    float max[BQ], sum[BQ], shrink[BQ];
} softmax;

/* out, its maximum and sum take in a block of keys. */
static void add_block(const job *j, const block *b, softmax *state, float *out) {
    const lq_cpu *cpu = lq_cpu_kernels();
    const int64_t d = j->attr->head_dim;
    float s[BQ * BK];
    lq_scores scores = {.s = s};
    look(j, b, &scores);
    if (j->narrow) {
        const lq_narrow heads = make_narrow(j, b, &scores);
        j->narrow->forward(&heads, state->max, state->sum, out);
        return;
    }
    make_scores(j, b, s);
    cpu->softmax(&scores, state->max, state->sum, state->shrink);
    for (int64_t i = 0; i < b->n; i++)
        if (state->shrink[i] != 1) cpu->scale(out + i * j->q_ld, state->shrink[i], d);
    lq_gemm_serial(out, j->q_ld, 1, 1, (lq_mat){s, BQ, true}, (lq_mat){b->v, j->kv_ld, false},
                   b->n, d, b->m);
}

/* out rows [t, t + BQ) of head h, and their L. */
static void forward_block(const job *j, int64_t h, int64_t t, float *out_all, float *lse) {
    const int64_t d = j->attr->head_dim, n = lq_min64(BQ, j->n - t);
    softmax state;
    float *const out = out_all + t * j->q_ld + h * d;
    for (int64_t i = 0; i < n; i++) {
        state.max[i] = -INFINITY;
        state.sum[i] = 0;
        memset(out + i * j->q_ld, 0, (size_t)d * sizeof *out);
    }
    const int64_t stop = key_end(j, t + n - 1);
    for (int64_t key = key_begin(j, t); key < stop; key += j->block_keys) {
        const block b = make_block(j, h, t, n, key, stop);
        add_block(j, &b, &state, out);
    }
    for (int64_t i = 0; i < n; i++) {
        lq_cpu_kernels()->scale(out + i * j->q_ld, 1 / state.sum[i], d);
        lse[(t + i) * j->attr->n_head + h] = state.max[i] + logf(state.sum[i]);
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
    const job j = make_job(node, run);
    const int64_t blocks = (j.n + BQ - 1) / BQ, tasks = blocks * j.attr->n_head;
    const int64_t products = j.n * (j.past + j.n) * j.q_ld; /* at most; of a token, often few */
#pragma omp parallel for schedule(dynamic, 1) if (products >= PARALLEL_PRODUCTS)
    for (int64_t task = 0; task < tasks; task++) /* head by head, the longest block first */
        forward_block(&j, task / blocks, (blocks - 1 - task % blocks) * BQ,
                      lq_data_f32(node->out), lq_data_f32(node->saved));
}

/* ---- backward ------------------------------------------------------------------------------- */

/* A task's gradients: of one key head and a range of queries. dk and dv are its partial sums, rows
 * d apart. */
typedef struct grads {
    const float *out, *dout, *lse;   /* of all heads */
    float *dq, *dk, *dv;             /* NULL: not wanted */
} grads;

static void backward_block(const job *j, int64_t h, const block *b, const grads *g,
                           const float *lse, const float *correction) {
    const int64_t d = j->attr->head_dim, at = b->t * j->q_ld + h * d;
    const float inverse_cap = j->attr->softcap > 0 ? 1 / j->attr->softcap : 0;
    float p[BQ * BK], ds[BQ * BK];
    lq_scores scores = {.s = p};
    look(j, b, &scores);
    if (j->narrow) {
        const lq_narrow heads = make_narrow(j, b, &scores);
        j->narrow->backward(&heads, &(lq_narrow_grad){g->dout + at, lse, correction,
                                                      g->dq ? g->dq + at : NULL,
                                                      g->dk ? g->dk + b->key * d : NULL,
                                                      g->dv ? g->dv + b->key * d : NULL});
        return;
    }
    make_scores(j, b, p);
    lq_gemm_serial(ds, BQ, 0, 1, (lq_mat){b->v, j->kv_ld, false},
                   (lq_mat){g->dout + at, j->q_ld, true}, b->m, b->n, d);
    lq_cpu_kernels()->softmax_bwd(&scores, ds, lse, correction, j->attr->scale, inverse_cap);
    if (g->dv)
        lq_gemm_serial(g->dv + b->key * d, d, 1, 1, (lq_mat){p, BQ, false},
                       (lq_mat){g->dout + at, j->q_ld, false}, b->m, d, b->n);
    if (g->dk)
        lq_gemm_serial(g->dk + b->key * d, d, 1, 1, (lq_mat){ds, BQ, false},
                       (lq_mat){b->q, j->q_ld, false}, b->m, d, b->n);
    if (g->dq)
        lq_gemm_serial(g->dq + at, j->q_ld, 1, 1, (lq_mat){ds, BQ, true},
                       (lq_mat){b->k, j->kv_ld, false}, b->n, d, b->m);
}

static void backward_queries(const job *j, int64_t h, int64_t t, int64_t n, const grads *g) {
    float lse[BQ], correction[BQ];
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (t + i) * j->q_ld + h * j->attr->head_dim;
        lse[i] = g->lse[(t + i) * j->attr->n_head + h];
        correction[i] = lq_cpu_kernels()->dot(g->dout + at, g->out + at, j->attr->head_dim);
    }
    const int64_t stop = key_end(j, t + n - 1);
    for (int64_t key = key_begin(j, t); key < stop; key += j->block_keys) {
        const block b = make_block(j, h, t, n, key, stop);
        backward_block(j, h, &b, g, lse, correction);
    }
}

/* ---- sharing out backward -------------------------------------------------------------------- */

/* Ranges of queries per key head, for enough tasks to keep all threads busy. */
static int parts_of(const lq_attention_attr *attr) {
    int parts = 1;
    while (parts * attr->n_head_kv < LEAST_TASKS) parts *= 2;
    return parts;
}

/* Part i has the queries [begin[i], begin[i + 1]), which see keys from first[i] on. */
typedef struct parts {
    int n;
    int64_t begin[MOST_PARTS + 1], first[MOST_PARTS];
} parts;

/* Equal shares of the pairs of a query and a key, in whole blocks. */
static parts make_parts(const job *j) {
    parts p = {.n = parts_of(j->attr)};
    int64_t all = 0, so_far = 0;
    int part = 1;
    for (int64_t t = 0; t < j->n; t++) all += key_end(j, t) - key_begin(j, t);
    for (int64_t t = 0; t < j->n; t++) {
        while (t % BQ == 0 && part < p.n && so_far * p.n >= all * part) p.begin[part++] = t;
        so_far += key_end(j, t) - key_begin(j, t);
    }
    while (part <= p.n) p.begin[part++] = j->n;
    for (int i = 0; i < p.n; i++)
        p.first[i] = p.begin[i] < p.begin[i + 1] ? key_begin(j, p.begin[i]) : p.begin[i + 1];
    return p;
}

static int64_t partial_size(const lq_attention_attr *attr, int64_t n) {
    return parts_of(attr) * n * attr->n_head_kv * attr->head_dim;
}

static size_t scratch(const lq_node *node, bool backward) {
    const int64_t n = node->in[Q]->dim[0];
    return backward ? 2 * (size_t)partial_size(node->attr, n) * sizeof(float) : 0;
}

/* Task (kv, part)'s rows of dk or dv; NULL stays. */
static float *partial_at(const job *j, float *partial, int64_t kv, int part) {
    return partial ? partial + (part * j->attr->n_head_kv + kv) * j->n * j->attr->head_dim : NULL;
}

/* The same with the rows that the part sees set to 0. */
static float *clear_partial(const job *j, float *partial, const parts *p, int64_t kv, int part) {
    const int64_t d = j->attr->head_dim, rows = p->begin[part + 1] - p->first[part];
    float *const of = partial_at(j, partial, kv, part);
    if (of) memset(of + p->first[part] * d, 0, (size_t)(rows * d) * sizeof *of);
    return of;
}

static void run_task(const job *j, const grads *all, const parts *p, int64_t kv, int part) {
    const int64_t group = j->attr->n_head / j->attr->n_head_kv, end = p->begin[part + 1];
    grads g = *all;
    if (p->begin[part] == end) return;
    g.dk = clear_partial(j, all->dk, p, kv, part);
    g.dv = clear_partial(j, all->dv, p, kv, part);
    for (int64_t h = kv * group; h < (kv + 1) * group; h++)
        for (int64_t t = p->begin[part]; t < end; t += BQ)
            backward_queries(j, h, t, lq_min64(BQ, end - t), &g);
}

/* dst (N,K*d) += the partial sums, in the parts' order. */
static void add_partials(const job *j, float *partial, const parts *p, float *dst) {
    const int64_t d = j->attr->head_dim;
    if (!dst) return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < j->n; t++)
        for (int64_t kv = 0; kv < j->attr->n_head_kv; kv++)
            for (int part = 0; part < p->n; part++)
                if (p->first[part] <= t && t < p->begin[part + 1])
                    lq_cpu_kernels()->axpy(dst + t * j->kv_ld + kv * d, 1,
                                           partial_at(j, partial, kv, part) + t * d, d);
}

static void backward(const lq_node *node, const lq_run *run) {
    assert(!node->in[K_CACHE]);
    const job j = make_job(node, run);
    const parts p = make_parts(&j);
    const int64_t tasks = p.n * j.attr->n_head_kv;
    float *const dk = lq_grad_f32(node->in[K]), *const dv = lq_grad_f32(node->in[V]);
    float *const partial = run->scratch;
    const grads all = {.out = lq_data_f32(node->out), .dout = lq_grad_f32(node->out),
                       .lse = lq_data_f32(node->saved), .dq = lq_grad_f32(node->in[Q]),
                       .dk = dk ? partial : NULL,
                       .dv = dv ? partial + partial_size(j.attr, j.n) : NULL};
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; task++)
        run_task(&j, &all, &p, task / p.n, (int)(task % p.n));
    add_partials(&j, all.dk, &p, dk);
    add_partials(&j, all.dv, &p, dv);
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
