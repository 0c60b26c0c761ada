/* See head_cuda.h. */
#include "head_cuda.h"

#include "cuda_wtile.h"

enum { CHUNK_BYTES = 1 << 29, MIN_ROWS = 64, MAX_ROWS = 2048, LIST_THREADS = 1024 };

/* ---- kernels --------------------------------------------------------------------------------- */

/* The rows with a label, in order; one block. */
static __global__ void __launch_bounds__(LIST_THREADS)
    list_kernel(int64_t n, const int32_t *label, int32_t *row) {
    __shared__ int warp_count[LIST_THREADS / LQ_WARP];
    const int warp = (int)threadIdx.x / LQ_WARP;
    int64_t before = 0;
    for (int64_t first = 0; first < n; first += LIST_THREADS) {
        const int64_t t = first + threadIdx.x;
        const bool labelled = t < n && label[t] >= 0;
        const unsigned bits = __ballot_sync(~0u, labelled);
        __syncthreads();   /* the last turn's counts have been read */
        if (lq_lane() == 0) warp_count[warp] = __popc(bits);
        __syncthreads();
        int64_t at = before + __popc(bits & ((1u << lq_lane()) - 1));
        for (int i = 0; i < LIST_THREADS / LQ_WARP; i++) {
            if (i < warp) at += warp_count[i];
            before += warp_count[i];
        }
        if (labelled) row[at] = (int32_t)t;
    }
}

/* out (n,d) = rows of h */
template <typename S, typename T, int W>
static __global__ void gather_kernel(int64_t n, int64_t d, const int32_t *row, const S *h, T *out) {
    const int64_t at = lq_thread_first() * W;
    if (at < n * d) lq_store<W>(out + at, lq_load<W>(h + row[at / d] * d + at % d));
}

/* Row row[k] of dh (N,d) += factor of that row * row k of from (n,d). */
template <typename T, int W>
static __global__ void scatter_kernel(int64_t n, int64_t d, const int32_t *row, const float *from,
                                      const float *factor, int64_t stride, T *dh) {
    const int64_t at = lq_thread_first() * W;
    if (at >= n * d) return;
    const int64_t t = row[at / d];
    const float by = factor ? factor[t * stride] : 1;
    const lq_floats<W> x = lq_load<W>(from + at);
    lq_floats<W> sum = lq_load<W>(dh + t * d + at % d);
    for (int j = 0; j < W; j++) sum.v[j] += by * x.v[j];
    lq_store<W>(dh + t * d + at % d, sum);
}

static void gather(lq_dev *dev, const lq_cuda_chunk *c, const lq_cuda_side *s) {
    const int64_t d = lq_cols(s->w), n = c->n * d;
    lq_by_activation(s->h->fmt, [&](auto from) {
        lq_by_activation(c->type, [&](auto to) {
            typedef decltype(from) S;
            typedef decltype(to) T;
            constexpr int W = lq_pack_width<T>;
            const auto kernel = d % W ? gather_kernel<S, T, 1> : gather_kernel<S, T, W>;
            lq_launch(dev, kernel, lq_blocks(n, LQ_BLOCK * (d % W ? 1 : W)), LQ_BLOCK, 0, c->n, d,
                      c->row, lq_data<S>(s->h), (T *)s->rows);
        });
    });
}

static void scatter(lq_dev *dev, const lq_tensor *h, int64_t rows, const int32_t *row,
                    const float *from, const float *factor, int64_t stride) {
    const int64_t d = lq_cols(h), n = rows * d;
    lq_by_activation(h->fmt, [&](auto to) {
        typedef decltype(to) T;
        constexpr int W = lq_pack_width<T>;
        const auto kernel = d % W ? scatter_kernel<T, 1> : scatter_kernel<T, W>;
        lq_launch(dev, kernel, lq_blocks(n, LQ_BLOCK * (d % W ? 1 : W)), LQ_BLOCK, 0, rows, d, row,
                  from, factor, stride, lq_grad<T>(h));
    });
}

/* ---- scratch --------------------------------------------------------------------------------- */

typedef struct layout {
    int32_t *row;       /* (N) */
    void *tile;         /* of a weight */
    float *dh;          /* (C,D), only for a trained head */
    int64_t capacity;   /* C: rows of a chunk */
} layout;

/* The next `bytes` of base; NULL base: only counts. */
static void *take(char *base, size_t *used, size_t bytes) {
    void *const at = base ? base + *used : NULL;
    *used += lq_align64(bytes);
    return at;
}

static int64_t capacity_of(const lq_cuda_chunk *c, int64_t n) {
    int64_t row_bytes = 0;
    for (int i = 0; i < c->n_sides; i++)
        row_bytes += (int64_t)lq_format_bytes(c->side[i].h ? c->type : &lq_f32, c->side[i].ld);
    const int64_t rows = CHUNK_BYTES / row_bytes / MIN_ROWS * MIN_ROWS;
    return lq_min64(n, lq_min64(MAX_ROWS, lq_max64(MIN_ROWS, rows)));
}

/* Sets the sides and all pointers into base; returns the bytes. */
static size_t lay_out(const lq_cuda_head *head, const lq_node *node, lq_cuda_chunk *c, layout *l,
                      char *base) {
    const int64_t N = node->out->dim[0];
    size_t used = 0, tile = 0;
    *c = {};
    c->type = node->in[LQ_HEAD_H]->fmt;
    c->label = lq_data_i32(node->in[LQ_HEAD_LABELS]);
    c->n_sides = head->sides(node, c->side);
    for (int i = 0; i < c->n_sides; i++)
        c->side[i].ld = lq_blocks(c->side[i].cols, LQ_HEAD_ROW_STEP) * LQ_HEAD_ROW_STEP;
    l->capacity = capacity_of(c, N);
    l->row = (int32_t *)take(base, &used, (size_t)N * sizeof *l->row);
    for (int i = 0; i < c->n_sides; i++) {
        lq_cuda_side *const s = &c->side[i];
        const lq_format *const type = s->h ? c->type : &lq_f32;
        if (s->h) {
            tile = lq_max64(tile, lq_cuda_wtile_scratch(s->w, type));
            s->rows = take(base, &used, lq_format_bytes(type, l->capacity * lq_cols(s->w)));
        }
        s->logits = take(base, &used, lq_format_bytes(type, l->capacity * s->ld));
    }
    l->tile = take(base, &used, tile);
    const int64_t D = lq_cols(node->in[LQ_HEAD_W]);
    l->dh = (float *)take(base, &used,
                          lq_head_is_trained(node) ? lq_format_bytes(&lq_f32, l->capacity * D) : 0);
    return used;
}

size_t lq_cuda_head_scratch(const lq_cuda_head *head, const lq_node *node, bool backward) {
    lq_cuda_chunk c;
    layout l;
    if (backward && !lq_head_is_trained(node)) return (size_t)node->out->dim[0] * sizeof(int32_t);
    return lay_out(head, node, &c, &l, NULL);
}

lq_status lq_cuda_head_accepts(const lq_cuda_head *head, const lq_node *node) {
    lq_cuda_side side[LQ_HEAD_MAX_SIDES] = {};
    const int n = head->sides(node, side);
    for (int i = 0; i < n; i++)
        if (side[i].h) LQ_TRY(lq_cuda_wtile_accepts(side[i].w));
    return LQ_OK;
}

/* ---- a chunk --------------------------------------------------------------------------------- */

static const char *at_col(const void *p, const lq_format *type, int64_t col) {
    return (const char *)p + lq_format_bytes(type, col);
}

static void make_logits(lq_dev *dev, const lq_cuda_chunk *c, void *tile) {
    for (int i = 0; i < c->n_sides; i++) {
        const lq_cuda_side *const s = &c->side[i];
        if (!s->h) continue;
        const int64_t V = lq_rows(s->w), D = lq_cols(s->w);
        const int64_t height = lq_cuda_wtile_step(s->w, c->type);
        gather(dev, c, s);
        for (int64_t o = 0; o < V; o += height) {
            const int64_t rows = lq_min64(height, V - o);
            lq_cuda_mat w = lq_cuda_wtile_rows(dev, s->w, c->type, o, rows, tile);
            w.transposed = true;
            lq_cuda_gemm(dev, (void *)at_col(s->logits, c->type, o), c->type, s->ld, 0, 1,
                         lq_cuda_mat{s->rows, c->type, D, false}, w, c->n, rows, D);
        }
    }
}

/* dh (n,D) = dlogits W */
static void make_dh(lq_dev *dev, const lq_cuda_chunk *c, float *dh, void *tile) {
    const lq_cuda_side *const s = &c->side[0];
    const int64_t V = lq_rows(s->w), D = lq_cols(s->w), height = lq_cuda_wtile_step(s->w, c->type);
    for (int64_t o = 0; o < V; o += height) {
        const int64_t rows = lq_min64(height, V - o);
        lq_cuda_gemm(dev, dh, &lq_f32, D, o > 0, 1,
                     lq_cuda_mat{at_col(s->logits, c->type, o), c->type, s->ld, false},
                     lq_cuda_wtile_rows(dev, s->w, c->type, o, rows, tile), c->n, D, rows);
    }
}

static int64_t count_labels(const lq_node *node) {
    const lq_tensor *const labels = node->in[LQ_HEAD_LABELS];
    const int32_t *const label = (const int32_t *)labels->host;
    int64_t n = 0;
    for (int64_t t = 0; t < labels->dim[0]; t++) n += label[t] >= 0;
    return n;
}

/* Lists the labelled rows in `row` and returns their number. */
static int64_t list_rows(const lq_node *node, lq_dev *dev, int32_t *row) {
    const lq_tensor *const labels = node->in[LQ_HEAD_LABELS];
    const int64_t n = count_labels(node);
    if (n)
        lq_launch(dev, list_kernel, 1, LIST_THREADS, 0, labels->dim[0], lq_data_i32(labels), row);
    return n;
}

/* Calls f(first) for chunks of all n rows, of almost equal size. */
template <typename F> static void by_chunk(lq_cuda_chunk *c, const layout *l, int64_t n, F f) {
    if (!n) return;
    const int64_t chunks = (n + l->capacity - 1) / l->capacity, size = (n + chunks - 1) / chunks;
    for (int64_t first = 0; first < n; first += size) {
        c->n = lq_min64(size, n - first);
        c->row = l->row + first;
        f(first);
    }
}

/* ---- forward and backward -------------------------------------------------------------------- */

void lq_cuda_head_forward(const lq_cuda_head *head, const lq_node *node, const lq_run *run) {
    lq_dev *const dev = run->dev;
    const int64_t N = node->out->dim[0], D = lq_cols(node->in[LQ_HEAD_W]);
    const bool gradient = run->training && !lq_head_is_trained(node);
    float *const out = lq_data<float>(node->out);
    lq_cuda_chunk c;
    layout l;
    lay_out(head, node, &c, &l, (char *)run->scratch);
    dev->row->fill(dev, out, 0, lq_format_bytes(&lq_f32, N * head->out_cols));
    by_chunk(&c, &l, list_rows(node, dev, l.row), [&](int64_t first) {
        make_logits(dev, &c, l.tile);
        head->rows(node, dev, &c, out, NULL, gradient);
        if (gradient) make_dh(dev, &c, lq_data<float>(node->saved) + first * D, l.tile);
    });
}

static void backward_frozen(const lq_cuda_head *head, const lq_node *node, const lq_run *run) {
    int32_t *const row = (int32_t *)run->scratch;
    const int64_t n = list_rows(node, run->dev, row);
    if (n)
        scatter(run->dev, node->in[LQ_HEAD_H], n, row, lq_data<float>(node->saved),
                lq_grad<float>(node->out), head->out_cols);
}

static void backward_trained(const lq_cuda_head *head, const lq_node *node, const lq_run *run) {
    lq_dev *const dev = run->dev;
    const lq_tensor *const h = node->in[LQ_HEAD_H], *const w = node->in[LQ_HEAD_W];
    const int64_t D = lq_cols(w), V = lq_rows(w);
    lq_cuda_chunk c;
    layout l;
    lay_out(head, node, &c, &l, (char *)run->scratch);
    by_chunk(&c, &l, list_rows(node, dev, l.row), [&](int64_t) {
        const lq_cuda_side *const s = &c.side[0];
        make_logits(dev, &c, l.tile);
        head->rows(node, dev, &c, NULL, lq_grad<float>(node->out), true);
        if (w->grad)
            lq_cuda_gemm(dev, lq_grad<float>(w), &lq_f32, D, 1, 1,
                         lq_cuda_mat{s->logits, c.type, s->ld, true},
                         lq_cuda_mat{s->rows, c.type, D, false}, V, D, c.n);
        if (!h->grad) return;
        make_dh(dev, &c, l.dh, l.tile);
        scatter(dev, h, c.n, c.row, l.dh, NULL, 0);
    });
}

void lq_cuda_head_backward(const lq_cuda_head *head, const lq_node *node, const lq_run *run) {
    if (lq_head_is_trained(node)) backward_trained(head, node, run);
    else if (node->in[LQ_HEAD_H]->grad) backward_frozen(head, node, run);
}
