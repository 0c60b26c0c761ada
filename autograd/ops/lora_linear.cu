/* lora_linear on CUDA: see lora_linear.c for the formulas. The adapter's product is written to out
 * first and W's added to it: the sum is rounded once, the small part of it twice. P is kept in the
 * activation format, in saved's memory. With magnitudes out and dy are scaled by columns. */
#include "column_sums.h"
#include "kernels.h"
#include "linear_cuda.h"
#include "random.h"
#include "random_device.h"
#include "saturation.h"

enum { X, W, BIAS, A, B, ROUNDED, M, NORM, N_IN };
enum { CLIP_ELEMENTS = 1 << 22 };   /* of dy^T x that are looked at together */

static const lq_lora_attr *attr_of(const lq_node *node) {
    return (const lq_lora_attr *)node->attr;
}

static const lq_tensor *input_of_w(const lq_node *node) {
    return node->in[ROUNDED] ? node->in[ROUNDED] : node->in[X];
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* y = mask x / (1 - p), or with add: y += the same. */
template <typename T>
static __global__ void dropout_kernel(T *y, const T *x, float p, uint64_t key, bool add,
                                      int64_t n) {
    const float keep = 1 / (1 - p);
    for (int64_t i = lq_thread_first(); i < n; i += lq_thread_step()) {
        const float v = lq_device_uniform(key, (uint64_t)i) < p ? 0 : lq_to_float(x[i]) * keep;
        y[i] = lq_from_float<T>(add ? lq_to_float(y[i]) + v : v);
    }
}

/* out (n,O) = x with column o times m[o] / norm[o], or 0 where the row has no direction. A block
 * per row. */
template <typename T>
static __global__ void magnitude_kernel(T *out, const T *x, const float *m, const float *norm,
                                        int64_t cols) {
    const int64_t first = blockIdx.x * cols;
    for (int64_t o = threadIdx.x; o < cols; o += LQ_BLOCK) {
        const float v = lq_to_float(x[first + o]);
        out[first + o] = lq_from_float<T>(norm[o] > 0 ? v * (m[o] / norm[o]) : 0);
    }
}

namespace {
/* dy (y - bias) / m */
template <typename T> struct magnitude_slope {
    const T *dy, *y;
    const float *bias, *m;
    int64_t cols;
    __device__ float operator()(int64_t i, int64_t o) const {
        const float shift = bias ? bias[o] : 0;
        if (m[o] == 0) return 0;
        return lq_to_float(dy[i * cols + o]) * (lq_to_float(y[i * cols + o]) - shift) / m[o];
    }
};
}

/* Zero wherever the weight's code is not clipped. */
static __global__ void mask_kernel(float *g, const uint32_t *clipped, int64_t n) {
    const int64_t i = lq_thread_first();
    if (i < n && !(clipped[i / LQ_CLIP_BITS] >> i % LQ_CLIP_BITS & 1)) g[i] = 0;
}

/* ---- scratch --------------------------------------------------------------------------------- */

/* In this order: a tile of W; P when not saved; Q; drop(x) or the gradient behind it; dy times
 * magnitudes; what clipping takes. */
typedef struct layout { size_t p, q, dropped, dy, clip, bytes; } layout;

static int64_t clip_rows(const lq_node *node) {
    return lq_min64(node->in[W]->dim[0], lq_max64(1, CLIP_ELEMENTS / node->in[X]->dim[1]));
}

static layout scratch_layout(const lq_node *node) {
    const lq_tensor *const x = node->in[X], *const w = node->in[W];
    const int64_t n = x->dim[0], D = x->dim[1];
    const size_t rank_bytes = lq_align64(lq_format_bytes(x->fmt, n * node->in[A]->dim[0]));
    const bool drops = attr_of(node)->dropout > 0;
    layout l;
    l.p = lq_align64(lq_cuda_wtile_scratch(w, x->fmt));
    l.q = l.p + rank_bytes;
    l.dropped = l.q + rank_bytes;
    l.dy = l.dropped + (drops ? lq_align64(lq_format_bytes(x->fmt, n * D)) : 0);
    l.clip = l.dy + (node->in[M] ? lq_align64(lq_format_bytes(x->fmt, n * w->dim[0])) : 0);
    l.bytes = l.clip +
              (attr_of(node)->clipped ? (size_t)(clip_rows(node) * D) * sizeof(float) : 0);
    return l;
}

static size_t scratch(const lq_node *node, bool backward) {
    (void)backward;
    return scratch_layout(node).bytes;
}

static lq_status accepts(const lq_node *node) { return lq_cuda_wtile_accepts(node->in[W]); }

/* ---- parts ----------------------------------------------------------------------------------- */

static bool drops(const lq_node *node, const lq_run *run) {
    return run->training && attr_of(node)->dropout > 0;
}

static void apply_dropout(const lq_node *node, const lq_run *run, const void *x, void *y,
                          bool add) {
    const int64_t n = lq_count(node->in[X]);
    const uint64_t key = lq_random_key(run->key, node->id);
    lq_by_activation(node->in[X]->fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(run->dev, dropout_kernel<T>, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, (T *)y,
                  (const T *)x, attr_of(node)->dropout, key, add, n);
    });
}

/* The adapter's input (N,D): x, or drop(x) made in scratch. */
static lq_cuda_mat adapter_input(const lq_node *node, const lq_run *run, void *dropped) {
    const lq_tensor *const x = node->in[X];
    if (drops(node, run)) apply_dropout(node, run, x->data, dropped, false);
    return lq_cuda_mat{drops(node, run) ? dropped : x->data, x->fmt, x->dim[1], false};
}

static void scale_columns(const lq_node *node, lq_dev *dev, const void *x, void *out) {
    const int64_t n = node->in[X]->dim[0], O = node->in[W]->dim[0];
    lq_by_activation(node->in[X]->fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(dev, magnitude_kernel<T>, (unsigned)n, LQ_BLOCK, 0, (T *)out, (const T *)x,
                  lq_data<float>(node->in[M]), lq_data<float>(node->in[NORM]), O);
    });
}

static void magnitude_backward(const lq_node *node, lq_dev *dev) {
    const int64_t n = node->in[X]->dim[0], O = node->in[W]->dim[0];
    float *const dm = lq_grad<float>(node->in[M]);
    if (!dm) return;
    lq_by_activation(node->in[X]->fmt, [&](auto type) {
        typedef decltype(type) T;
        const magnitude_slope<T> slope = {lq_grad<T>(node->out), lq_data<T>(node->out),
                                          lq_data<float>(node->in[BIAS]),
                                          lq_data<float>(node->in[M]), O};
        lq_column_sums(dev, n, O, slope, dm);
    });
}

/* ---- forward --------------------------------------------------------------------------------- */

/* P (N,R) = drop(x) A^T */
static lq_cuda_mat make_p(const lq_node *node, const lq_run *run, lq_cuda_mat x, void *p) {
    const lq_tensor *const a = node->in[A];
    const int64_t R = a->dim[0];
    lq_cuda_gemm(run->dev, p, x.fmt, R, 0, 1, x, lq_cuda_operand(a, x.fmt, true),
                 node->in[X]->dim[0], R, a->dim[1]);
    return lq_cuda_mat{p, x.fmt, R, false};
}

/* y = s P B^T */
static void adapter_forward(const lq_node *node, const lq_run *run, void *y) {
    const lq_tensor *const b = node->in[B];
    const layout l = scratch_layout(node);
    char *const base = (char *)run->scratch;
    const lq_cuda_mat x = adapter_input(node, run, base + l.dropped);
    const lq_cuda_mat p = make_p(node, run, x, node->saved ? node->saved->data : base + l.p);
    lq_cuda_gemm(run->dev, y, x.fmt, b->dim[0], 0, attr_of(node)->scale, p,
                 lq_cuda_operand(b, x.fmt, true), node->in[X]->dim[0], b->dim[0], b->dim[1]);
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X];
    const bool merged = attr_of(node)->merged;
    void *const y = node->out->data;
    if (!merged) adapter_forward(node, run, y);
    lq_cuda_wtile_forward(run->dev, node->in[W], x->fmt, input_of_w(node)->data, y,
                          merged ? 0.0f : 1.0f, x->dim[0], run->scratch);
    if (node->in[M] && !merged) scale_columns(node, run->dev, y, y);
    lq_cuda_bias(run->dev, node->in[BIAS], x->fmt, y, x->dim[0]);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* dx += s drop'(Q A) */
static void adapter_dx(const lq_node *node, const lq_run *run, lq_cuda_mat q, void *dropped) {
    const lq_tensor *const x = node->in[X], *const a = node->in[A];
    const int64_t N = x->dim[0], D = x->dim[1];
    const bool through = drops(node, run);
    lq_cuda_gemm(run->dev, through ? dropped : x->grad->data, x->fmt, D, through ? 0.0f : 1.0f,
                 attr_of(node)->scale, q, lq_cuda_operand(a, x->fmt, false), N, D, a->dim[0]);
    if (through) apply_dropout(node, run, dropped, x->grad->data, true);
}

/* dB -= s G A^T, dA -= s B^T G, with G = dy^T x where weights are clipped, rows of W at a time. */
static void clip_backward(const lq_node *node, const lq_run *run, lq_cuda_mat dy, lq_cuda_mat x,
                          float *g) {
    const lq_tensor *const a = node->in[A], *const b = node->in[B];
    const int64_t N = node->in[X]->dim[0], D = a->dim[1], O = b->dim[0], R = a->dim[0];
    const int64_t height = clip_rows(node);
    const float scale = -attr_of(node)->scale;
    dy.transposed = true;
    for (int64_t o = 0; o < O; o += height) {
        const int64_t rows = lq_min64(height, O - o);
        lq_cuda_mat part = dy;
        part.data = (const char *)dy.data + lq_format_bytes(dy.fmt, o);
        lq_cuda_gemm(run->dev, g, &lq_f32, D, 0, 1, part, x, rows, D, N);
        lq_launch(run->dev, mask_kernel, lq_blocks(rows * D, LQ_BLOCK), LQ_BLOCK, 0, g,
                  attr_of(node)->clipped + o * D / LQ_CLIP_BITS, rows * D);
        const lq_cuda_mat gm = {g, &lq_f32, D, false};
        const lq_cuda_mat bm = {lq_data<float>(b) + o * R, &lq_f32, R, true};
        if (b->grad)
            lq_cuda_gemm(run->dev, lq_grad<float>(b) + o * R, &lq_f32, R, 1, scale, gm,
                         lq_cuda_operand(a, &lq_f32, true), rows, R, D);
        if (a->grad)
            lq_cuda_gemm(run->dev, lq_grad<float>(a), &lq_f32, D, 1, scale, bm, gm, R, D, rows);
    }
}

/* The gradient (N,O) of x (W + s B A)^T from that of out; also adds to dm. */
static lq_cuda_mat before_magnitude(const lq_node *node, const lq_run *run, void *scaled) {
    const lq_tensor *const dout = node->out->grad;
    if (node->in[M]) {
        magnitude_backward(node, run->dev);
        scale_columns(node, run->dev, dout->data, scaled);
    }
    return lq_cuda_mat{node->in[M] ? scaled : dout->data, dout->fmt, dout->dim[1], false};
}

static lq_cuda_mat transposed(lq_cuda_mat m) {
    m.transposed = true;
    return m;
}

static void adapter_backward(const lq_node *node, const lq_run *run, lq_cuda_mat dy) {
    const lq_tensor *const x = node->in[X], *const a = node->in[A], *const b = node->in[B];
    const int64_t N = x->dim[0], D = x->dim[1], O = b->dim[0], R = a->dim[0];
    const layout l = scratch_layout(node);
    const lq_lora_attr *const attr = attr_of(node);
    char *const base = (char *)run->scratch;
    const lq_cuda_mat q = {base + l.q, x->fmt, R, false};
    lq_cuda_gemm(run->dev, base + l.q, x->fmt, R, 0, 1, dy, lq_cuda_operand(b, x->fmt, false), N,
                 R, O);
    const lq_cuda_mat xm = adapter_input(node, run, base + l.dropped);
    const lq_cuda_mat p = attr->merged ? make_p(node, run, xm, base + l.p)
                                       : lq_cuda_mat{node->saved->data, x->fmt, R, false};
    if (b->grad)
        lq_cuda_gemm(run->dev, b->grad->data, &lq_f32, R, 1, attr->scale, transposed(dy), p, O, R,
                     N);
    if (a->grad)
        lq_cuda_gemm(run->dev, a->grad->data, &lq_f32, D, 1, attr->scale, transposed(q), xm, R, D,
                     N);
    if (x->grad && !attr->merged) adapter_dx(node, run, q, base + l.dropped);
    if (attr->clipped) clip_backward(node, run, dy, xm, (float *)(base + l.clip));
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X], *const dx_of_w = input_of_w(node)->grad;
    const lq_tensor *const dout = node->out->grad;
    const lq_cuda_mat dy =
        before_magnitude(node, run, (char *)run->scratch + scratch_layout(node).dy);
    if (dx_of_w)
        lq_cuda_wtile_backward(run->dev, node->in[W], x->fmt,
                               attr_of(node)->merged ? dout->data : dy.data, dx_of_w->data,
                               x->dim[0], run->scratch);
    lq_cuda_bias_backward(run->dev, node->in[BIAS], x->fmt, dout->data, x->dim[0]);
    adapter_backward(node, run, dy);
}

extern "C" const lq_kernels lq_cuda_lora_linear = {forward, backward, scratch, accepts, 0};
