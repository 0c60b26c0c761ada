/* optim.h's functions where the span may be a device's: its kernels if it has them (span.h). */
#include "optim.h"

void lq_optim_step_on(lq_dev *dev, const lq_optim *rule, const lq_optim_options *o,
                      const lq_optim_group *groups, int n_groups, float lr, int64_t t, int64_t n,
                      float *param, const float *grad, float *state) {
    const lq_optim_group whole = {0, n, 1};
    if (!dev->row->span) {
        lq_optim_step(rule, o, groups, n_groups, lr, t, n, param, grad, state);
        return;
    }
    for (int i = 0; i < (n_groups ? n_groups : 1); i++) {
        const lq_optim_group *const g = n_groups ? &groups[i] : &whole;
        rule->update_on(dev, o, lr * g->lr_scale, t, g->n, param + g->first, grad + g->first,
                        state + g->first, n);
    }
}

size_t lq_optim_work_bytes(void) { return LQ_SPAN_WORK * sizeof(double); }

void lq_optim_norm(lq_dev *dev, void *work, const float *grad, int64_t n, double *out) {
    if (!dev->row->span) {
        *out = lq_grad_norm(grad, n);
        return;
    }
    dev->row->span->norm(dev, work, grad, n);
    dev->row->copy(dev, out, work, sizeof *out);
}

void lq_optim_scale(lq_dev *dev, float *x, int64_t n, float factor) {
    if (dev->row->span) dev->row->span->scale(dev, x, n, factor);
    else lq_scale(x, n, factor);
}

void lq_optim_ema(lq_dev *dev, float *ema, const float *param, int64_t n, float decay) {
    if (dev->row->span) dev->row->span->ema(dev, ema, param, n, decay);
    else lq_ema_update(ema, param, n, decay);
}
