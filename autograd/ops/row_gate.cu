/* out = x * s with s = sigmoid(gate) of the row; see row_gate.c. */
#include "rows.h"

__device__ static inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

template <typename T, int W, int THREADS>
static __global__ void gate_forward(int64_t rows, int64_t d, const T *x, const T *gate, T *y) {
    const int64_t t = lq_row<THREADS>();
    if (t >= rows) return;
    const float s = sigmoid(lq_to_float(gate[t]));
    for (int64_t j = lq_place<THREADS>() * W; j < d; j += THREADS * W) {
        lq_floats<W> a = lq_load<W>(x + t * d + j);
        for (int i = 0; i < W; i++) a.v[i] *= s;
        lq_store<W>(y + t * d + j, a);
    }
}

/* dx += s dy; dgate += s (1 - s) dy.x; either may be NULL. */
template <typename T, int W, int THREADS>
static __global__ void gate_backward(int64_t rows, int64_t d, const T *x, const T *gate,
                                     const T *dy, T *dx, T *dgate) {
    const int64_t t = lq_row<THREADS>();
    if (t >= rows) return;
    const float s = sigmoid(lq_to_float(gate[t]));
    float sum = 0;
    for (int64_t j = lq_place<THREADS>() * W; j < d; j += THREADS * W) {
        const lq_floats<W> c = lq_load<W>(dy + t * d + j);
        if (dgate) {
            const lq_floats<W> a = lq_load<W>(x + t * d + j);
            for (int i = 0; i < W; i++) sum += c.v[i] * a.v[i];
        }
        if (!dx) continue;
        lq_floats<W> dxs = lq_load<W>(dx + t * d + j);
        for (int i = 0; i < W; i++) dxs.v[i] += s * c.v[i];
        lq_store<W>(dx + t * d + j, dxs);
    }
    if (!dgate) return;
    sum = lq_row_sum<THREADS>(sum);
    if (lq_place<THREADS>() == 0)
        dgate[t] = lq_from_float<T>(lq_to_float(dgate[t]) + s * (1 - s) * sum);
}

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    lq_by_row(node->out->fmt, d, true, [&](auto of, auto width, auto threads) {
        using T = decltype(of);
        constexpr int W = decltype(width)::value, THREADS = decltype(threads)::value;
        lq_launch(run->dev, gate_forward<T, W, THREADS>, lq_row_blocks<THREADS>(rows),
                  LQ_BLOCK, 0, rows, d, lq_data<T>(node->in[0]), lq_data<T>(node->in[1]),
                  lq_data<T>(node->out));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const int64_t rows = lq_rows(node->out), d = lq_cols(node->out);
    lq_by_row(node->out->fmt, d, true, [&](auto of, auto width, auto threads) {
        using T = decltype(of);
        constexpr int W = decltype(width)::value, THREADS = decltype(threads)::value;
        lq_launch(run->dev, gate_backward<T, W, THREADS>, lq_row_blocks<THREADS>(rows),
                  LQ_BLOCK, 0, rows, d, lq_data<T>(node->in[0]), lq_data<T>(node->in[1]),
                  lq_grad<T>(node->out), lq_grad<T>(node->in[0]), lq_grad<T>(node->in[1]));
    });
}

extern "C" const lq_kernels lq_cuda_row_gate = {forward, backward, NULL, NULL, 0};
