/* AdamW (Loshchilov & Hutter, arXiv 1711.05101) in the order of operations of torch.optim.AdamW:
 *
 *   p *= 1 - lr wd;   m += (1 - beta1) (g - m);   v = beta2 v + (1 - beta2) g^2
 *   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
 *
 * State: m, then v. Scalars are computed in double and rounded once. */
#include "rules.h"

#include <math.h>

static lq_span_adamw scalars(const lq_optim_options *o, float lr, int64_t t) {
    return (lq_span_adamw){
        .keep = (float)(1 - (double)lr * o->weight_decay),
        .one_minus_beta1 = (float)(1 - o->beta1),
        .beta2 = (float)o->beta2,
        .one_minus_beta2 = (float)(1 - o->beta2),
        .step = (float)((double)lr / (1 - pow(o->beta1, (double)t))),
        .root = (float)sqrt(1 - pow(o->beta2, (double)t)),
        .epsilon = (float)o->epsilon,
    };
}

static void update(const lq_optim_options *o, float lr, int64_t t, int64_t n, float *param,
                   const float *grad, float *state, int64_t stride) {
    const lq_span_adamw s = scalars(o, lr, t);
    float *m = state, *v = state + stride;
    for (int64_t i = 0; i < n; i++) {
        const float g = grad[i];
        m[i] += s.one_minus_beta1 * (g - m[i]);
        v[i] = s.beta2 * v[i] + s.one_minus_beta2 * g * g;
        param[i] = param[i] * s.keep - s.step * m[i] / (sqrtf(v[i]) / s.root + s.epsilon);
    }
}

static void update_on(lq_dev *dev, const lq_optim_options *o, float lr, int64_t t, int64_t n,
                      float *param, const float *grad, float *state, int64_t stride) {
    dev->row->span->adamw(dev, scalars(o, lr, t), n, param, grad, state, state + stride);
}

const lq_optim lq_adamw = {"adamw", 2, update, update_on};
