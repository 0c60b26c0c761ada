/* out (N,n) = columns [first, first + n) of x (N,D); see columns.c. A pack per thread. */
#include "map.h"

/* to (rows,n) = part, where row t of part begins at t * stride; with ADDS the other way round:
 * part += to. */
template <typename T, int W, bool ADDS>
static __global__ void move_columns(int64_t rows, int64_t n, int64_t stride, T *to, T *part) {
    const int64_t at = ((int64_t)blockIdx.x * LQ_BLOCK + threadIdx.x) * W;
    if (at >= rows * n) return;
    T *const x = part + at / n * stride + at % n;
    if (!ADDS) {
        lq_store<W>(to + at, lq_load<W>(x));
        return;
    }
    lq_floats<W> sum = lq_load<W>(x);
    const lq_floats<W> dy = lq_load<W>(to + at);
    for (int j = 0; j < W; j++) sum.v[j] += dy.v[j];
    lq_store<W>(x, sum);
}

template <typename T, bool ADDS>
static void move(const lq_node *node, lq_dev *dev, T *y, T *x) {
    constexpr int W = lq_pack_width<T>;
    const int64_t n = lq_cols(node->out), rows = lq_rows(node->out), d = lq_cols(node->in[0]);
    x += ((const lq_columns_attr *)node->attr)->first;
    if (lq_is_aligned(y, x) && n % W == 0 && d % W == 0)
        lq_launch(dev, move_columns<T, W, ADDS>, lq_map_blocks<W>(rows * n), LQ_BLOCK, 0,
                  rows, n, d, y, x);
    else
        lq_launch(dev, move_columns<T, 1, ADDS>, lq_map_blocks<1>(rows * n), LQ_BLOCK, 0,
                  rows, n, d, y, x);
}

static void forward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        move<T, false>(node, run->dev, lq_data<T>(node->out), lq_data<T>(node->in[0]));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        move<T, true>(node, run->dev, lq_grad<T>(node->out), lq_grad<T>(node->in[0]));
    });
}

extern "C" const lq_kernels lq_cuda_columns = {forward, backward, NULL, NULL, 0};
