/* out = act(gate) * up, or act(gate); see glu.c. */
#include "activation.h"
#include "map.h"

enum { GATE, UP };

namespace {
template <lq_act ACT> struct activated {
    __device__ float operator()(float gate) const { return lq_activate<ACT>(gate).y; }
};
}

/* dgate += dy up act'(gate), dup += dy act(gate); up NULL: 1; dgate and dup may be NULL. */
template <lq_act ACT, int W, typename T>
__device__ inline void backward_pack(const T *gate, const T *up, const T *dy, T *dgate, T *dup) {
    const lq_floats<W> g = lq_load<W>(gate), d = lq_load<W>(dy);
    lq_floats<W> u, sum_gate = {}, sum_up = {};
    for (int j = 0; j < W; j++) u.v[j] = 1;
    if (up && dgate) u = lq_load<W>(up);
    if (dgate) sum_gate = lq_load<W>(dgate);
    if (dup) sum_up = lq_load<W>(dup);
    for (int j = 0; j < W; j++) {
        const lq_act_value a = lq_activate<ACT>(g.v[j]);
        sum_gate.v[j] += d.v[j] * u.v[j] * a.slope;
        sum_up.v[j] += d.v[j] * a.y;
    }
    if (dgate) lq_store<W>(dgate, sum_gate);
    if (dup) lq_store<W>(dup, sum_up);
}

template <typename T> __device__ inline T *offset(T *p, int64_t n) { return p ? p + n : p; }

template <lq_act ACT, int W, typename T>
static __global__ void glu_backward(int64_t n, const T *gate, const T *up, const T *dy, T *dgate,
                                    T *dup) {
    const int64_t at = ((int64_t)blockIdx.x * LQ_BLOCK + threadIdx.x) * W;
    if (at + W <= n) {
        backward_pack<ACT, W>(gate + at, offset(up, at), dy + at, offset(dgate, at),
                              offset(dup, at));
        return;
    }
    for (int64_t i = at; i < n; i++)
        backward_pack<ACT, 1>(gate + i, offset(up, i), dy + i, offset(dgate, i), offset(dup, i));
}

static lq_act act_of(const lq_node *node) { return ((const lq_glu_attr *)node->attr)->act; }

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t n = lq_count(node->out);
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        T *const y = lq_data<T>(node->out), *const gate = lq_data<T>(node->in[GATE]);
        T *const up = lq_data<T>(node->in[UP]);
        lq_by_act(act_of(node), [&](auto act) {
            constexpr lq_act ACT = decltype(act)::value;
            if (up) lq_map(run->dev, n, lq_gated<ACT>(), y, gate, up);
            else lq_map(run->dev, n, activated<ACT>(), y, gate);
        });
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const int64_t n = lq_count(node->out);
    lq_by_activation(node->out->fmt, [&](auto of) {
        using T = decltype(of);
        constexpr int W = lq_pack_width<T>;
        lq_by_act(act_of(node), [&](auto act) {
            lq_launch(run->dev, glu_backward<decltype(act)::value, W, T>, lq_map_blocks<W>(n),
                      LQ_BLOCK, 0, n, lq_data<T>(node->in[GATE]), lq_data<T>(node->in[UP]),
                      lq_grad<T>(node->out), lq_grad<T>(node->in[GATE]),
                      lq_grad<T>(node->in[UP]));
        });
    });
}

extern "C" const lq_kernels lq_cuda_glu = {forward, backward, NULL, NULL, 0};
