/* out = min(max(x, -most), most); see clamp.c. */
#include "map.h"

namespace {
struct clamped {
    float most;
    __device__ float operator()(float x) const { return x > most ? most : x < -most ? -most : x; }
};

struct plus_within {
    float most;
    __device__ float operator()(float dx, float x, float dy) const {
        return dx + (fabsf(x) <= most ? dy : 0);
    }
};
}

static float most_of(const lq_node *node) { return ((const lq_clamp_attr *)node->attr)->most; }

static void forward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        lq_map(run->dev, lq_count(node->out), clamped{most_of(node)}, lq_data<T>(node->out),
               lq_data<T>(node->in[0]));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        T *const dx = lq_grad<T>(node->in[0]);
        lq_map(run->dev, lq_count(node->out), plus_within{most_of(node)}, dx, dx,
               lq_data<T>(node->in[0]), lq_grad<T>(node->out));
    });
}

extern "C" const lq_kernels lq_cuda_clamp = {forward, backward, NULL, NULL, 0};
