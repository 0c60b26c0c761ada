/* When the effective weights get new scales (qat.requantize_every). What is validated and exported
 * always has: its bytes depend on the parameters alone. Between two searches they also depend on
 * the parameters of the last one, which a checkpoint therefore keeps. */
#include "trainer.h"

#include <string.h>

static size_t span_bytes(const lq_trainer *t) {
    return (size_t)t->adapter->n_params * sizeof(float);
}

lq_status lq_trainer_use(lq_trainer *t, const float *param) {
    if (param != t->adapter->param) memcpy(t->adapter->param, param, span_bytes(t));
    if (t->searched) memcpy(t->searched, t->adapter->param, span_bytes(t));
    return lq_adapter_rebuild(t->adapter);
}

lq_status lq_trainer_requantize(lq_trainer *t) {
    if (!t->searched || (t->at.step + 1) % t->config->qat.requantize_every == 0)
        return lq_trainer_use(t, t->adapter->param);
    return lq_adapter_reround(t->adapter);
}

lq_status lq_trainer_restore_weights(lq_trainer *t) {
    if (!t->searched || memcmp(t->searched, t->adapter->param, span_bytes(t)) == 0)
        return lq_adapter_rebuild(t->adapter);
    memcpy(t->kept, t->adapter->param, span_bytes(t));
    LQ_TRY(lq_trainer_use(t, t->searched));
    memcpy(t->adapter->param, t->kept, span_bytes(t));
    return lq_adapter_reround(t->adapter);
}
