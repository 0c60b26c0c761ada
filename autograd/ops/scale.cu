/* out = factor * x; see scale.c. */
#include "map.h"

namespace {
struct plus_times {
    float factor;
    __device__ float operator()(float dx, float dy) const { return dx + factor * dy; }
};
}

static float factor_of(const lq_node *node) { return ((const lq_scale_attr *)node->attr)->factor; }

static void forward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        lq_map(run->dev, lq_count(node->out), lq_times{factor_of(node)}, lq_data<T>(node->out),
               lq_data<T>(node->in[0]));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        T *const dx = lq_grad<T>(node->in[0]);
        lq_map(run->dev, lq_count(node->out), plus_times{factor_of(node)}, dx, dx,
               lq_grad<T>(node->out));
    });
}

extern "C" const lq_kernels lq_cuda_scale = {forward, backward, NULL, NULL, 0};
