/* An adapter on a device: copies of its spans, effective weights, lengths and masks there, patches
 * that point to them, and the merge that rebuilds them. */
#include "adapter.h"

#include "adapter_parts.h"

#include <string.h>

/* The same place in the device's copy; NULL stays NULL. */
static void *moved(const void *p, const void *from, void *to) {
    return p ? (char *)to + ((const char *)p - (const char *)from) : NULL;
}

static lq_status copy_to(lq_dev *dev, void **out, const void *from, size_t bytes) {
    if (!from) return LQ_OK;
    LQ_TRY(dev->row->alloc(dev, out, bytes));
    dev->row->copy(dev, *out, from, bytes);
    return LQ_OK;
}

static size_t span_bytes(const lq_adapter *a) { return (size_t)a->n_params * sizeof(float); }

static lq_status copy_all(const lq_adapter *a) {
    lq_adapter_on *const on = a->on;
    LQ_TRY(copy_to(on->dev, (void **)&on->param, a->param, span_bytes(a)));
    LQ_TRY(copy_to(on->dev, (void **)&on->grad, a->grad, span_bytes(a)));
    LQ_TRY(copy_to(on->dev, &on->packed, a->packed, a->packed_bytes));
    LQ_TRY(copy_to(on->dev, (void **)&on->norm, a->norm, (size_t)a->n_norm * sizeof *a->norm));
    LQ_TRY(copy_to(on->dev, (void **)&on->clipped, a->clipped,
                   (size_t)a->n_clipped * sizeof *a->clipped));
    return on->dev->row->wait(on->dev);
}

static void move_patch(const lq_adapter *a, lq_patch *p) {
    const lq_adapter_on *const on = a->on;
    float **const param[] = {&p->a, &p->b, &p->m, &p->d, &p->w};
    float **const grad[] = {&p->da, &p->db, &p->dm, &p->dd, &p->dw};
    for (int i = 0; i < LQ_ARRAY_LEN(param); i++) {
        *param[i] = moved(*param[i], a->param, on->param);
        *grad[i] = moved(*grad[i], a->grad, on->grad);
    }
    p->data = moved(p->data, a->packed, on->packed);
    p->norm = moved(p->norm, a->norm, on->norm);
    p->clipped = moved(p->clipped, a->clipped, on->clipped);
}

static void move_job(lq_merge_job *job, void *ctx) {
    const lq_adapter *const a = ctx;
    const lq_adapter_on *const on = a->on;
    job->a = moved(job->a, a->param, on->param);
    job->b = moved(job->b, a->param, on->param);
    job->m = moved(job->m, a->param, on->param);
    job->norm = moved(job->norm, a->norm, on->norm);
    job->out = moved(job->out, a->packed, on->packed);
    job->clipped = moved(job->clipped, a->clipped, on->clipped);
}

static lq_status place(lq_adapter *a) {
    const int n = a->model->n_weights;
    LQ_TRY(copy_all(a));
    a->on->patch = lq_alloc_array(n, sizeof *a->on->patch);
    if (!a->on->patch) return LQ_EMEM;
    memcpy(a->on->patch, a->patch, (size_t)n * sizeof *a->patch);
    for (int i = 0; i < n; i++) move_patch(a, &a->on->patch[i]);
    return a->merge ? lq_merge_copy_on(&a->on->merge, a->merge, a->on->dev, move_job, a) : LQ_OK;
}

lq_status lq_adapter_place(lq_adapter *a, lq_dev *dev) {
    if (!dev->row->effective) return LQ_OK;
    if (a->options.scales)
        return lq_fail(LQ_EUNSUPPORTED, "adapter: scales is not possible on device '%s'",
                       dev->row->name);
    a->on = lq_alloc(sizeof *a->on);
    if (!a->on) return LQ_EMEM;
    a->on->dev = dev;
    const lq_status status = place(a);
    if (status != LQ_OK) lq_adapter_take_off(a);
    return status;
}

void lq_adapter_take_off(lq_adapter *a) {
    lq_adapter_on *const on = a->on;
    if (!on) return;
    lq_merge_free(on->merge);
    on->dev->row->free(on->dev, on->param);
    on->dev->row->free(on->dev, on->grad);
    on->dev->row->free(on->dev, on->packed);
    on->dev->row->free(on->dev, on->norm);
    on->dev->row->free(on->dev, on->clipped);
    lq_free(on->patch);
    lq_free(on);
    a->on = NULL;
}

static void copy_back(const lq_adapter_on *on, void *to, const void *from, size_t bytes) {
    if (to) on->dev->row->copy(on->dev, to, from, bytes);
}

lq_status lq_adapter_fetch(lq_adapter *a) {
    const lq_adapter_on *const on = a->on;
    if (!on) return LQ_OK;
    copy_back(on, a->param, on->param, span_bytes(a));
    copy_back(on, a->packed, on->packed, a->packed_bytes);
    copy_back(on, a->norm, on->norm, (size_t)a->n_norm * sizeof *a->norm);
    copy_back(on, a->clipped, on->clipped, (size_t)a->n_clipped * sizeof *a->clipped);
    return on->merge ? lq_merge_settle(on->merge) : on->dev->row->wait(on->dev);
}

void lq_adapter_send(lq_adapter *a) {
    if (a->on) a->on->dev->row->copy(a->on->dev, a->on->param, a->param, span_bytes(a));
}
