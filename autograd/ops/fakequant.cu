/* fakequant on CUDA: see fakequant.c. */
#include "cuda_rounding.h"
#include "map.h"

static void forward(const lq_node *node, const lq_run *run) {
    const lq_fakequant_attr *const attr = (const lq_fakequant_attr *)node->attr;
    lq_cuda_round(run->dev, attr->how, node->out->fmt, node->in[0]->data, node->out->data,
                  lq_count(node->out), run->scratch);
}

static size_t scratch(const lq_node *node, bool backward) {
    const lq_fakequant_attr *const attr = (const lq_fakequant_attr *)node->attr;
    if (backward) return 0;
    return lq_cuda_rounding_scratch(attr->how, node->out->fmt,
                                    node->out->dim[0] * node->out->dim[1]);
}

static void backward(const lq_node *node, const lq_run *run) {
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        T *const dx = lq_grad<T>(node->in[0]);
        lq_map(run->dev, lq_count(node->out), lq_plus(), dx, dx, lq_grad<T>(node->out));
    });
}

extern "C" const lq_kernels lq_cuda_fakequant = {forward, backward, scratch, NULL, 0};
