/* An adapter on a device: its span, gradients and effective weights live there, and the patches
 * that tapes are built with point to them. What the host holds is a copy, brought up to date by
 * lq_adapter_fetch before a file is written and sent by lq_adapter_send after it was changed. */
#include "adapter_parts.h"

#include "span.h"

#include <string.h>

struct lq_adapter_device {
    lq_dev *dev;
    float *param, *grad, *taken, *norm;
    void *packed;
    uint32_t *clipped;
    lq_patch *patch;
    lq_merge *merge;     /* what a rebuild runs; NULL: nothing */
};

static size_t param_bytes(const lq_adapter *a) { return (size_t)a->n_params * sizeof(float); }

lq_dev *lq_adapter_dev(const lq_adapter *a) { return a->device ? a->device->dev : lq_dev_cpu(); }
float *lq_adapter_param(const lq_adapter *a) { return a->device ? a->device->param : a->param; }
float *lq_adapter_grad(const lq_adapter *a) { return a->device ? a->device->grad : a->grad; }
const lq_patch *lq_adapter_patch(const lq_adapter *a) {
    return a->device ? a->device->patch : a->patch;
}
lq_merge *lq_adapter_merge(const lq_adapter *a) { return a->device ? a->device->merge : a->merge; }

/* ---- moving ---------------------------------------------------------------------------------- */

/* p, which points into `host` or is NULL, in the device's copy of it. */
static void *moved(const void *p, const void *host, const void *device) {
    return p ? (char *)device + ((const char *)p - (const char *)host) : NULL;
}

static lq_patch moved_patch(const lq_adapter *a, const lq_patch *from) {
    const struct lq_adapter_device *const d = a->device;
    lq_patch p = *from;
    float **const params[] = {&p.a, &p.b, &p.m, &p.d, &p.w};
    float **const grads[] = {&p.da, &p.db, &p.dm, &p.dd, &p.dw};
    for (int i = 0; i < LQ_ARRAY_LEN(params); i++) {
        *params[i] = moved(*params[i], a->param, d->param);
        *grads[i] = moved(*grads[i], a->grad, d->grad);
    }
    p.a0 = moved(p.a0, a->taken, d->taken);
    p.b0 = moved(p.b0, a->taken, d->taken);
    p.data = moved(p.data, a->packed, d->packed);
    p.norm = moved(p.norm, a->norm, d->norm);
    p.clipped = moved(p.clipped, a->clipped, d->clipped);
    return p;
}

/* *out: a copy of the host's memory; NULL where there is none. */
static lq_status copy_of(lq_dev *dev, void **out, const void *host, size_t bytes) {
    if (!host) return LQ_OK;
    LQ_TRY(dev->row->alloc(dev, out, bytes));
    dev->row->copy(dev, *out, host, bytes);
    return LQ_OK;
}

static lq_status move(lq_adapter *a) {
    struct lq_adapter_device *const d = a->device;
    LQ_TRY(copy_of(d->dev, (void **)&d->param, a->param, param_bytes(a)));
    LQ_TRY(copy_of(d->dev, (void **)&d->grad, a->grad, param_bytes(a)));
    LQ_TRY(copy_of(d->dev, (void **)&d->taken, a->taken, param_bytes(a)));
    LQ_TRY(copy_of(d->dev, (void **)&d->norm, a->norm, (size_t)a->n_norms * sizeof *a->norm));
    LQ_TRY(copy_of(d->dev, &d->packed, a->packed, a->packed_bytes));
    LQ_TRY(copy_of(d->dev, (void **)&d->clipped, a->clipped,
                   (size_t)a->n_clip_words * sizeof *a->clipped));
    d->patch = lq_alloc_array(a->model->n_weights, sizeof *d->patch);
    if (!d->patch) return LQ_EMEM;
    for (int i = 0; i < a->model->n_weights; i++) d->patch[i] = moved_patch(a, &a->patch[i]);
    return a->merge ? lq_adapter_make_merge(&d->merge, a, d->dev, d->patch) : LQ_OK;
}

lq_status lq_adapter_on(lq_adapter *a, lq_dev *dev) {
    if (dev->id == LQ_CPU) return LQ_OK;
    a->device = lq_alloc(sizeof *a->device);
    if (!a->device) return LQ_EMEM;
    a->device->dev = dev;
    return move(a);
}

void lq_adapter_leave(lq_adapter *a) {
    struct lq_adapter_device *const d = a->device;
    if (!d) return;
    void *const memory[] = {d->param, d->grad, d->taken, d->norm, d->packed, d->clipped};
    lq_merge_free(d->merge);
    for (int i = 0; i < LQ_ARRAY_LEN(memory); i++) d->dev->row->free(d->dev, memory[i]);
    lq_free(d->patch);
    lq_free(d);
    a->device = NULL;
}

/* ---- keeping the host's copy ----------------------------------------------------------------- */

void lq_adapter_send(const lq_adapter *a) {
    const struct lq_adapter_device *const d = a->device;
    if (!d) return;
    const lq_device_row *const row = d->dev->row;
    row->copy(d->dev, d->param, a->param, param_bytes(a));
    if (a->taken) row->copy(d->dev, d->taken, a->taken, param_bytes(a));
    if (a->packed) row->copy(d->dev, d->packed, a->packed, a->packed_bytes);
}

lq_status lq_adapter_fetch(lq_adapter *a) {
    const struct lq_adapter_device *const d = a->device;
    if (!d) return LQ_OK;
    const lq_device_row *const row = d->dev->row;
    row->copy(d->dev, a->param, d->param, param_bytes(a));
    if (a->packed) row->copy(d->dev, a->packed, d->packed, a->packed_bytes);
    if (a->norm) row->copy(d->dev, a->norm, d->norm, (size_t)a->n_norms * sizeof *a->norm);
    LQ_TRY(lq_adapter_settle(a));
    return a->options.scales ? lq_scales_rebuild(a) : LQ_OK; /* the same bytes, checked */
}

lq_status lq_adapter_settle(const lq_adapter *a) {
    if (!a->device) return LQ_OK;
    return a->device->merge ? lq_merge_settle(a->device->merge)
                            : a->device->dev->row->wait(a->device->dev);
}

void lq_scales_rebuild_on(const lq_adapter *a) {
    const struct lq_adapter_device *const d = a->device;
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &a->model->weight[a->item[i].weight];
        d->dev->row->span->set_scales(d->dev, w->fmt, (void *)d->patch[a->item[i].weight].data,
                                      d->param + a->item[i].a, lq_scales_count(w));
    }
}
