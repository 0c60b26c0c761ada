/* The activation functions of glu, and of experts, with their slopes. */
#ifndef LOQUAT_ACTIVATION_H
#define LOQUAT_ACTIVATION_H

#include "launch.h"
#include "ops.h"

struct lq_act_value { float y, slope; };

template <lq_act ACT> __device__ inline lq_act_value lq_activate(float x) {
    if constexpr (ACT == LQ_SILU) {
        const float s = 1 / (1 + expf(-x));
        return {x * s, s * (1 + x * (1 - s))};
    } else if constexpr (ACT == LQ_GELU_TANH) {
        const float a = 0.79788456f, b = 0.044715f;
        const float t = tanhf(a * (x + b * x * x * x));
        const float inner = a * (1 + 3 * b * x * x);
        return {0.5f * x * (1 + t), 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * inner};
    } else {
        const float cdf = 0.5f * (1 + erff(x * 0.70710678f));
        return {x * cdf, cdf + x * 0.39894228f * expf(-0.5f * x * x)};
    }
}

template <lq_act ACT> struct lq_gated {
    __device__ float operator()(float gate, float up) const {
        return lq_activate<ACT>(gate).y * up;
    }
};

template <lq_act ACT> using lq_act_constant = std::integral_constant<lq_act, ACT>;

template <typename F> static void lq_by_act(lq_act act, F f) {
    if (act == LQ_SILU) f(lq_act_constant<LQ_SILU>());
    else if (act == LQ_GELU_TANH) f(lq_act_constant<LQ_GELU_TANH>());
    else f(lq_act_constant<LQ_GELU>());
}

#endif
