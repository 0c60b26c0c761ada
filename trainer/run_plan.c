/* loquat_plan: what a run will need, from the tensors' headers and the tokenized data; no weight
 * is read, no arena allocated. */
#include "gguf_requantize.h"
#include "json_text.h"
#include "loquat.h"
#include "net.h"
#include "optim.h"
#include "prepare.h"
#include "runtime.h"
#include "trainer.h"

#include <math.h>

typedef struct run_plan {
    size_t weights, packed, parameters, activations, validation, teacher, peak;
    int64_t trained_parameters, model_parameters, steps, examples, tokens_per_epoch, max_rows;
    double flops;      /* of the run: 4 N per token with frozen weights, 6 N when all are trained */
} run_plan;

static lq_status arena(size_t *out, const lq_model *m, const lq_patch *patch,
                       const lq_teacher *teacher, bool training, bool checkpoint, int64_t rows) {
    const lq_net_options options = {
        .build = {.patch = patch, .loss = true, .distil = lq_teacher_distil(teacher)},
        .training = training, .checkpoint = checkpoint, .capacity = rows, .plan_only = true};
    lq_net net;
    LQ_TRY(lq_net_open(&net, m, &options));
    *out = lq_tape_arena_bytes(net.tape);
    lq_net_close(&net);
    return LQ_OK;
}

/* Spans of the trainer: parameters, gradients, optimizer state, the copy kept during validation,
 * best, EMA, those of the last search for scales. */
static int span_count(const lq_config *c, const lq_optim *rule, bool has_val) {
    return 2 + rule->n_state + 1 + (has_val ? 1 : 0) + (c->ema_decay > 0 ? 1 : 0) +
           (c->has_qat && c->qat.requantize_every > 1 ? 1 : 0);
}

static lq_status fill_memory(run_plan *p, const lq_config *c, const lq_model *m,
                             const lq_adapter *a, const lq_prepared *data) {
    const int64_t val_rows = lq_scorer_capacity(&data->val, 512);
    lq_teacher *teacher = NULL;
    lq_status status = LQ_OK;
    if (c->has_kd) {
        LQ_GOTO(status, lq_teacher_open(&teacher, c, m));
        const int64_t rows = val_rows > p->max_rows ? val_rows : p->max_rows;
        LQ_GOTO(status, lq_teacher_plan(teacher, data, rows, &p->teacher));
    }
    LQ_GOTO(status, arena(&p->activations, m, a->patch, teacher, true, c->gradient_checkpointing,
                          p->max_rows));
    if (data->val.n > 0)
        LQ_GOTO(status, arena(&p->validation, m, a->patch, teacher, false, false, val_rows));
    p->peak = p->weights + p->packed + p->parameters + p->activations + p->validation + p->teacher;
done:
    lq_teacher_free(teacher);
    return status;
}

static lq_status fill(run_plan *p, const lq_config *c, const lq_model *m, const lq_adapter *a,
                      const lq_prepared *data) {
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
    p->flops = (a->options.full ? 6.0 : 4.0) * (double)p->model_parameters *
               (double)p->tokens_per_epoch * epochs;
    return fill_memory(p, c, m, a, data);
}

/* NULL: it could not be built. */
static json_t *as_json(const run_plan *p) {
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "weights_bytes",
        (json_int_t)p->weights, "packed_bytes", (json_int_t)p->packed, "parameters_bytes",
        (json_int_t)p->parameters, "activations_bytes", (json_int_t)p->activations,
        "validation_bytes", (json_int_t)p->validation, "teacher_bytes", (json_int_t)p->teacher,
        "peak_bytes", (json_int_t)p->peak, "model_parameters", (json_int_t)p->model_parameters,
        "trained_parameters", (json_int_t)p->trained_parameters, "steps", (json_int_t)p->steps,
        "examples", (json_int_t)p->examples, "tokens_per_epoch", (json_int_t)p->tokens_per_epoch,
        "rows_per_micro_batch", (json_int_t)p->max_rows, "flops", p->flops);
}

static void as_text(const run_plan *p, lq_str *out) {
    const double mb = 1e-6;
    lq_str_printf(out, "model            %10.1f M parameters, %.1f M trained\n",
                  1e-6 * (double)p->model_parameters, 1e-6 * (double)p->trained_parameters);
    lq_str_printf(out, "weights          %10.1f MB, mapped from the file and shared\n",
                  mb * (double)p->weights);
    lq_str_printf(out, "quantized copies %10.1f MB\n", mb * (double)p->packed);
    lq_str_printf(out, "trained state    %10.1f MB (parameters, gradients, optimizer)\n",
                  mb * (double)p->parameters);
    lq_str_printf(out, "activations      %10.1f MB for %lld rows\n", mb * (double)p->activations,
                  (long long)p->max_rows);
    lq_str_printf(out, "validation       %10.1f MB\n", mb * (double)p->validation);
    if (p->teacher)
        lq_str_printf(out, "teacher          %10.1f MB\n", mb * (double)p->teacher);
    lq_str_printf(out, "peak             %10.1f MB\n", mb * (double)p->peak);
    lq_str_printf(
        out, "steps            %10lld over %lld examples, %lld tokens an epoch, %.3g FLOP\n",
        (long long)p->steps, (long long)p->examples, (long long)p->tokens_per_epoch, p->flops);
}

static lq_status plan_run(run_plan *p, const lq_config *c) {
    lq_model *model = NULL;
    lq_adapter *adapter = NULL;
    lq_prepared data = {0};
    lq_types types = {0};
    lq_status status = LQ_OK;
    *p = (run_plan){0};
    LQ_GOTO(status, lq_model_open(&model, c->base_model, false));
    if (!model->tokenizer)
        LQ_GOTO(status, lq_fail(LQ_EFORMAT, "%s: has no tokenizer", c->base_model));
    LQ_GOTO(status, lq_prepare(&data, c, model->tokenizer, 0));
    LQ_GOTO(status, lq_types_from_config(&types, c, NULL));
    LQ_GOTO(status, lq_adapter_from_config(&adapter, model, c, &types, true));
    model->runtime = lq_runtime_from_config(c);
    LQ_GOTO(status, lq_adapter_train(adapter));
    LQ_GOTO(status, fill(p, c, model, adapter, &data));
done:
    lq_adapter_free(adapter);
    lq_types_clear(&types);
    lq_prepared_clear(&data);
    lq_model_close(model);
    return status;
}

static lq_status print_json(lq_str *out, json_t *o) {
    const lq_status status = lq_json_print(out, o, 0);
    lq_str_putc(out, '\n');
    json_decref(o);
    return status == LQ_OK ? lq_str_status(out) : status;
}

static lq_status plan_recipe(const lq_config *c, bool json, lq_str *out) {
    const lq_phase_paths paths = {c->output_dir, "null", "null"};
    run_plan p[2];
    for (int i = 0; i < 2; i++) {
        lq_config *phase = NULL;
        LQ_TRY(lq_config_phase(&phase, c, c->recipe.s[i], &paths));
        const lq_status status = plan_run(&p[i], phase);
        lq_config_free(phase);
        LQ_TRY(status);
        if (json) continue;
        lq_str_printf(out, "%sphase %s\n", i ? "\n" : "", c->recipe.s[i]);
        as_text(&p[i], out);
    }
    return json ? print_json(out, json_pack("{s:o, s:o}", c->recipe.s[0], as_json(&p[0]),
                                            c->recipe.s[1], as_json(&p[1])))
                : lq_str_status(out);
}

static lq_status plan_single(const lq_config *c, bool json, lq_str *out) {
    run_plan p;
    LQ_TRY(plan_run(&p, c));
    if (json) return print_json(out, as_json(&p));
    as_text(&p, out);
    return lq_str_status(out);
}

loquat_status loquat_plan(const char *config_path, const loquat_setting *settings,
                          size_t n_settings, bool json, char **out_text) {
    lq_config *config = NULL;
    lq_str text = LQ_STR_INIT;
    lq_status status = LQ_OK;
    *out_text = NULL;
    LQ_GOTO(status,
            lq_config_load(&config, config_path, (const lq_override *)settings, (int)n_settings));
    LQ_GOTO(status, (config->recipe.n ? plan_recipe : plan_single)(config, json, &text));
    *out_text = lq_str_take(&text);
    if (!*out_text) status = LQ_EMEM;
done:
    lq_str_clear(&text);
    lq_config_free(config);
    return (loquat_status)status;
}
