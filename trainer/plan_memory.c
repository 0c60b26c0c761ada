/* The estimate behind loquat_plan: planned arenas, spans, copies, and the program itself. */
#include "gguf_requantize.h"
#include "net.h"
#include "optim.h"
#include "plan_parts.h"
#include "runtime.h"
#include "trainer.h"

#include <math.h>
#include <string.h>

/* What a process has besides: code, libraries, tokenizer, data, the packing buffers of products.
 * Measured on runs of 3 M to 135 M parameters on x86-64 Linux. */
enum { PROGRAM_BYTES = 19000000 };

static lq_status arena(size_t *out, lq_dev *dev, const lq_model *m, const lq_patch *patch,
                       const lq_teacher *teacher, bool training, bool checkpoint, int64_t rows) {
    const lq_net_options options = {
        .build = {.patch = patch, .loss = true, .distil = lq_teacher_distil(teacher)},
        .training = training, .checkpoint = checkpoint, .capacity = rows, .dev = dev,
        .plan_only = true};
    lq_net net;
    LQ_TRY(lq_net_open(&net, m, &options));
    *out = lq_tape_arena_bytes(net.tape);
    lq_net_close(&net);
    return LQ_OK;
}

/* Tokens of the largest batch of validation, which lays whole examples end to end. */
static int64_t validation_rows(const lq_dataset *d, int64_t capacity) {
    int64_t most = 0, n = 0;
    for (int64_t i = 0; i < d->n; i++) {
        n = n + d->example[i].n <= capacity ? n + d->example[i].n : d->example[i].n;
        if (n > most) most = n;
    }
    return most;
}

/* Spans that the trainer writes: parameters, gradients, optimizer state, with validation the best
 * ones and those kept aside meanwhile, EMA, those of the last search for scales; and what the
 * initialisation took from W. */
static int span_count(const lq_config *c, const lq_optim *rule, bool has_val) {
    return 2 + rule->n_state + (has_val ? 2 : 0) + (c->ema_decay > 0 ? 1 : 0) +
           (c->has_qat && c->qat.requantize_every > 1 ? 1 : 0) +
           (strcmp(c->init_lora_weights, "pissa") == 0 ? 1 : 0);
}

/* Those that a checkpoint holds, which is mapped and read back when it has been written. */
static int saved_count(const lq_config *c, const lq_optim *rule, bool has_val) {
    return span_count(c, rule, has_val) - 1 - (has_val ? 1 : 0);
}

static lq_status fill_memory(lq_run_plan *p, lq_dev *dev, const lq_config *c, const lq_model *m,
                             const lq_adapter *a, const lq_prepared *data) {
    const int64_t capacity = lq_scorer_capacity(&data->val, 512);
    const int64_t val_rows = validation_rows(&data->val, capacity);
    lq_teacher *teacher = NULL;
    lq_status status = LQ_OK;
    if (c->has_kd) {
        LQ_GOTO(status, lq_teacher_open(&teacher, dev, c, m));
        const int64_t rows = capacity > p->max_rows ? capacity : p->max_rows;
        LQ_GOTO(status, lq_teacher_plan(teacher, data, rows, &p->teacher));
    }
    LQ_GOTO(status, arena(&p->activations, dev, m, a->patch, teacher, true,
                          c->gradient_checkpointing, p->max_rows));
    if (data->val.n > 0)
        LQ_GOTO(status, arena(&p->validation, dev, m, a->patch, teacher, false, false, val_rows));
    p->program = PROGRAM_BYTES;
    p->peak = p->weights + p->packed + p->parameters + p->activations + p->validation +
              p->teacher + (p->on_device ? 0 : p->checkpoint + p->program);
done:
    lq_teacher_free(teacher);
    return status;
}

static lq_status fill(lq_run_plan *p, lq_dev *dev, const lq_config *c, const lq_model *m,
                      const lq_adapter *a, const lq_prepared *data) {
    const lq_optim *rule = lq_optim_by_name(c->optimizer);
    const lq_loader_options options = {.micro_batch_size = c->micro_batch_size,
                                       .sequence_len = c->sequence_len,
                                       .packing = c->sample_packing,
                                       .seed = (uint64_t)c->seed};
    lq_loader *loader = NULL;
    if (!rule) return lq_fail(LQ_ECONFIG, "optimizer: '%s' is unknown", c->optimizer);
    LQ_TRY(lq_loader_new(&loader, &data->train, &options));
    const int64_t per_epoch = lq_loader_batches_per_epoch(loader);
    p->max_rows = lq_loader_max_tokens(loader);
    lq_loader_free(loader);
    if (p->max_rows > c->micro_batch_size * c->sequence_len)
        p->max_rows = c->micro_batch_size * c->sequence_len;
    for (int64_t i = 0; i < data->train.n; i++) p->tokens_per_epoch += data->train.example[i].n;
    const int64_t g = c->gradient_accumulation_steps;
    int64_t batches =
        c->max_steps > 0 ? c->max_steps * g : (int64_t)llround(c->num_epochs * (double)per_epoch);
    if (batches < 1) batches = 1;
    const double epochs = (double)batches / (double)per_epoch;
    p->steps = (batches + g - 1) / g;
    p->examples = data->train.n;
    const lq_format *fmt = c->base_quant ? lq_format_by_name(c->base_quant) : NULL;
    p->weights = fmt ? lq_gguf_requantized_bytes(m->file, fmt) : lq_gguf_bytes(m->file);
    p->packed = lq_adapter_packed_bytes(a);
    p->trained_parameters = a->n_params;
    p->model_parameters = lq_model_n_params(m);
    p->parameters =
        (size_t)a->n_params * sizeof(float) * (size_t)span_count(c, rule, data->val.n > 0);
    p->checkpoint =
        (size_t)a->n_params * sizeof(float) * (size_t)saved_count(c, rule, data->val.n > 0);
    p->flops = (a->options.full || a->options.scales ? 6.0 : 4.0) * (double)p->model_parameters *
               (double)p->tokens_per_epoch * epochs;
    return fill_memory(p, dev, c, m, a, data);
}

lq_status lq_plan_estimate(lq_run_plan *p, lq_dev *dev, const lq_config *c, lq_model *m,
                           const lq_prepared *data) {
    lq_adapter *adapter = NULL;
    lq_types types = {0};
    lq_status status;
    *p = (lq_run_plan){.on_device = dev->id != LQ_CPU};
    LQ_GOTO(status, lq_types_from_config(&types, c, NULL));
    LQ_GOTO(status, lq_adapter_from_config(&adapter, m, c, &types, true));
    m->runtime = lq_runtime_from_config(c);
    LQ_GOTO(status, lq_adapter_train(adapter));
    status = fill(p, dev, c, m, adapter, data);
done:
    lq_adapter_free(adapter);
    lq_types_clear(&types);
    return status;
}
