/* loquat_plan: what a run will need, from the tensors' headers and the tokenized data; no weight
 * is read, no arena allocated. */
#include "json_text.h"
#include "loquat.h"
#include "plan_parts.h"
#include "recipe.h"
#include "trainer.h"

typedef struct outlook {
    lq_run_plan plan;
    size_t memory;       /* what there is */
    bool fits;           /* with the changes */
    json_t *changes;     /* empty: as it is */
} outlook;

/* NULL: it could not be built. */
static json_t *as_json(const outlook *all) {
    const lq_run_plan *p = &all->plan;
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, "
        "s:b, s:O}",
        "weights_bytes", (json_int_t)p->weights,
        "packed_bytes", (json_int_t)p->packed,
        "parameters_bytes", (json_int_t)p->parameters,
        "activations_bytes", (json_int_t)p->activations,
        "validation_bytes", (json_int_t)p->validation,
        "teacher_bytes", (json_int_t)p->teacher,
        "checkpoint_bytes", (json_int_t)p->checkpoint,
        "program_bytes", (json_int_t)p->program,
        "peak_bytes", (json_int_t)p->peak,
        "model_parameters", (json_int_t)p->model_parameters,
        "trained_parameters", (json_int_t)p->trained_parameters,
        "steps", (json_int_t)p->steps,
        "examples", (json_int_t)p->examples,
        "tokens_per_epoch", (json_int_t)p->tokens_per_epoch,
        "rows_per_micro_batch", (json_int_t)p->max_rows,
        "flops", p->flops,
        "memory_bytes", (json_int_t)all->memory,
        "fits", p->peak <= all->memory,
        "to_fit", all->changes);
}

static void print_fit(const outlook *all, lq_str *out) {
    const double mb = 1e-6;
    size_t i;
    json_t *change;
    lq_str_printf(out, "memory           %10.1f MB: %s\n", mb * (double)all->memory,
                  all->plan.peak <= all->memory ? "it fits"
                  : all->fits                   ? "it does not fit, unless with all of"
                                                : "it does not fit, not even with all of");
    json_array_foreach(all->changes, i, change) {
        lq_str_printf(out, "  %-50s -> %.1f MB\n",
                      json_string_value(json_object_get(change, "set")),
                      mb * (double)json_integer_value(json_object_get(change, "peak_bytes")));
    }
}

static void as_text(const outlook *all, lq_str *out) {
    const lq_run_plan *p = &all->plan;
    const double mb = 1e-6;
    lq_str_printf(out, "model            %10.1f M parameters, %.1f M trained\n",
                  1e-6 * (double)p->model_parameters, 1e-6 * (double)p->trained_parameters);
    lq_str_printf(out, "weights          %10.1f MB, %s\n", mb * (double)p->weights,
                  p->on_device ? "copied to the device" : "mapped from the file and shared");
    lq_str_printf(out, "quantized copies %10.1f MB\n", mb * (double)p->packed);
    lq_str_printf(out, "trained state    %10.1f MB (parameters, gradients, optimizer)\n",
                  mb * (double)p->parameters);
    lq_str_printf(out, "activations      %10.1f MB for %lld rows\n", mb * (double)p->activations,
                  (long long)p->max_rows);
    lq_str_printf(out, "validation       %10.1f MB\n", mb * (double)p->validation);
    if (p->teacher)
        lq_str_printf(out, "teacher          %10.1f MB\n", mb * (double)p->teacher);
    if (!p->on_device) {
        lq_str_printf(out, "checkpoint       %10.1f MB, mapped while it is read back\n",
                      mb * (double)p->checkpoint);
        lq_str_printf(out, "program          %10.1f MB\n", mb * (double)p->program);
    }
    lq_str_printf(out, "peak             %10.1f MB%s\n", mb * (double)p->peak,
                  p->on_device ? " of the device's memory" : "");
    print_fit(all, out);
    lq_str_printf(
        out, "steps            %10lld over %lld examples, %lld tokens an epoch, %.3g FLOP\n",
        (long long)p->steps, (long long)p->examples, (long long)p->tokens_per_epoch, p->flops);
}

static lq_status plan_run(outlook *all, lq_config *c, const char *memory) {
    lq_model *model = NULL;
    lq_prepared data = {0};
    lq_dev *dev = NULL;
    lq_status status = LQ_OK;
    *all = (outlook){.changes = NULL};
    LQ_GOTO(status, lq_dev_from_config(&dev, c));
    LQ_GOTO(status, lq_plan_memory(&all->memory, dev, memory));
    LQ_GOTO(status, lq_model_open(&model, c->base_model, false));
    if (!model->tokenizer)
        LQ_GOTO(status, lq_fail(LQ_EFORMAT, "%s: has no tokenizer", c->base_model));
    LQ_GOTO(status, lq_prepare(&data, c, model->tokenizer, 0));
    LQ_GOTO(status, lq_plan_estimate(&all->plan, dev, c, model, &data));
    LQ_GOTO(status,
            lq_plan_fit(&all->changes, &all->fits, all->memory, dev, c, model, &data, &all->plan));
done:
    lq_dev_close(dev);
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

static lq_status plan_phase(outlook *all, const lq_config *c, const char *name,
                            const char *memory) {
    const lq_phase_paths paths = {c->output_dir, "null", "null"};
    lq_config *phase = NULL;
    LQ_TRY(lq_config_phase(&phase, c, name, &paths));
    const lq_status status = plan_run(all, phase, memory);
    lq_config_free(phase);
    return status;
}

static lq_status plan_recipe(const lq_config *c, const char *memory, bool json, lq_str *out) {
    outlook all[2] = {{.changes = NULL}, {.changes = NULL}};
    lq_status status = LQ_OK;
    for (int i = 0; i < 2; i++) {
        LQ_GOTO(status, plan_phase(&all[i], c, c->recipe.s[i], memory));
        if (json) continue;
        lq_str_printf(out, "%sphase %s\n", i ? "\n" : "", c->recipe.s[i]);
        as_text(&all[i], out);
    }
    status = json ? print_json(out, json_pack("{s:o, s:o}", c->recipe.s[0], as_json(&all[0]),
                                              c->recipe.s[1], as_json(&all[1])))
                  : lq_str_status(out);
done:
    json_decref(all[0].changes);
    json_decref(all[1].changes);
    return status;
}

static lq_status plan_single(lq_config *c, const char *memory, bool json, lq_str *out) {
    outlook all;
    lq_status status = plan_run(&all, c, memory);
    if (status == LQ_OK && json) status = print_json(out, as_json(&all));
    else if (status == LQ_OK) {
        as_text(&all, out);
        status = lq_str_status(out);
    }
    json_decref(all.changes);
    return status;
}

loquat_status loquat_plan(const char *config_path, const loquat_setting *settings,
                          size_t n_settings, const char *memory, bool json, char **out_text) {
    lq_config *config = NULL;
    lq_str text = LQ_STR_INIT;
    lq_status status = LQ_OK;
    *out_text = NULL;
    LQ_GOTO(status,
            lq_config_load(&config, config_path, (const lq_override *)settings, (int)n_settings));
    LQ_GOTO(status, (config->recipe.n ? plan_recipe(config, memory, json, &text)
                                      : plan_single(config, memory, json, &text)));
    *out_text = lq_str_take(&text);
    if (!*out_text) status = LQ_EMEM;
done:
    lq_str_clear(&text);
    lq_config_free(config);
    return (loquat_status)status;
}
