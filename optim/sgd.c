/* Stochastic gradient descent with momentum as torch.optim.SGD (dampening 0, no Nesterov), weight
 * decay as an L2 term:   g += wd p;   m = momentum m + g;   p -= lr m.   State: m. */
#include "rules.h"

static void update(const lq_optim_options *o, float lr, int64_t t, int64_t n, float *param,
                   const float *grad, float *state, int64_t stride) {
    (void)t, (void)stride;
    const float decay = (float)o->weight_decay, momentum = (float)o->momentum;
    for (int64_t i = 0; i < n; i++) {
        state[i] = momentum * state[i] + (grad[i] + decay * param[i]);
        param[i] -= lr * state[i];
    }
}

static void update_on(lq_dev *dev, const lq_optim_options *o, float lr, int64_t t, int64_t n,
                      float *param, const float *grad, float *state, int64_t stride) {
    (void)t, (void)stride;
    const lq_span_sgd s = {(float)o->weight_decay, (float)o->momentum, lr};
    dev->row->span->sgd(dev, s, n, param, grad, state);
}

const lq_optim lq_sgd = {"sgd", 1, update, update_on};
