/* out = cap tanh(x / cap); see softcap.c. */
#include "map.h"

namespace {
struct capped {
    float cap, inverse;
    __device__ float operator()(float x) const { return cap * tanhf(x * inverse); }
};

struct plus_capped {
    float inverse;
    __device__ float operator()(float dx, float y, float dy) const {
        const float t = y * inverse;
        return dx + dy * (1 - t) * (1 + t);
    }
};
}

static float cap_of(const lq_node *node) { return ((const lq_softcap_attr *)node->attr)->cap; }

static void forward(const lq_node *node, const lq_run *run) {
    const float cap = cap_of(node);
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        lq_map(run->dev, lq_count(node->out), capped{cap, 1 / cap}, lq_data<T>(node->out),
               lq_data<T>(node->in[0]));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        T *const dx = lq_grad<T>(node->in[0]);
        lq_map(run->dev, lq_count(node->out), plus_capped{1 / cap_of(node)}, dx, dx,
               lq_data<T>(node->out), lq_grad<T>(node->out));
    });
}

extern "C" const lq_kernels lq_cuda_softcap = {forward, backward, NULL, NULL, 0};
