/* The op of op_bench.c on CUDA: out = x * c. */
#include "kernels.h"

template <typename T>
static __global__ void forward_kernel(float *y, const T *x, const float *c, int64_t n) {
    const int64_t i = lq_thread_first();
    if (i < n) y[i] = lq_to_float(x[i]) * c[i];
}

template <typename T>
static __global__ void backward_kernel(T *dx, const float *dy, const float *c, int64_t n) {
    const int64_t i = lq_thread_first();
    if (i < n) lq_accumulate(&dx[i], dy[i] * c[i]);
}

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t n = lq_count(node->out);
    lq_by_activation(node->in[0]->fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(run->dev, forward_kernel<T>, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0,
                  lq_data<float>(node->out), lq_data<T>(node->in[0]), lq_data<float>(node->in[1]), n);
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const int64_t n = lq_count(node->out);
    lq_by_activation(node->in[0]->fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(run->dev, backward_kernel<T>, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0,
                  lq_grad<T>(node->in[0]), lq_grad<float>(node->out), lq_data<float>(node->in[1]), n);
    });
}

extern "C" const lq_kernels lq_cuda_weigh = {forward, backward, NULL, NULL, 0};
