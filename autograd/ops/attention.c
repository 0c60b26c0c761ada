/* attention: causal, grouped-query, with segments and a window, in blocks of queries and keys, so
 * that memory is linear in the length (Milakov & Gimelshein 2018, online softmax; Dao et al. 2022).
 * Per head, with s_tj = cap(scale q_t.k_j), L_t = log sum_j exp(s_tj) and p = exp(s - L):
 *   out_t = sum_j p_tj v_j;  dv_j = sum_t p_tj dout_t
 *   ds_tj = p_tj (dout_t.v_j - dout_t.out_t) scale (1 - (s_tj/cap)^2)
 *   dq_t = sum_j ds_tj k_j;  dk_j = sum_t ds_tj q_t
 * ALiBi adds slope (j - t) to s_tj, which changes no derivative. Blocks without a visible pair are
 * skipped. Forward shares out (head, query block) pairs; backward (key head, range of queries)
 * pairs, each with its own dk and dv, added up at the end. */
#include "attention_block.h"
#include "ops.h"
#include "rowwise.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { Q, K, V, STARTS, K_CACHE, V_CACHE, N_IN };
enum { BQ = LQ_ATTN_QUERIES, PARALLEL_PRODUCTS = 1 << 18, LEAST_TASKS = 12, MOST_PARTS = 16 };

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

/* Heads that the instruction set has a kernel of their own for; NULL: none. */
static const lq_narrow_kernel *narrow_kernel(const lq_attention_attr *attr) {
    const bool plain = !(attr->softcap > 0) && !(attr->alibi > 0);
    return plain && attr->head_dim <= LQ_NARROW_HEAD ? lq_cpu_kernels()->narrow : NULL;
}

static lq_attn_job make_job(const lq_node *node, const lq_run *run) {
    const lq_attention_attr *attr = node->attr;
    const bool cached = node->in[K_CACHE] != NULL;
    const lq_narrow_kernel *const narrow = narrow_kernel(attr);
    return (lq_attn_job){.attr = attr, .starts = lq_data_i32(node->in[STARTS]),
                         .q = lq_data_f32(node->in[Q]),
                         .k = lq_data_f32(node->in[cached ? K_CACHE : K]),
                         .v = lq_data_f32(node->in[cached ? V_CACHE : V]),
                         .n = node->in[Q]->dim[0], .past = cached ? run->n_past : 0,
                         .q_ld = (int64_t)attr->n_head * attr->head_dim,
                         .kv_ld = (int64_t)attr->n_head_kv * attr->head_dim,
                         .narrow = narrow, .block_keys = narrow ? LQ_NARROW_KEYS : LQ_ATTN_KEYS};
}

/* ---- forward -------------------------------------------------------------------------------- */

/* out rows [t, t + BQ) of head h, and their L. */
static void forward_block(const lq_attn_job *j, int64_t h, int64_t t, float *out_all, float *lse) {
    const int64_t d = j->attr->head_dim, n = lq_min64(BQ, j->n - t);
    lq_attn_softmax state;
    float *const out = out_all + t * j->q_ld + h * d;
    for (int64_t i = 0; i < n; i++) {
        state.max[i] = -INFINITY;
        state.sum[i] = 0;
        memset(out + i * j->q_ld, 0, (size_t)d * sizeof *out);
    }
    const int64_t stop = lq_attn_key_end(j, t + n - 1);
    for (int64_t key = lq_attn_key_begin(j, t); key < stop; key += j->block_keys) {
        const lq_attn_block b = lq_attn_make_block(j, h, t, n, key, stop);
        lq_attn_add_block(j, &b, &state, out);
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
    const lq_attn_job j = make_job(node, run);
    const int64_t blocks = (j.n + BQ - 1) / BQ, tasks = blocks * j.attr->n_head;
    const int64_t products = j.n * (j.past + j.n) * j.q_ld; /* at most; of a token, often few */
#pragma omp parallel for schedule(dynamic, 1) if (products >= PARALLEL_PRODUCTS)
    for (int64_t task = 0; task < tasks; task++) /* head by head, the longest block first */
        forward_block(&j, task / blocks, (blocks - 1 - task % blocks) * BQ,
                      lq_data_f32(node->out), lq_data_f32(node->saved));
}

/* ---- backward ------------------------------------------------------------------------------- */

static void backward_queries(const lq_attn_job *j, int64_t h, int64_t t, int64_t n,
                             const lq_attn_grads *g) {
    float lse[BQ], correction[BQ];
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (t + i) * j->q_ld + h * j->attr->head_dim;
        lse[i] = g->lse[(t + i) * j->attr->n_head + h];
        correction[i] = lq_cpu_kernels()->dot(g->dout + at, g->out + at, j->attr->head_dim);
        if (g->dq && g->fresh_dq)
            memset(g->dq + at, 0, (size_t)j->attr->head_dim * sizeof *g->dq);
    }
    const int64_t stop = lq_attn_key_end(j, t + n - 1);
    for (int64_t key = lq_attn_key_begin(j, t); key < stop; key += j->block_keys) {
        const lq_attn_block b = lq_attn_make_block(j, h, t, n, key, stop);
        lq_attn_block_backward(j, h, &b, g, lse, correction);
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
static parts make_parts(const lq_attn_job *j) {
    parts p = {.n = parts_of(j->attr)};
    int64_t all = 0, so_far = 0;
    int part = 1;
    for (int64_t t = 0; t < j->n; t++) all += lq_attn_key_end(j, t) - lq_attn_key_begin(j, t);
    for (int64_t t = 0; t < j->n; t++) {
        while (t % BQ == 0 && part < p.n && so_far * p.n >= all * part) p.begin[part++] = t;
        so_far += lq_attn_key_end(j, t) - lq_attn_key_begin(j, t);
    }
    while (part <= p.n) p.begin[part++] = j->n;
    for (int i = 0; i < p.n; i++)
        p.first[i] = p.begin[i] < p.begin[i + 1] ? lq_attn_key_begin(j, p.begin[i])
                                                 : p.begin[i + 1];
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
static float *partial_at(const lq_attn_job *j, float *partial, int64_t kv, int part) {
    return partial ? partial + (part * j->attr->n_head_kv + kv) * j->n * j->attr->head_dim : NULL;
}

/* The same with the rows that the part sees set to 0. */
static float *clear_partial(const lq_attn_job *j, float *partial, const parts *p, int64_t kv,
                            int part) {
    const int64_t d = j->attr->head_dim, rows = p->begin[part + 1] - p->first[part];
    float *const of = partial_at(j, partial, kv, part);
    if (of) memset(of + p->first[part] * d, 0, (size_t)(rows * d) * sizeof *of);
    return of;
}

static void run_task(const lq_attn_job *j, const lq_attn_grads *all, const parts *p, int64_t kv,
                     int part) {
    const int64_t group = j->attr->n_head / j->attr->n_head_kv, end = p->begin[part + 1];
    lq_attn_grads g = *all;
    if (p->begin[part] == end) return;
    g.dk = clear_partial(j, all->dk, p, kv, part);
    g.dv = clear_partial(j, all->dv, p, kv, part);
    for (int64_t h = kv * group; h < (kv + 1) * group; h++)
        for (int64_t t = p->begin[part]; t < end; t += BQ)
            backward_queries(j, h, t, lq_min64(BQ, end - t), &g);
}

/* A row of a gradient += row; a fresh one becomes it. */
static void add_row(float *dst, const float *row, int64_t d, bool fresh) {
    if (fresh) memcpy(dst, row, (size_t)d * sizeof *dst);
    else lq_cpu_kernels()->axpy(dst, 1, row, d);
}

/* dst (N,K*d) += the partial sums, in the parts' order. */
static void add_partials(const lq_attn_job *j, float *partial, const parts *p, float *dst,
                         bool fresh) {
    const int64_t d = j->attr->head_dim;
    if (!dst) return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < j->n; t++)
        for (int64_t kv = 0; kv < j->attr->n_head_kv; kv++)
            for (int part = 0, n = 0; part < p->n; part++)
                if (p->first[part] <= t && t < p->begin[part + 1])
                    add_row(dst + t * j->kv_ld + kv * d, partial_at(j, partial, kv, part) + t * d,
                            d, fresh && n++ == 0);
}

static void backward(const lq_node *node, const lq_run *run) {
    assert(!node->in[K_CACHE]);
    const lq_attn_job j = make_job(node, run);
    const parts p = make_parts(&j);
    const int64_t tasks = p.n * j.attr->n_head_kv;
    float *const dk = lq_grad_f32(node->in[K]), *const dv = lq_grad_f32(node->in[V]);
    float *const partial = run->scratch;
    const lq_attn_grads all = {.out = lq_data_f32(node->out), .dout = lq_grad_f32(node->out),
                       .lse = lq_data_f32(node->saved), .dq = lq_grad_f32(node->in[Q]),
                       .dk = dk ? partial : NULL,
                       .dv = dv ? partial + partial_size(j.attr, j.n) : NULL,
                       .fresh_dq = node->fresh & LQ_IN(Q)};
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; task++)
        run_task(&j, &all, &p, task / p.n, (int)(task % p.n));
    add_partials(&j, all.dk, &p, dk, node->fresh & LQ_IN(K));
    add_partials(&j, all.dv, &p, dv, node->fresh & LQ_IN(V));
}

static const lq_kernels on_cpu = {
    .fwd = forward, .bwd = backward, .scratch = scratch, .writes = LQ_IN(Q) | LQ_IN(K) | LQ_IN(V),
};

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
