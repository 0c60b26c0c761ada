/* out = x r w with r = 1 / sqrt(mean(x^2) + eps), a warp or a block per group; see rmsnorm.c. A
 * group is read twice, the second time from the cache. */
#include "column_sums.h"
#include "rows.h"

template <typename T, int W, int THREADS>
static __global__ void rms_forward(int64_t groups, int64_t d, float eps, const T *x,
                                   const float *w, T *y, float *r) {
    const int64_t g = lq_row<THREADS>(), first = lq_place<THREADS>() * W;
    if (g >= groups) return;
    x += g * d;
    y += g * d;
    float sum = 0;
    for (int64_t j = first; j < d; j += THREADS * W) {
        const lq_floats<W> a = lq_load<W>(x + j);
        for (int i = 0; i < W; i++) sum += a.v[i] * a.v[i];
    }
    const float inverse = 1 / sqrtf(lq_row_sum<THREADS>(sum) / (float)d + eps);
    if (first == 0) r[g] = inverse;
    for (int64_t j = first; j < d; j += THREADS * W) {
        lq_floats<W> a = lq_load<W>(x + j);
        const lq_floats<W> b = lq_load<W>(w + j);
        for (int i = 0; i < W; i++) a.v[i] = a.v[i] * inverse * b.v[i];
        lq_store<W>(y + j, a);
    }
}

/* dx += r (dy w) - (r^3 sum(dy w x) / d) x */
template <typename T, int W, int THREADS>
static __global__ void rms_backward(int64_t groups, int64_t d, const T *x, const float *w,
                                    const float *r, const T *dy, T *dx) {
    const int64_t g = lq_row<THREADS>(), first = lq_place<THREADS>() * W;
    if (g >= groups) return;
    x += g * d;
    dy += g * d;
    dx += g * d;
    float sum = 0;
    for (int64_t j = first; j < d; j += THREADS * W) {
        const lq_floats<W> a = lq_load<W>(x + j), b = lq_load<W>(w + j), c = lq_load<W>(dy + j);
        for (int i = 0; i < W; i++) sum += c.v[i] * b.v[i] * a.v[i];
    }
    const float inverse = r[g];
    const float by = lq_row_sum<THREADS>(sum) / (float)d * inverse * inverse * inverse;
    for (int64_t j = first; j < d; j += THREADS * W) {
        const lq_floats<W> a = lq_load<W>(x + j), b = lq_load<W>(w + j), c = lq_load<W>(dy + j);
        lq_floats<W> dxs = lq_load<W>(dx + j);
        for (int i = 0; i < W; i++) dxs.v[i] += inverse * (c.v[i] * b.v[i]) - by * a.v[i];
        lq_store<W>(dx + j, dxs);
    }
}

namespace {
/* What group i adds to dw[j]. */
template <typename T> struct w_term {
    int64_t d;
    const T *x, *dy;
    const float *r;
    __device__ float operator()(int64_t i, int64_t j) const {
        return lq_to_float(dy[i * d + j]) * (lq_to_float(x[i * d + j]) * r[i]);
    }
};
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[0], *const w = node->in[1], *const y = node->out;
    const int64_t d = w->dim[0], groups = lq_count(node->saved);
    lq_by_row(y->fmt, d, lq_is_aligned(w->data), [&](auto of, auto width, auto threads) {
        using T = decltype(of);
        constexpr int W = decltype(width)::value, THREADS = decltype(threads)::value;
        lq_launch(run->dev, rms_forward<T, W, THREADS>, lq_row_blocks<THREADS>(groups),
                  LQ_BLOCK, 0, groups, d, ((const lq_rmsnorm_attr *)node->attr)->eps,
                  lq_data<T>(x), lq_data<float>(w), lq_data<T>(y), lq_data<float>(node->saved));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[0], *const w = node->in[1], *const y = node->out;
    const int64_t d = w->dim[0], groups = lq_count(node->saved);
    const float *const r = lq_data<float>(node->saved);
    lq_by_row(y->fmt, d, lq_is_aligned(w->data), [&](auto of, auto width, auto threads) {
        using T = decltype(of);
        constexpr int W = decltype(width)::value, THREADS = decltype(threads)::value;
        if (x->grad)
            lq_launch(run->dev, rms_backward<T, W, THREADS>, lq_row_blocks<THREADS>(groups),
                      LQ_BLOCK, 0, groups, d, lq_data<T>(x), lq_data<float>(w), r,
                      lq_grad<T>(y), lq_grad<T>(x));
        if (w->grad)
            lq_column_sums(run->dev, groups, d, w_term<T>{d, lq_data<T>(x), lq_grad<T>(y), r},
                           lq_grad<float>(w));
    });
}

extern "C" const lq_kernels lq_cuda_rmsnorm = {forward, backward, NULL, NULL, 0};
