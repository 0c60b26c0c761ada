/* linear on CUDA: see linear.c. */
#include "column_sums.h"
#include "kernels.h"
#include "linear_cuda.h"

enum { X, W, BIAS, N_IN };

/* A block per row. */
template <typename T>
static __global__ void bias_kernel(T *y, const float *bias, int64_t cols) {
    T *const row = y + blockIdx.x * cols;
    for (int64_t j = threadIdx.x; j < cols; j += LQ_BLOCK) lq_accumulate(&row[j], bias[j]);
}

namespace {
template <typename T> struct element {
    const T *x;
    int64_t cols;
    __device__ float operator()(int64_t i, int64_t j) const { return lq_to_float(x[i * cols + j]); }
};
}

void lq_cuda_bias(lq_dev *dev, const lq_tensor *bias, const lq_format *type, void *y, int64_t n) {
    if (!bias) return;
    lq_by_activation(type, [&](auto t) {
        typedef decltype(t) T;
        lq_launch(dev, bias_kernel<T>, (unsigned)n, LQ_BLOCK, 0, (T *)y, lq_data<float>(bias),
                  bias->dim[0]);
    });
}

void lq_cuda_bias_backward(lq_dev *dev, const lq_tensor *bias, const lq_format *type,
                           const void *dy, int64_t n) {
    if (!bias || !bias->grad) return;
    lq_by_activation(type, [&](auto t) {
        typedef decltype(t) T;
        lq_column_sums(dev, n, bias->dim[0], element<T>{(const T *)dy, bias->dim[0]},
                       lq_grad<float>(bias));
    });
}

static size_t scratch(const lq_node *node, bool backward) {
    (void)backward;
    return lq_cuda_wtile_scratch(node->in[W], node->in[X]->fmt);
}

static lq_status accepts(const lq_node *node) { return lq_cuda_wtile_accepts(node->in[W]); }

static void forward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X];
    const int64_t N = x->dim[0];
    lq_cuda_wtile_forward(run->dev, node->in[W], x->fmt, x->data, node->out->data, 0, N,
                          run->scratch);
    lq_cuda_bias(run->dev, node->in[BIAS], x->fmt, node->out->data, N);
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *const x = node->in[X], *const w = node->in[W];
    const int64_t N = x->dim[0], D = x->dim[1], O = w->dim[0];
    const void *const dy = node->out->grad->data; /* (N,O) */
    if (x->grad)
        lq_cuda_wtile_backward(run->dev, w, x->fmt, dy, x->grad->data, N, run->scratch);
    if (w->grad)
        lq_cuda_gemm(run->dev, w->grad->data, &lq_f32, D, 1, 1, lq_cuda_mat{dy, x->fmt, O, true},
                     lq_cuda_mat{x->data, x->fmt, D, false}, O, D, N);
    lq_cuda_bias_backward(run->dev, node->in[BIAS], x->fmt, dy, N);
}

extern "C" const lq_kernels lq_cuda_linear = {forward, backward, scratch, accepts, 0};
