/* out = (x - mean) r w + bias with r = 1 / sqrt(mean((x - mean)^2) + eps), a warp or a block per
 * row; see layernorm.c. A row is read again from the cache for each of its sums. */
#include "column_sums.h"
#include "rows.h"

enum { X, WEIGHT, BIAS };

template <typename T, int W, int THREADS>
static __global__ void norm_forward(int64_t rows, int64_t d, float eps, const T *x, const float *w,
                             const float *bias, T *y, float *saved) {
    const int64_t t = lq_row<THREADS>(), first = lq_place<THREADS>() * W;
    if (t >= rows) return;
    x += t * d;
    y += t * d;
    float sum = 0, squares = 0;
    for (int64_t j = first; j < d; j += THREADS * W) {
        const lq_floats<W> a = lq_load<W>(x + j);
        for (int i = 0; i < W; i++) sum += a.v[i];
    }
    const float mean = lq_row_sum<THREADS>(sum) / (float)d;
    for (int64_t j = first; j < d; j += THREADS * W) {
        const lq_floats<W> a = lq_load<W>(x + j);
        for (int i = 0; i < W; i++) squares += (a.v[i] - mean) * (a.v[i] - mean);
    }
    const float r = 1 / sqrtf(lq_row_sum<THREADS>(squares) / (float)d + eps);
    if (first == 0) {
        saved[2 * t] = mean;
        saved[2 * t + 1] = r;
    }
    for (int64_t j = first; j < d; j += THREADS * W) {
        lq_floats<W> a = lq_load<W>(x + j), shift = {};
        const lq_floats<W> b = lq_load<W>(w + j);
        if (bias) shift = lq_load<W>(bias + j);
        for (int i = 0; i < W; i++) a.v[i] = (a.v[i] - mean) * r * b.v[i] + shift.v[i];
        lq_store<W>(y + j, a);
    }
}

/* With g = dy w and h = (x - mean) r: dx += r (g - mean(g) - h mean(g h)) */
template <typename T, int W, int THREADS>
static __global__ void norm_backward(int64_t rows, int64_t d, const T *x, const float *w,
                              const float *saved, const T *dy, T *dx) {
    const int64_t t = lq_row<THREADS>(), first = lq_place<THREADS>() * W;
    if (t >= rows) return;
    const float mean = saved[2 * t], r = saved[2 * t + 1];
    x += t * d;
    dy += t * d;
    dx += t * d;
    float g_sum = 0, gh_sum = 0;
    for (int64_t j = first; j < d; j += THREADS * W) {
        const lq_floats<W> a = lq_load<W>(x + j), b = lq_load<W>(w + j), c = lq_load<W>(dy + j);
        for (int i = 0; i < W; i++) {
            g_sum += c.v[i] * b.v[i];
            gh_sum += c.v[i] * b.v[i] * ((a.v[i] - mean) * r);
        }
    }
    const float g_mean = lq_row_sum<THREADS>(g_sum) / (float)d;
    const float gh_mean = lq_row_sum<THREADS>(gh_sum) / (float)d;
    for (int64_t j = first; j < d; j += THREADS * W) {
        const lq_floats<W> a = lq_load<W>(x + j), b = lq_load<W>(w + j), c = lq_load<W>(dy + j);
        lq_floats<W> dxs = lq_load<W>(dx + j);
        for (int i = 0; i < W; i++)
            dxs.v[i] += r * (c.v[i] * b.v[i] - g_mean - (a.v[i] - mean) * r * gh_mean);
        lq_store<W>(dx + j, dxs);
    }
}

namespace {
/* What row i adds to dw[j], and to db[j]. */
template <typename T> struct w_term {
    int64_t d;
    const T *x, *dy;
    const float *saved;
    __device__ float operator()(int64_t i, int64_t j) const {
        return lq_to_float(dy[i * d + j]) *
               ((lq_to_float(x[i * d + j]) - saved[2 * i]) * saved[2 * i + 1]);
    }
};

template <typename T> struct bias_term {
    int64_t d;
    const T *dy;
    __device__ float operator()(int64_t i, int64_t j) const { return lq_to_float(dy[i * d + j]); }
};
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X], *const w = node->in[WEIGHT], *const y = node->out;
    const int64_t rows = lq_rows(y), d = lq_cols(y);
    const float eps = ((const lq_layernorm_attr *)node->attr)->eps;
    const float *const bias = lq_data<float>(node->in[BIAS]);
    lq_by_row(y->fmt, d, lq_is_aligned(w->data, bias), [&](auto of, auto width, auto threads) {
        using T = decltype(of);
        constexpr int W = decltype(width)::value, THREADS = decltype(threads)::value;
        lq_launch(run->dev, norm_forward<T, W, THREADS>, lq_row_blocks<THREADS>(rows),
                  LQ_BLOCK, 0, rows, d, eps, lq_data<T>(x), lq_data<float>(w), bias,
                  lq_data<T>(y), lq_data<float>(node->saved));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X], *const w = node->in[WEIGHT], *const y = node->out;
    const int64_t rows = lq_rows(y), d = lq_cols(y);
    const float *const saved = lq_data<float>(node->saved);
    float *const db = lq_grad<float>(node->in[BIAS]);
    lq_by_row(y->fmt, d, lq_is_aligned(w->data), [&](auto of, auto width, auto threads) {
        using T = decltype(of);
        constexpr int W = decltype(width)::value, THREADS = decltype(threads)::value;
        const T *const dy = lq_grad<T>(y);
        if (x->grad)
            lq_launch(run->dev, norm_backward<T, W, THREADS>, lq_row_blocks<THREADS>(rows),
                      LQ_BLOCK, 0, rows, d, lq_data<T>(x), lq_data<float>(w), saved, dy,
                      lq_grad<T>(x));
        if (w->grad)
            lq_column_sums(run->dev, rows, d, w_term<T>{d, lq_data<T>(x), dy, saved},
                           lq_grad<float>(w));
        if (db) lq_column_sums(run->dev, rows, d, bias_term<T>{d, dy}, db);
    });
}

extern "C" const lq_kernels lq_cuda_layernorm = {forward, backward, NULL, NULL, 0};
