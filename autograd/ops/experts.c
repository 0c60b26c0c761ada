/* The feed-forward of a mixture of experts. With w (N,E) the shares of route:
 *   out_t = sum over e with w_te != 0 of w_te down_e(act(gate_e(x_t)) * up_e(x_t))
 * One expert after the other: its tokens are gathered, multiplied by its part of the packed
 * weights, and added back. Nothing is kept; backward computes gate and up again. With
 * h = act(gate) * up and G = dout down_e: dw_te = G.h, and dh = w_te G goes back through the rest.
 * Each of the three products may carry an adapter, as lora_linear, one A and B per expert, and may
 * round what enters it, with an identity backward. */
#include "cpu.h"
#include "gemm.h"
#include "ops.h"
#include "rowwise.h"
#include "wtile.h"

#include <string.h>

enum { X, SHARES, WEIGHT, ADAPTER = WEIGHT + LQ_EXPERT_PARTS };
enum { N_IN = ADAPTER + 2 * LQ_EXPERT_PARTS };

static const char *const part_name[] = {"gate", "up", "down"};

static lq_status check_part(const lq_node *node, int i, int64_t rows, int64_t cols) {
    const lq_tensor *w = node->in[WEIGHT + i];
    const lq_tensor *a = node->in[ADAPTER + 2 * i], *b = node->in[ADAPTER + 2 * i + 1];
    const int64_t E = node->in[SHARES]->dim[1];
    if (w->ndim != 2 || w->dim[0] != E * rows || w->dim[1] != cols)
        return lq_fail(LQ_ESHAPE, "%s is (%lld,%lld), wanted (%lld x %lld,%lld)", part_name[i],
                       (long long)w->dim[0], (long long)lq_cols(w), (long long)E, (long long)rows,
                       (long long)cols);
    const lq_rounding *const how = ((const lq_experts_attr *)node->attr)->how[i];
    if (how && cols % how->block != 0)
        return lq_fail(LQ_ESHAPE, "%s: rows of %lld are not whole blocks of %d", part_name[i],
                       (long long)cols, how->block);
    if (!a != !b) return lq_fail(LQ_ESHAPE, "%s: half an adapter", part_name[i]);
    if (!a) return LQ_OK;
    if (a->ndim != 2 || b->ndim != 2 || a->dim[1] != cols || b->dim[0] != E * rows ||
        a->dim[0] != E * b->dim[1])
        return lq_fail(LQ_ESHAPE,
                       "%s: A is (%lld,%lld) and B (%lld,%lld), wanted (%lld R,%lld) and (%lld,R)",
                       part_name[i], (long long)a->dim[0], (long long)lq_cols(a),
                       (long long)b->dim[0], (long long)lq_cols(b), (long long)E, (long long)cols,
                       (long long)(E * rows));
    return LQ_OK;
}

static lq_status shape(lq_node *node) {
    const lq_tensor *x = node->in[X], *shares = node->in[SHARES];
    LQ_TRY(lq_check_matrix(x, "x"));
    LQ_TRY(lq_check_matrix(shares, "shares"));
    const int64_t D = x->dim[1], F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    if (((const lq_experts_attr *)node->attr)->act == LQ_GELU)
        return lq_fail(LQ_EUNSUPPORTED, "experts with the exact GELU");
    LQ_TRY(check_part(node, LQ_EXPERT_GATE, F, D));
    LQ_TRY(check_part(node, LQ_EXPERT_UP, F, D));
    LQ_TRY(check_part(node, LQ_EXPERT_DOWN, D, F));
    lq_set_matrix(node->out, x->dim[0], D);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return ~LQ_OUT;
}

/* ---- one product of one expert --------------------------------------------------------------- */

typedef struct part {
    lq_tensor w;            /* (O,D): the expert's rows of the packed weight */
    float *dw;              /* NULL: frozen */
    const float *a, *b;     /* (R,D), (O,R) */
    float *da, *db;
    int64_t rank;           /* 0: no adapter */
    lq_lora_attr lora;
    const lq_rounding *how; /* NULL: x enters as it is */
} part;

static float *offset(float *p, int64_t n) { return p ? p + n : NULL; }

static part make_part(const lq_node *node, int i, int64_t expert) {
    const lq_experts_attr *attr = node->attr;
    const lq_tensor *w = node->in[WEIGHT + i];
    const lq_tensor *a = node->in[ADAPTER + 2 * i], *b = node->in[ADAPTER + 2 * i + 1];
    const int64_t O = w->dim[0] / node->in[SHARES]->dim[1], D = w->dim[1], first = expert * O;
    part p = {.w = *w, .dw = offset(lq_grad_f32(w), first * D), .lora = attr->lora[i],
              .how = attr->how[i]};
    p.w.dim[0] = O;
    p.w.data = (char *)w->data + lq_format_bytes(w->fmt, first * D);
    if (!a) return p;
    p.rank = b->dim[1];
    p.a = lq_data_f32(a) + expert * p.rank * D;
    p.b = lq_data_f32(b) + first * p.rank;
    p.da = offset(lq_grad_f32(a), expert * p.rank * D);
    p.db = offset(lq_grad_f32(b), first * p.rank);
    return p;
}

/* Scratch: a tile of a weight, and what an expert's n <= N tokens need. */
typedef struct buffers {
    void *tile;
    int32_t *token;              /* (n) */
    float *x, *dx, *dy;          /* (n,D) */
    float *gate, *up, *h;        /* (n,F) */
    float *dgate, *dup, *dh;     /* (n,F) */
    float *low, *dlow;           /* (n,R) */
    float *rounded;              /* (n,D) or (n,F): what enters one product */
} buffers;

static bool rounds(const lq_node *node) {
    const lq_experts_attr *attr = node->attr;
    bool any = false;
    for (int i = 0; i < LQ_EXPERT_PARTS; i++) any |= attr->how[i] != NULL;
    return any;
}

static size_t take(char *base, size_t *at, size_t bytes, void *out) {
    char *const p = base ? base + *at : NULL;
    memcpy(out, &p, sizeof p);
    *at += lq_align64(bytes);
    return *at;
}

/* Lays the buffers out in `base` (NULL: only counts) and returns their bytes. */
static size_t lay_out(buffers *s, const lq_node *node, char *base, bool backward) {
    const int64_t N = node->in[X]->dim[0], D = node->in[X]->dim[1];
    const int64_t F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    const size_t d = (size_t)(N * D) * sizeof(float), f = (size_t)(N * F) * sizeof(float);
    int64_t rank = 0;
    size_t tile = 0, at = 0;
    for (int i = 0; i < LQ_EXPERT_PARTS; i++) {
        const lq_tensor *b = node->in[ADAPTER + 2 * i + 1];
        lq_tensor w = *node->in[WEIGHT + i];
        w.dim[0] /= node->in[SHARES]->dim[1];
        if (b && b->dim[1] > rank) rank = b->dim[1];
        if (lq_wtile_scratch(&w) > tile) tile = lq_wtile_scratch(&w);
    }
    const size_t r = (size_t)(N * rank) * sizeof(float);
    const size_t most = rounds(node) ? (d > f ? d : f) : 0;
    take(base, &at, tile, &s->tile);
    take(base, &at, (size_t)N * sizeof *s->token, &s->token);
    take(base, &at, d, &s->x);
    take(base, &at, d, &s->dy); /* forward: the expert's output */
    take(base, &at, f, &s->gate);
    take(base, &at, f, &s->up);
    take(base, &at, f, &s->h);
    take(base, &at, r, &s->low);
    take(base, &at, most, &s->rounded);
    if (!backward) return at;
    take(base, &at, d, &s->dx);
    take(base, &at, f, &s->dgate);
    take(base, &at, f, &s->dup);
    take(base, &at, f, &s->dh);
    return take(base, &at, r, &s->dlow);
}

static size_t scratch(const lq_node *node, bool backward) {
    buffers s;
    return lay_out(&s, node, NULL, backward);
}

/* x (n,D) as it is multiplied with W; valid until the next call. */
static const float *entering(const part *p, const float *x, int64_t n, const buffers *s) {
    const int64_t D = p->w.dim[1];
    if (!p->how) return x;
#pragma omp parallel for schedule(static) if (n * D >= LQ_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) p->how->round(p->how, x + i * D, s->rounded + i * D, D);
    return s->rounded;
}

/* y (n,O) = x (n,D) W^T + s (x A^T) B^T */
static void part_forward(const part *p, const float *x, float *y, int64_t n, const buffers *s) {
    const int64_t O = p->w.dim[0], D = p->w.dim[1], R = p->rank;
    lq_wtile_forward(&p->w, entering(p, x, n, s), y, n, s->tile);
    if (!R || p->lora.merged) return;
    lq_gemm(s->low, R, 0, 1, (lq_mat){x, D, false}, (lq_mat){p->a, D, true}, n, R, D);
    lq_gemm(y, O, 1, p->lora.scale, (lq_mat){s->low, R, false}, (lq_mat){p->b, R, true}, n, O, R);
}

/* dx (n,D) += dy (n,O) W + s (dy B) A */
static void part_backward_x(const part *p, const float *dy, float *dx, int64_t n,
                            const buffers *s) {
    const int64_t O = p->w.dim[0], D = p->w.dim[1], R = p->rank;
    lq_wtile_backward(&p->w, dy, 1, dx, n, s->tile);
    if (!R || p->lora.merged) return;
    lq_gemm(s->dlow, R, 0, 1, (lq_mat){dy, O, false}, (lq_mat){p->b, R, false}, n, R, O);
    lq_gemm(dx, D, 1, p->lora.scale, (lq_mat){s->dlow, R, false}, (lq_mat){p->a, D, false}, n, D,
            R);
}

/* dW += dy^T x; dB += s dy^T (x A^T); dA += s (dy B)^T x, where W's x is rounded, and that of a
 * merged adapter, which is in W. */
static void part_backward_w(const part *p, const float *x, const float *dy, int64_t n,
                            const buffers *s) {
    const int64_t O = p->w.dim[0], D = p->w.dim[1], R = p->rank;
    if (!p->dw && !p->da && !p->db) return;
    if (!R || p->lora.merged) x = entering(p, x, n, s);
    const lq_mat xm = {x, D, false}, dyt = {dy, O, true};
    if (p->dw) lq_gemm(p->dw, D, 1, 1, dyt, xm, O, D, n);
    if (p->db) {
        lq_gemm(s->low, R, 0, 1, xm, (lq_mat){p->a, D, true}, n, R, D);
        lq_gemm(p->db, R, 1, p->lora.scale, dyt, (lq_mat){s->low, R, false}, O, R, n);
    }
    if (p->da) {
        lq_gemm(s->dlow, R, 0, 1, (lq_mat){dy, O, false}, (lq_mat){p->b, R, false}, n, R, O);
        lq_gemm(p->da, D, 1, p->lora.scale, (lq_mat){s->dlow, R, true}, xm, R, D, n);
    }
}

/* ---- one expert ------------------------------------------------------------------------------ */

/* Lists the tokens of an expert, and returns their number. */
static int64_t find_tokens(const lq_node *node, int64_t expert, int32_t *token) {
    const lq_tensor *shares = node->in[SHARES];
    const int64_t N = shares->dim[0], E = shares->dim[1];
    int64_t n = 0;
    for (int64_t t = 0; t < N; t++)
        if (lq_data_f32(shares)[t * E + expert] != 0) token[n++] = (int32_t)t;
    return n;
}

static void gather(float *to, const float *from, int64_t cols, const int32_t *token, int64_t n) {
#pragma omp parallel for schedule(static) if (n * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * cols, from + token[i] * cols, (size_t)cols * sizeof *to);
}

/* to[token i] += factor_i from_i, factor NULL being all 1 */
static void scatter(float *to, const float *from, int64_t cols, const int32_t *token, int64_t n,
                    const float *factor, int64_t stride) {
    const lq_cpu *const cpu = lq_cpu_kernels();
#pragma omp parallel for schedule(static) if (n * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++)
        cpu->axpy(to + token[i] * cols, factor ? factor[token[i] * stride] : 1, from + i * cols,
                  cols);
}

/* x, gate, up and h of the expert's tokens. */
static void hidden(const lq_node *node, int64_t expert, int64_t n, const buffers *s) {
    const lq_experts_attr *attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const part gate = make_part(node, LQ_EXPERT_GATE, expert);
    const part up = make_part(node, LQ_EXPERT_UP, expert);
    const int64_t F = gate.w.dim[0];
    gather(s->x, lq_data_f32(node->in[X]), node->in[X]->dim[1], s->token, n);
    part_forward(&gate, s->x, s->gate, n, s);
    part_forward(&up, s->x, s->up, n, s);
#pragma omp parallel for schedule(static) if (n * F >= LQ_PARALLEL_ELEMENTS)
    for (int64_t at = 0; at < n * F; at += F) {
        if (attr->act == LQ_SILU) cpu->silu_mul(s->h + at, s->gate + at, s->up + at, F);
        else cpu->gelu_mul(s->h + at, s->gate + at, s->up + at, F);
    }
}

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t D = node->in[X]->dim[1], E = node->in[SHARES]->dim[1];
    float *const out = lq_data_f32(node->out);
    buffers s;
    lay_out(&s, node, run->scratch, false);
    memset(out, 0, (size_t)(node->out->dim[0] * D) * sizeof *out);
    for (int64_t e = 0; e < E; e++) {
        const int64_t n = find_tokens(node, e, s.token);
        if (!n) continue;
        const part down = make_part(node, LQ_EXPERT_DOWN, e);
        hidden(node, e, n, &s);
        part_forward(&down, s.h, s.dy, n, &s);
        scatter(out, s.dy, D, s.token, n, lq_data_f32(node->in[SHARES]) + e, E);
    }
}

/* dshare = G.h with h as it enters; then G becomes dh = share G, dy becomes share dy, and dgate,
 * dup are dh's. */
static void hidden_backward(const lq_node *node, int64_t expert, int64_t n, const part *down,
                            const buffers *s) {
    const lq_experts_attr *attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t D = node->in[X]->dim[1], E = node->in[SHARES]->dim[1];
    const int64_t F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    const float *const share = lq_data_f32(node->in[SHARES]) + expert;
    float *const dshare = offset(lq_grad_f32(node->in[SHARES]), expert);
    const float *const h = entering(down, s->h, n, s);
    memset(s->dgate, 0, (size_t)(n * F) * sizeof(float));
    memset(s->dup, 0, (size_t)(n * F) * sizeof(float));
#pragma omp parallel for schedule(static) if (n * F >= LQ_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = i * F, t = s->token[i] * E;
        if (dshare) dshare[t] += cpu->dot(s->dh + at, h + at, F);
        cpu->scale(s->dh + at, share[t], F);
        cpu->scale(s->dy + i * D, share[t], D);
        if (attr->act == LQ_SILU)
            cpu->silu_mul_bwd(s->dgate + at, s->dup + at, s->gate + at, s->up + at, s->dh + at, F);
        else
            cpu->gelu_mul_bwd(s->dgate + at, s->dup + at, s->gate + at, s->up + at, s->dh + at, F);
    }
}

static void backward_expert(const lq_node *node, int64_t expert, int64_t n, const buffers *s) {
    const part gate = make_part(node, LQ_EXPERT_GATE, expert);
    const part up = make_part(node, LQ_EXPERT_UP, expert);
    const part down = make_part(node, LQ_EXPERT_DOWN, expert);
    const int64_t D = gate.w.dim[1], F = gate.w.dim[0];
    float *const dx = lq_grad_f32(node->in[X]);
    hidden(node, expert, n, s);
    gather(s->dy, lq_grad_f32(node->out), D, s->token, n);
    memset(s->dh, 0, (size_t)(n * F) * sizeof(float));
    part_backward_x(&down, s->dy, s->dh, n, s);
    hidden_backward(node, expert, n, &down, s);
    part_backward_w(&down, s->h, s->dy, n, s);
    part_backward_w(&gate, s->x, s->dgate, n, s);
    part_backward_w(&up, s->x, s->dup, n, s);
    if (!dx) return;
    memset(s->dx, 0, (size_t)(n * D) * sizeof(float));
    part_backward_x(&gate, s->dgate, s->dx, n, s);
    part_backward_x(&up, s->dup, s->dx, n, s);
    scatter(dx, s->dx, D, s->token, n, NULL, 0);
}

static void backward(const lq_node *node, const lq_run *run) {
    const int64_t E = node->in[SHARES]->dim[1];
    buffers s;
    lay_out(&s, node, run->scratch, true);
    for (int64_t e = 0; e < E; e++) {
        const int64_t n = find_tokens(node, e, s.token);
        if (n) backward_expert(node, e, n, &s);
    }
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward, .scratch = scratch};

const lq_op lq_op_experts = {
    .name = "experts",
    .n_in = N_IN,
    .attr_bytes = sizeof(lq_experts_attr),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(experts)},
};

lq_status lq_experts_inputs(const lq_node *node, lq_experts_fn fn, void *ctx) {
    buffers s;
    if (node->op != &lq_op_experts) return LQ_OK;
    const lq_tensor *const *w = (const lq_tensor *const *)node->in + WEIGHT;
    char *memory = lq_alloc(lay_out(&s, node, NULL, false));
    if (!memory) return LQ_EMEM;
    lay_out(&s, node, memory, false);
    for (int64_t e = 0; e < node->in[SHARES]->dim[1]; e++) {
        const int64_t n = find_tokens(node, e, s.token);
        if (!n) continue;
        hidden(node, e, n, &s);
        fn(ctx, w[LQ_EXPERT_GATE], e, s.x, n);
        fn(ctx, w[LQ_EXPERT_UP], e, s.x, n);
        fn(ctx, w[LQ_EXPERT_DOWN], e, s.h, n);
    }
    lq_free(memory);
    return LQ_OK;
}

lq_tensor *lq_experts(lq_tape *tape, lq_tensor *x, lq_tensor *shares,
                      const lq_expert_part parts[LQ_EXPERT_PARTS], lq_act act) {
    lq_experts_attr attr = {.act = act};
    lq_tensor *in[N_IN] = {x, shares};
    for (int i = 0; i < LQ_EXPERT_PARTS; i++) {
        in[WEIGHT + i] = parts[i].w;
        in[ADAPTER + 2 * i] = parts[i].a;
        in[ADAPTER + 2 * i + 1] = parts[i].b;
        attr.lora[i] = parts[i].lora;
        attr.how[i] = parts[i].how;
    }
    return lq_tape_record(tape, &lq_op_experts, &attr, N_IN, in);
}
