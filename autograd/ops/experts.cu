/* experts on CUDA; see experts.c for the formulas and experts_cuda.h for the rows. Consecutive
 * experts whose rows fit into N are a group: what is not a product is done for a group at once. */
#include "activation.h"
#include "cuda_wtile.h"
#include "experts_cuda.h"
#include "map.h"
#include "rows.h"

enum { X, SHARES, WEIGHT, ADAPTER = WEIGHT + LQ_EXPERT_PARTS };

/* ---- one product of one expert --------------------------------------------------------------- */

namespace {
struct part {
    lq_tensor w;            /* (O,D): the expert's rows of the weight */
    lq_cuda_mat a, b;       /* (R,D), (O,R) */
    float *dw, *da, *db;    /* NULL: not wanted */
    int64_t rank;           /* 0: no adapter */
    lq_lora_attr lora;
};

/* An expert's rows of a group, and where its products find room. */
struct work {
    lq_dev *dev;
    const lq_format *type;
    int64_t n;
    void *tile, *low, *dlow;    /* low, dlow (n,R) */
};
}

static void *at_element(const void *p, const lq_format *type, int64_t i) {
    return p ? (char *)p + lq_format_bytes(type, i) : NULL;
}

static part make_part(const lq_node *node, int i, int64_t expert) {
    const lq_tensor *const w = node->in[WEIGHT + i], *const a = node->in[ADAPTER + 2 * i];
    const lq_tensor *const b = node->in[ADAPTER + 2 * i + 1];
    const lq_format *const type = node->in[X]->fmt;
    const int64_t O = w->dim[0] / node->in[SHARES]->dim[1], D = w->dim[1], first = expert * O;
    part p = {};
    p.w = *w;
    p.w.dim[0] = O;
    p.w.data = at_element(w->data, w->fmt, first * D);
    p.w.narrow = at_element(w->narrow, type, first * D);
    p.dw = (float *)at_element(lq_grad<float>(w), &lq_f32, first * D);
    p.lora = ((const lq_experts_attr *)node->attr)->lora[i];
    if (!a) return p;
    p.rank = b->dim[1];
    p.a = lq_cuda_operand(a, type, false);
    p.b = lq_cuda_operand(b, type, false);
    p.a.data = at_element(p.a.data, type, expert * p.rank * D);
    p.b.data = at_element(p.b.data, type, first * p.rank);
    p.da = (float *)at_element(lq_grad<float>(a), &lq_f32, expert * p.rank * D);
    p.db = (float *)at_element(lq_grad<float>(b), &lq_f32, first * p.rank);
    return p;
}

static lq_cuda_mat transposed(lq_cuda_mat m) {
    m.transposed = true;
    return m;
}

static lq_cuda_mat rows_of(const work *k, const void *x, int64_t cols) {
    return lq_cuda_mat{x, k->type, cols, false};
}

/* y (n,O) = x (n,D) W^T + s (x A^T) B^T */
static void part_forward(const part *p, const work *k, const void *x, void *y) {
    const int64_t O = p->w.dim[0], D = p->w.dim[1], R = p->rank;
    const bool adapts = R && !p->lora.merged;
    if (adapts) {
        lq_cuda_gemm(k->dev, k->low, k->type, R, 0, 1, rows_of(k, x, D), transposed(p->a), k->n, R,
                     D);
        lq_cuda_gemm(k->dev, y, k->type, O, 0, p->lora.scale, rows_of(k, k->low, R),
                     transposed(p->b), k->n, O, R);
    }
    lq_cuda_wtile_forward(k->dev, &p->w, k->type, x, y, adapts, k->n, k->tile);
}

/* dx (n,D) = or, with `adds`, += dy (n,O) W + s (dy B) A */
static void part_backward_x(const part *p, const work *k, const void *dy, void *dx, bool adds) {
    const int64_t O = p->w.dim[0], D = p->w.dim[1], R = p->rank;
    if (!adds) k->dev->row->fill(k->dev, dx, 0, lq_format_bytes(k->type, k->n * D));
    if (R && !p->lora.merged) {
        lq_cuda_gemm(k->dev, k->dlow, k->type, R, 0, 1, rows_of(k, dy, O), p->b, k->n, R, O);
        lq_cuda_gemm(k->dev, dx, k->type, D, 1, p->lora.scale, rows_of(k, k->dlow, R), p->a, k->n,
                     D, R);
    }
    lq_cuda_wtile_backward(k->dev, &p->w, k->type, dy, dx, k->n, k->tile);
}

/* dW += dy^T x; dB += s dy^T (x A^T); dA += s (dy B)^T x */
static void part_backward_w(const part *p, const work *k, const void *x, const void *dy) {
    const int64_t O = p->w.dim[0], D = p->w.dim[1], R = p->rank;
    const lq_cuda_mat xm = rows_of(k, x, D), dym = rows_of(k, dy, O);
    if (p->dw)
        lq_cuda_gemm(k->dev, p->dw, &lq_f32, D, 1, 1, transposed(dym), xm, O, D, k->n);
    if (p->db) {
        lq_cuda_gemm(k->dev, k->low, k->type, R, 0, 1, xm, transposed(p->a), k->n, R, D);
        lq_cuda_gemm(k->dev, p->db, &lq_f32, R, 1, p->lora.scale, transposed(dym),
                     rows_of(k, k->low, R), O, R, k->n);
    }
    if (p->da) {
        lq_cuda_gemm(k->dev, k->dlow, k->type, R, 0, 1, dym, p->b, k->n, R, O);
        lq_cuda_gemm(k->dev, p->da, &lq_f32, D, 1, p->lora.scale,
                     transposed(rows_of(k, k->dlow, R)), xm, R, D, k->n);
    }
}

/* ---- scratch --------------------------------------------------------------------------------- */

namespace {
/* Of a group's rows; a group has at most N. */
struct buffers {
    lq_expert_lists lists;
    void *tile, *low, *dlow;                   /* (N,R) */
    void *x, *y, *dx;                          /* (N,D); y: the experts' output, or its gradient */
    void *gate, *up, *h, *dgate, *dup, *dh;    /* (N,F) */
};
}

static void *take(char *base, size_t *used, size_t bytes) {
    void *const at = base ? base + *used : NULL;
    *used += lq_align64(bytes);
    return at;
}

/* Lays the buffers out in base (NULL: only counts) and returns their bytes. */
static size_t lay_out(buffers *s, const lq_node *node, char *base, bool backward) {
    const lq_format *const type = node->in[X]->fmt;
    const int64_t N = node->in[X]->dim[0], D = node->in[X]->dim[1], E = node->in[SHARES]->dim[1];
    const int64_t F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    const size_t d = lq_format_bytes(type, N * D), f = lq_format_bytes(type, N * F);
    int64_t rank = 0, tile = 0;
    for (int i = 0; i < LQ_EXPERT_PARTS; i++) {
        const lq_tensor *const b = node->in[ADAPTER + 2 * i + 1];
        lq_tensor w = *node->in[WEIGHT + i];
        w.dim[0] /= E;
        if (b) rank = lq_max64(rank, b->dim[1]);
        tile = lq_max64(tile, (int64_t)lq_cuda_wtile_scratch(&w, type));
    }
    const size_t r = lq_format_bytes(type, N * rank);
    size_t used = lq_expert_lists_lay_out(&s->lists, N, E, base);
    void **const room[] = {&s->tile, &s->x, &s->y, &s->gate, &s->up, &s->h, &s->low,
                           &s->dx, &s->dgate, &s->dup, &s->dh, &s->dlow};
    const size_t bytes[] = {(size_t)tile, d, d, f, f, f, r, d, f, f, f, r};
    for (int i = 0; i < (backward ? 12 : 7); i++) *room[i] = take(base, &used, bytes[i]);
    return used;
}

static size_t scratch(const lq_node *node, bool of_backward) {
    buffers s;
    return lay_out(&s, node, NULL, of_backward);
}

static lq_status accepts(const lq_node *node) {
    if (node->in[SHARES]->dim[1] > LQ_CUDA_MAX_EXPERTS)
        return lq_fail(LQ_EUNSUPPORTED, "%lld experts, at most %d wanted",
                       (long long)node->in[SHARES]->dim[1], (int)LQ_CUDA_MAX_EXPERTS);
    const lq_experts_attr *const attr = (const lq_experts_attr *)node->attr;
    for (int i = 0; i < LQ_EXPERT_PARTS; i++) {
        if (attr->how[i])
            return lq_fail(LQ_EUNSUPPORTED, "activations of experts are not rounded on device "
                           "cuda; activation_dtype runtime wants device cpu");
        LQ_TRY(lq_cuda_wtile_accepts(node->in[WEIGHT + i]));
    }
    return LQ_OK;
}

/* ---- a group --------------------------------------------------------------------------------- */

/* f(group) for runs of experts with at most N rows together. */
template <typename F> static void by_group(const lq_node *node, const int32_t *count, F f) {
    const int64_t E = node->in[SHARES]->dim[1], N = node->in[X]->dim[0];
    lq_expert_group g = {0, 0, 0, 0};
    for (; g.end < E; g.end++) {
        if (g.n + count[g.end] > N) {
            f(g);
            g = {g.end, g.end, g.first + g.n, 0};
        }
        g.n += count[g.end];
    }
    if (g.n) f(g);
}

/* f(expert, work, i) for the group's experts that have rows, the first being row i of the group. */
template <typename F>
static void by_expert(const lq_node *node, lq_dev *dev, const buffers *s, const lq_expert_group &g,
                      const int32_t *count, F f) {
    int64_t row = 0;
    for (int64_t e = g.expert; e < g.end; row += count[e++]) {
        const work k = {dev, node->in[X]->fmt, count[e], s->tile, s->low, s->dlow};
        if (count[e]) f(e, &k, row);
    }
}

static lq_act act_of(const lq_node *node) { return ((const lq_experts_attr *)node->attr)->act; }

/* x, gate, up and h of the group's rows. */
static void hidden(const lq_node *node, lq_dev *dev, const buffers *s, const lq_expert_group &g,
                   const int32_t *count) {
    const lq_format *const type = node->in[X]->fmt;
    const int64_t D = node->in[X]->dim[1], F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    lq_expert_gather(dev, &s->lists, &g, type, node->in[X]->data, D, s->x);
    by_expert(node, dev, s, g, count, [&](int64_t e, const work *k, int64_t row) {
        const part gate = make_part(node, LQ_EXPERT_GATE, e), up = make_part(node, LQ_EXPERT_UP, e);
        const void *const x = at_element(s->x, type, row * D);
        part_forward(&gate, k, x, at_element(s->gate, type, row * F));
        part_forward(&up, k, x, at_element(s->up, type, row * F));
    });
    lq_by_activation(type, [&](auto of) {
        typedef decltype(of) T;
        lq_by_act(act_of(node), [&](auto act) {
            lq_map(dev, g.n * F, lq_gated<decltype(act)::value>(), (T *)s->h, (const T *)s->gate,
                   (const T *)s->up);
        });
    });
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_format *const type = node->in[X]->fmt;
    const int64_t D = node->in[X]->dim[1], F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    int32_t count[LQ_CUDA_MAX_EXPERTS];
    buffers s;
    lay_out(&s, node, (char *)run->scratch, false);
    run->dev->row->fill(run->dev, node->out->data, 0, lq_format_bytes(type, lq_count(node->out)));
    if (lq_expert_lists_make(run->dev, &s.lists, node->in[SHARES], count) != LQ_OK) return;
    by_group(node, count, [&](const lq_expert_group &g) {
        hidden(node, run->dev, &s, g, count);
        by_expert(node, run->dev, &s, g, count, [&](int64_t e, const work *k, int64_t row) {
            const part down = make_part(node, LQ_EXPERT_DOWN, e);
            part_forward(&down, k, at_element(s.h, type, row * F), at_element(s.y, type, row * D));
        });
        lq_expert_combine(run->dev, &s.lists, &g, node->in[SHARES], true, s.y, D, node->out->data);
    });
}

/* ---- backward -------------------------------------------------------------------------------- */

/* Of a row with G = dout down (in dh): dshare += G.h (NULL: none); dgate, dup from share * G. */
template <typename T, int W, int THREADS, lq_act ACT>
static __global__ void hidden_kernel(int64_t n, int64_t F, int64_t n_experts, const int32_t *token,
                                     const int32_t *expert, const T *shares, T *dshares,
                                     const T *gate, const T *up, const T *h, const T *dh, T *dgate,
                                     T *dup) {
    const int64_t row = lq_row<THREADS>();
    if (row >= n) return;
    const int64_t at = token[row] * n_experts + expert[row];
    const float share = lq_to_float(shares[at]);
    float sum = 0;
    for (int64_t j = row * F + lq_place<THREADS>() * W; j < (row + 1) * F; j += THREADS * W) {
        const lq_floats<W> g = lq_load<W>(gate + j), u = lq_load<W>(up + j);
        const lq_floats<W> y = lq_load<W>(h + j), d = lq_load<W>(dh + j);
        lq_floats<W> of_gate, of_up;
        for (int i = 0; i < W; i++) {
            const lq_act_value a = lq_activate<ACT>(g.v[i]);
            sum += d.v[i] * y.v[i];
            of_gate.v[i] = share * d.v[i] * u.v[i] * a.slope;
            of_up.v[i] = share * d.v[i] * a.y;
        }
        lq_store<W>(dgate + j, of_gate);
        lq_store<W>(dup + j, of_up);
    }
    sum = lq_row_sum<THREADS>(sum);
    if (dshares && lq_place<THREADS>() == 0) lq_accumulate(&dshares[at], sum);
}

static void hidden_backward(const lq_node *node, lq_dev *dev, const buffers *s,
                            const lq_expert_group &g) {
    const lq_tensor *const shares = node->in[SHARES];
    const int64_t F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    lq_by_row(shares->fmt, F, true, [&](auto of, auto width, auto threads) {
        typedef decltype(of) T;
        constexpr int W = decltype(width)::value, THREADS = decltype(threads)::value;
        lq_by_act(act_of(node), [&](auto act) {
            lq_launch(dev, hidden_kernel<T, W, THREADS, decltype(act)::value>,
                      lq_row_blocks<THREADS>(g.n), LQ_BLOCK, 0, g.n, F, shares->dim[1],
                      s->lists.token + g.first, s->lists.expert + g.first, lq_data<T>(shares),
                      lq_grad<T>(shares), (const T *)s->gate, (const T *)s->up, (const T *)s->h,
                      (const T *)s->dh, (T *)s->dgate, (T *)s->dup);
        });
    });
}

/* What an expert's rows add to its parameters and to the gradient of their inputs. */
static void expert_backward(const lq_node *node, const buffers *s, int64_t e, const work *k,
                            int64_t row) {
    const int64_t D = node->in[X]->dim[1], F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    const part gate = make_part(node, LQ_EXPERT_GATE, e), up = make_part(node, LQ_EXPERT_UP, e);
    const part down = make_part(node, LQ_EXPERT_DOWN, e);
    const void *const x = at_element(s->x, k->type, row * D);
    const void *const dgate = at_element(s->dgate, k->type, row * F);
    const void *const dup = at_element(s->dup, k->type, row * F);
    void *const dx = at_element(s->dx, k->type, row * D);
    part_backward_w(&down, k, at_element(s->h, k->type, row * F),
                    at_element(s->y, k->type, row * D));
    part_backward_w(&gate, k, x, dgate);
    part_backward_w(&up, k, x, dup);
    if (!node->in[X]->grad) return;
    part_backward_x(&gate, k, dgate, dx, false);
    part_backward_x(&up, k, dup, dx, true);
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_dev *const dev = run->dev;
    const lq_tensor *const x = node->in[X], *const shares = node->in[SHARES];
    const int64_t D = x->dim[1], F = lq_cols(node->in[WEIGHT + LQ_EXPERT_DOWN]);
    int32_t count[LQ_CUDA_MAX_EXPERTS];
    buffers s;
    lay_out(&s, node, (char *)run->scratch, true);
    if (lq_expert_lists_make(dev, &s.lists, shares, count) != LQ_OK) return;
    by_group(node, count, [&](const lq_expert_group &g) {
        hidden(node, dev, &s, g, count);
        lq_expert_gather(dev, &s.lists, &g, x->fmt, node->out->grad->data, D, s.y);
        by_expert(node, dev, &s, g, count, [&](int64_t e, const work *k, int64_t row) {
            const part down = make_part(node, LQ_EXPERT_DOWN, e);
            part_backward_x(&down, k, at_element(s.y, k->type, row * D),
                            at_element(s.dh, k->type, row * F), false);
        });
        hidden_backward(node, dev, &s, g);
        lq_expert_weigh(dev, &s.lists, &g, shares, s.y, D);
        by_expert(node, dev, &s, g, count, [&](int64_t e, const work *k, int64_t row) {
            expert_backward(node, &s, e, k, row);
        });
        if (x->grad)
            lq_expert_combine(dev, &s.lists, &g, shares, false, s.dx, D, x->grad->data);
    });
}

extern "C" const lq_kernels lq_cuda_experts = {forward, backward, scratch, accepts, 0};
