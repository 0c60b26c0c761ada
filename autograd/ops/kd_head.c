/* kd_head: the output head fused with cross-entropy and distillation; formulas are kd_row.h's.
 * Of some rows all logits are made, the model's and, of a teacher known in full, the teacher's: the
 * divergence needs both distributions' sums before the first gradient. */
#include "cpu.h"
#include "gemm.h"
#include "head.h"
#include "kd_row.h"
#include "ops.h"
#include "wtile.h"

#include <string.h>

enum { TEACHER = LQ_HEAD_N_IN, TEACHER_W, N_IN }; /* top k: the ids and the log-probabilities */
/* Every chunk packs all of W twice: with 512 rows an eighth faster than with 256. */
enum { MIN_ROWS = 64, CHUNK_BYTES = 128 << 20 };

static const lq_kd_head_attr *attr_of(const lq_node *node) { return node->attr; }

/* One model's logits of the chunk's rows. */
typedef struct side {
    const lq_tensor *h, *w;   /* (N,D), (V,D) */
    float softcap;            /* 0: none */
    void *tile;               /* these lie in scratch: a tile of w, */
    float *rows, *logits;     /* the gathered rows of h (C,D), and (C,V) */
} side;

typedef struct chunk {
    side model, teacher;      /* teacher.h NULL: known by its top tokens, logits then (C,K) */
    lq_head_rows rows;
    int64_t capacity, V;
    float *dh;                /* (C,D) */
} chunk;

/* ---- a chunk --------------------------------------------------------------------------------- */

static size_t float_bytes(int64_t rows, int64_t cols) {
    return (size_t)(rows * cols) * sizeof(float);
}

/* As many rows as there can be. */
static int64_t chunk_rows(int64_t n, int64_t row_floats) {
    const int64_t fit = CHUNK_BYTES / (row_floats * (int64_t)sizeof(float));
    return lq_min64(n, lq_min64(LQ_HEAD_MAX_ROWS, lq_max64(MIN_ROWS, fit)));
}

static void place_side(side *s, int64_t rows, int64_t cols, char *scratch, size_t *used) {
    if (s->h) s->tile = lq_head_take(scratch, used, lq_wtile_scratch(s->w));
    if (s->h) s->rows = lq_head_take(scratch, used, float_bytes(rows, lq_cols(s->w)));
    s->logits = lq_head_take(scratch, used, float_bytes(rows, cols));
}

/* Sets c's pointers into scratch; returns the bytes. */
static size_t lay_out(chunk *c, const lq_node *node, char *scratch) {
    const lq_kd_head_attr *attr = attr_of(node);
    const int64_t V = lq_rows(node->in[LQ_HEAD_W]), K = attr->top_k ? attr->top_k : V;
    size_t used = 0;
    c->V = V;
    c->model = (side){.h = node->in[LQ_HEAD_H], .w = node->in[LQ_HEAD_W], .softcap = attr->softcap};
    c->teacher = (side){.h = NULL};
    if (!attr->top_k)
        c->teacher = (side){.h = node->in[TEACHER], .w = node->in[TEACHER_W],
                            .softcap = attr->teacher_softcap};
    c->capacity = chunk_rows(node->out->dim[0], V + K);
    place_side(&c->model, c->capacity, V, scratch, &used);
    place_side(&c->teacher, c->capacity, K, scratch, &used);
    c->dh = lq_head_take(scratch, &used, float_bytes(c->capacity, lq_cols(c->model.w)));
    return used;
}

static void make_logits(const chunk *c, const side *s) {
    if (!s->h) return;
    lq_head_gather(&c->rows, s->h, s->rows);
    lq_wtile_forward(s->w, s->rows, s->logits, c->rows.n, s->tile);
    if (s->softcap <= 0) return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < c->rows.n; i++)
        lq_cpu_kernels()->tanh_cap(s->logits + i * c->V, s->logits + i * c->V, s->softcap, c->V);
}

static void make_dh(const chunk *c) {
    const side *const s = &c->model;
    lq_wtile_backward(s->w, s->logits, 0, c->dh, c->rows.n, s->tile);
}

static void take_row(const lq_node *node, const chunk *c, int64_t i, float *out,
                     const float *factor) {
    const int64_t K = attr_of(node)->top_k, from = c->rows.row[i];
    lq_kd_row row = {.logits = c->model.logits + i * c->V, .V = c->V, .label = c->rows.label[i],
                     .top_k = K};
    if (K) {
        row.top_id = lq_data_i32(node->in[TEACHER]) + from * K;
        row.top_log_p = lq_data_f32(node->in[TEACHER_W]) + from * (K + 1);
        row.top_room = c->teacher.logits + i * K;
    } else {
        row.teacher = c->teacher.logits + i * c->V;
    }
    lq_kd_take_row(attr_of(node), &row, out ? out + from * LQ_KD_COLS : NULL, factor);
}

/* The next rows with all their logits; false: there are none. */
static bool next_chunk(chunk *c, const lq_node *node, int64_t *next) {
    if (!lq_head_next_rows(&c->rows, node, c->capacity, next)) return false;
    make_logits(c, &c->model);
    make_logits(c, &c->teacher);
    return true;
}

/* ---- forward and backward -------------------------------------------------------------------- */

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t N = node->in[LQ_HEAD_H]->dim[0], D = lq_cols(node->in[LQ_HEAD_H]);
    const bool gradient = run->training && !lq_head_is_trained(node);
    const float one = 1;
    float *const out = lq_data_f32(node->out); /* (N,LQ_KD_COLS) */
    chunk c;
    lay_out(&c, node, run->scratch);
    memset(out, 0, float_bytes(N, LQ_KD_COLS));
    for (int64_t next = 0; next_chunk(&c, node, &next);) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < c.rows.n; i++)
            take_row(node, &c, i, out, gradient ? &one : NULL);
        if (!gradient) continue;
        make_dh(&c);
        for (int64_t i = 0; i < c.rows.n; i++)
            memcpy(lq_data_f32(node->saved) + c.rows.row[i] * D, c.dh + i * D, float_bytes(1, D));
    }
}

static void backward_trained(const lq_node *node, const lq_run *run) {
    const lq_tensor *h = node->in[LQ_HEAD_H], *w = node->in[LQ_HEAD_W];
    const int64_t D = lq_cols(w), V = lq_rows(w);
    const float *const dout = lq_grad_f32(node->out); /* (N,LQ_KD_COLS) */
    chunk c;
    lay_out(&c, node, run->scratch);
    for (int64_t next = 0; next_chunk(&c, node, &next);) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < c.rows.n; i++)
            take_row(node, &c, i, NULL, &dout[LQ_KD_COLS * c.rows.row[i]]);
        if (w->grad)
            lq_gemm(lq_grad_f32(w), D, 1, 1, (lq_mat){c.model.logits, V, true},
                    (lq_mat){c.model.rows, D, false}, V, D, c.rows.n);
        if (!h->grad) continue;
        make_dh(&c);
        lq_head_add(&c.rows, c.dh, lq_grad_f32(h), D);
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    if (lq_head_is_trained(node)) backward_trained(node, run);
    else lq_head_backward_frozen(node);
}

/* ---- the op ---------------------------------------------------------------------------------- */

static lq_status check_top(const lq_node *node, int64_t V) {
    const lq_tensor *ids = node->in[TEACHER], *log_p = node->in[TEACHER_W];
    const int64_t K = attr_of(node)->top_k;
    if (K >= V)
        return lq_fail(LQ_ESHAPE, "kd_head: the top %lld of a vocabulary of %lld leave no tail",
                       (long long)K, (long long)V);
    if (ids->fmt != &lq_i32 || lq_cols(ids) != K || log_p->fmt != &lq_f32 ||
        lq_cols(log_p) != K + 1)
        return lq_fail(LQ_ESHAPE,
                       "kd_head: the teacher's ids are %s with rows of %lld and its "
                       "log-probabilities %s with rows of %lld, wanted i32 with %lld and f32 with "
                       "%lld",
                       ids->fmt->name, (long long)lq_cols(ids), log_p->fmt->name,
                       (long long)lq_cols(log_p), (long long)K, (long long)K + 1);
    return LQ_OK;
}

static lq_status shape(lq_node *node) {
    const lq_tensor *h = node->in[TEACHER], *w = node->in[TEACHER_W];
    LQ_TRY(lq_head_shape(node, "kd_head", LQ_KD_COLS));
    const int64_t V = lq_rows(node->in[LQ_HEAD_W]);
    if (attr_of(node)->top_k) return check_top(node, V);
    if (lq_cols(h) != lq_cols(w) || lq_rows(w) != V)
        return lq_fail(LQ_ESHAPE,
                       "kd_head: the teacher has rows of %lld, a weight of rows of %lld and %lld "
                       "tokens, the model %lld tokens",
                       (long long)lq_cols(h), (long long)lq_cols(w), (long long)lq_rows(w),
                       (long long)V);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    const unsigned remade = LQ_IN(LQ_HEAD_H) | LQ_IN(LQ_HEAD_W) | LQ_IN(TEACHER) | LQ_IN(TEACHER_W);
    return LQ_IN(LQ_HEAD_LABELS) | (lq_head_is_trained(node) ? remade : 0u);
}

/* What is stored of a teacher's shares is no weight. */
static unsigned products(const lq_node *node) {
    return LQ_IN(LQ_HEAD_W) | (attr_of(node)->top_k ? 0u : LQ_IN(TEACHER_W));
}

static size_t scratch(const lq_node *node, bool is_backward) {
    chunk c;
    return is_backward && !lq_head_is_trained(node) ? 0 : lay_out(&c, node, NULL);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward, .scratch = scratch};

const lq_op lq_op_kd_head = {
    .name = "kd_head",
    .n_in = N_IN,
    .attr_bytes = sizeof(lq_kd_head_attr),
    .nograd = LQ_IN(LQ_HEAD_LABELS) | LQ_IN(TEACHER) | LQ_IN(TEACHER_W),
    .bwd_reads = bwd_reads,
    .products = products,
    .out_f32 = true,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(kd_head)},
};

lq_tensor *lq_kd_head(lq_tape *tape, lq_tensor *h, lq_tensor *w, lq_tensor *labels,
                      lq_tensor *teacher, lq_tensor *teacher_w, lq_kd_head_attr attr) {
    lq_tensor *const in[N_IN] = {h, w, labels, teacher, teacher_w};
    return lq_tape_record(tape, &lq_op_kd_head, &attr, N_IN, in);
}
