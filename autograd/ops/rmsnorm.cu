/* rmsnorm on CUDA: see rmsnorm.c. A block takes one group of len(w) columns at a time; dw is summed
 * by one thread per column, over the groups in order. */
#include "kernels.h"

template <typename T>
static __global__ void forward_kernel(T *y, float *r, const T *x, const float *w, float eps,
                                      int64_t d) {
    const int64_t at = (int64_t)blockIdx.x * d;
    float squares = 0;
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x) {
        const float v = lq_to_float(x[at + j]);
        squares += v * v;
    }
    const float inverse = 1 / sqrtf(lq_block_sum(squares) / (float)d + eps);
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
        y[at + j] = lq_from_float<T>(lq_to_float(x[at + j]) * inverse * w[j]);
    if (threadIdx.x == 0) r[blockIdx.x] = inverse;
}

template <typename T>
static __global__ void backward_x_kernel(T *dx, const T *x, const float *w, const T *dy,
                                         const float *r, int64_t d) {
    const int64_t at = (int64_t)blockIdx.x * d;
    float s = 0;
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
        s += lq_to_float(dy[at + j]) * w[j] * lq_to_float(x[at + j]);
    s = lq_block_sum(s);
    const float inverse = r[blockIdx.x], c = -inverse * inverse * inverse * s / (float)d;
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
        lq_accumulate(&dx[at + j], inverse * (lq_to_float(dy[at + j]) * w[j]) +
                                       c * lq_to_float(x[at + j]));
}

template <typename T>
static __global__ void backward_w_kernel(float *dw, const T *x, const T *dy, const float *r,
                                         int64_t groups, int64_t d) {
    const int64_t j = lq_thread_first();
    float sum = 0;
    if (j >= d) return;
    for (int64_t g = 0; g < groups; g++)
        sum += lq_to_float(dy[g * d + j]) * (lq_to_float(x[g * d + j]) * r[g]);
    dw[j] += sum;
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_rmsnorm_attr *const attr = (const lq_rmsnorm_attr *)node->attr;
    const int64_t d = node->in[1]->dim[0];
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(run->dev, forward_kernel<T>, (unsigned)lq_count(node->saved), LQ_BLOCK, 0,
                  lq_data<T>(node->out), lq_data<float>(node->saved), lq_data<T>(node->in[0]),
                  lq_data<float>(node->in[1]), attr->eps, d);
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const int64_t d = node->in[1]->dim[0], groups = lq_count(node->saved);
    const float *const r = lq_data<float>(node->saved), *const w = lq_data<float>(node->in[1]);
    float *const dw = lq_grad<float>(node->in[1]);
    lq_by_activation(node->out->fmt, [&](auto type) {
        typedef decltype(type) T;
        const T *const x = lq_data<T>(node->in[0]), *const dy = lq_grad<T>(node->out);
        T *const dx = lq_grad<T>(node->in[0]);
        if (dx)
            lq_launch(run->dev, backward_x_kernel<T>, (unsigned)groups, LQ_BLOCK, 0, dx, x, w, dy,
                      r, d);
        if (dw)
            lq_launch(run->dev, backward_w_kernel<T>, lq_blocks(d, LQ_BLOCK), LQ_BLOCK, 0, dw, x,
                      dy, r, groups, d);
    });
}

extern "C" const lq_kernels lq_cuda_rmsnorm = {forward, backward, NULL, NULL};
