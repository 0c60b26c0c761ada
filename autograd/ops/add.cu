/* add on CUDA: see add.c. */
#include "kernels.h"

/* y = a + b; y may be a. */
template <typename T>
static __global__ void sum_kernel(T *y, const T *a, const T *b, int64_t n) {
    for (int64_t i = lq_thread_first(); i < n; i += lq_thread_step())
        y[i] = lq_from_float<T>(lq_to_float(a[i]) + lq_to_float(b[i]));
}

template <typename T> static void sum(lq_dev *dev, T *y, const T *a, const T *b, int64_t n) {
    lq_launch(dev, sum_kernel<T>, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, y, a, b, n);
}

static void forward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        sum<T>(run->dev, lq_data<T>(node->out), lq_data<T>(node->in[0]), lq_data<T>(node->in[1]),
               lq_count(node->out));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        for (int i = 0; i < 2; i++) {
            T *const dx = lq_grad<T>(node->in[i]);
            if (dx) sum<T>(run->dev, dx, dx, lq_grad<T>(node->out), lq_count(node->out));
        }
    });
}

extern "C" const lq_kernels lq_cuda_add = {forward, backward, NULL, NULL};
