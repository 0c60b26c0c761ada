/* The device of a run: which one its configuration means, spans in its memory, and what to do when
 * that is not enough. */
#include "trainer.h"

#include <string.h>

lq_status lq_dev_from_config(lq_dev **out, const lq_config *c) {
    const bool wanted = strcmp(c->bf16, "true") == 0, allowed = strcmp(c->bf16, "false") != 0;
    LQ_TRY(lq_dev_open(out, c->device, allowed));
    if (!wanted || (*out)->activation == &lq_bf16) return LQ_OK;
    const lq_status status =
        lq_fail(LQ_ECONFIG, "bf16: true: device '%s' keeps activations in F32; set it to auto or "
                "false", (*out)->row->name);
    lq_dev_close(*out);
    *out = NULL;
    return status;
}

void lq_dev_say(lq_dev *dev) {
    size_t free_bytes, total;
    if (dev->id == LQ_CPU || dev->row->memory(dev, &free_bytes, &total) != LQ_OK) return;
    lq_log(LQ_LOG_INFO, "device %s:%d: %.1f of %.1f GB are free; activations in %s",
           dev->row->name, dev->index, 1e-9 * (double)free_bytes, 1e-9 * (double)total,
           dev->activation->label);
    lq_log(LQ_LOG_WARN, "device %s: tested on an emulated GPU only so far; compare a short run "
           "with device: cpu first", dev->row->name);
}

lq_status lq_trainer_span(const lq_trainer *t, float **out, int64_t n) {
    return t->dev->row->alloc(t->dev, (void **)out, (size_t)n * sizeof **out);
}

void lq_trainer_close_device(lq_trainer *t) {
    void *const spans[] = {t->state, t->ema, t->best, t->kept, t->searched, t->norm_work};
    if (!t->dev) return;
    for (int i = 0; i < LQ_ARRAY_LEN(spans); i++) t->dev->row->free(t->dev, spans[i]);
    t->dev->row->free_pinned(t->dev, t->norm);
    lq_dev_close(t->dev);
}

lq_status lq_trainer_explain(const lq_trainer *t, lq_status status) {
    if (status != LQ_EMEM || !t->dev || t->dev->id == LQ_CPU) return status;
    return lq_fail_context(status, "not enough memory for this run; `loquat plan` lists what it "
                           "needs, and a smaller micro_batch_size or sequence_len, "
                           "gradient_checkpointing: true or base_quant need less; device: cpu has "
                           "the machine's own: ");
}
