/* When the effective weights get new scales (qat.requantize_every). What is validated and exported
 * always has: its bytes depend on the parameters alone. Between two searches they also depend on
 * the parameters of the last one, which a checkpoint therefore keeps. */
#include "trainer.h"

#include <string.h>

static size_t span_bytes(const lq_trainer *t) {
    return (size_t)t->adapter->n_params * sizeof(float);
}

void lq_trainer_copy(lq_trainer *t, float *to, const float *from) {
    if (to != from) t->dev->row->copy(t->dev, to, from, span_bytes(t));
}

lq_status lq_trainer_use(lq_trainer *t, const float *param) {
    lq_trainer_copy(t, lq_adapter_param(t->adapter), param);
    if (t->searched) lq_trainer_copy(t, t->searched, param);
    return lq_adapter_rebuild(t->adapter);
}

lq_status lq_trainer_requantize(lq_trainer *t) {
    if (!t->searched || (t->at.step + 1) % t->config->qat.requantize_every == 0)
        return lq_trainer_use(t, lq_adapter_param(t->adapter));
    return lq_adapter_reround(t->adapter);
}

static lq_status compare(bool *same, lq_trainer *t, const float *a, const float *b) {
    *same = t->dev->id == LQ_CPU && memcmp(a, b, span_bytes(t)) == 0;
    if (t->dev->id == LQ_CPU) return LQ_OK;
    char *const host = lq_alloc_array(2, span_bytes(t));
    if (!host) return LQ_EMEM;
    t->dev->row->copy(t->dev, host, a, span_bytes(t));
    t->dev->row->copy(t->dev, host + span_bytes(t), b, span_bytes(t));
    const lq_status status = t->dev->row->wait(t->dev);
    *same = memcmp(host, host + span_bytes(t), span_bytes(t)) == 0;
    lq_free(host);
    return status;
}

lq_status lq_trainer_restore_weights(lq_trainer *t) {
    float *const param = lq_adapter_param(t->adapter);
    bool same = true;
    if (t->searched) LQ_TRY(compare(&same, t, t->searched, param));
    if (same) return lq_adapter_rebuild(t->adapter);
    lq_trainer_copy(t, t->kept, param);
    LQ_TRY(lq_trainer_use(t, t->searched));
    lq_trainer_copy(t, param, t->kept);
    return lq_adapter_reround(t->adapter);
}
