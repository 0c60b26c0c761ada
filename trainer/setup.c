/* Opens a run: lock, model, data, adapter, optimizer, plan of steps, resume. See trainer.h. */
#include "trainer.h"

#include "atomic_file.h"
#include "expert_load.h"
#include "hf.h"
#include "runtime.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VALIDATION_ROWS = 512 };

/* ---- output directory ------------------------------------------------------------------------ */

/* A finished or stopped run is never overwritten by accident. */
static lq_status refuse_overwrite(const lq_trainer *t) {
    const char *from = t->config->resume_from_checkpoint;
    if (t->config->overwrite_output_dir || (from && *from)) return LQ_OK;
    char *path = lq_path_join(t->output.dir, "metrics.jsonl");
    if (!path) return LQ_EMEM;
    const bool exists = lq_file_exists(path);
    lq_free(path);
    return exists ? lq_output_taken(t->output.dir) : LQ_OK;
}

static lq_status write_config(const lq_trainer *t) {
    lq_str text = LQ_STR_INIT;
    char *path = lq_path_join(t->output.dir, "config.yaml");
    lq_status status = path ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK) status = lq_config_dump(t->config, &text);
    if (status == LQ_OK) status = lq_write_file(path, lq_str_text(&text), text.n);
    lq_str_clear(&text);
    lq_free(path);
    return status;
}

/* ---- when the run began ----------------------------------------------------------------------
 * Templates may print the date: a run resumed on another day must see the day that it began on. */

static lq_status read_started(int64_t *out, const char *path) {
    char *text = NULL, *end;
    size_t n;
    LQ_TRY(lq_read_file(&text, &n, path));
    const long long seconds = strtoll(text, &end, 10);
    lq_status status = LQ_OK;
    if (seconds > 0 && strcmp(end, "\n") == 0) *out = seconds;
    else
        status = lq_fail(LQ_EFORMAT,
                         "%s: found '%.40s', wanted the seconds from 1970 to the run's "
                         "start",
                         path, text);
    lq_free(text);
    return status;
}

static lq_status choose_start(lq_trainer *t) {
    const char *from = t->config->resume_from_checkpoint;
    char *path = lq_path_join(t->output.dir, "started");
    if (!path) return LQ_EMEM;
    t->began = (int64_t)time(NULL);
    const bool resumes = from && *from && lq_file_exists(path);
    const lq_status status = resumes ? read_started(&t->began, path) : LQ_OK;
    lq_free(path);
    return status;
}

static lq_status write_started(const lq_trainer *t) {
    char *path = lq_path_join(t->output.dir, "started");
    char *text = lq_sprintf("%lld\n", (long long)t->began);
    const lq_status status = path && text ? lq_write_file(path, text, strlen(text)) : LQ_EMEM;
    lq_free(path);
    lq_free(text);
    return status;
}

/* ---- adapter --------------------------------------------------------------------------------- */

static lq_status copy_pattern(lq_pattern **out, const lq_map *map) {
    *out = lq_alloc_array(map->n, sizeof **out);
    if (!*out) return LQ_EMEM;
    for (int i = 0; i < map->n; i++) (*out)[i] = (lq_pattern){map->e[i].key, map->e[i].value};
    return LQ_OK;
}

lq_status lq_adapter_from_config(lq_adapter **out, const lq_model *m, const lq_config *c,
                                 const lq_types *types, bool plan_only) {
    lq_status status = LQ_OK;
    lq_pattern *ranks = NULL, *alphas = NULL;
    int *layers = NULL;
    *out = NULL;
    LQ_GOTO(status, copy_pattern(&ranks, &c->lora_rank_pattern));
    LQ_GOTO(status, copy_pattern(&alphas, &c->lora_alpha_pattern));
    layers = lq_alloc_array(c->lora_layers_to_transform.n, sizeof *layers);
    LQ_GOTO(status, layers ? LQ_OK : LQ_EMEM);
    for (int i = 0; i < c->lora_layers_to_transform.n; i++)
        layers[i] = (int)c->lora_layers_to_transform.v[i];
    lq_adapter_options o = {
        .full = strcmp(c->adapter, "full") == 0,
        .scales = strcmp(c->adapter, "scales") == 0,
        .r = (int)c->lora_r,
        .alpha = c->lora_alpha,
        .dropout = (float)c->lora_dropout,
        .use_rslora = c->use_rslora,
        .use_dora = c->use_dora,
        .init = c->init_lora_weights,
        .targets = c->lora_target_modules.n ? (const char *const *)c->lora_target_modules.s : NULL,
        .exclude =
            c->lora_exclude_modules.n ? (const char *const *)c->lora_exclude_modules.s : NULL,
        .layers = layers,
        .n_layers = c->lora_layers_to_transform.n,
        .rank_pattern = ranks,
        .n_rank_pattern = c->lora_rank_pattern.n,
        .alpha_pattern = alphas,
        .n_alpha_pattern = c->lora_alpha_pattern.n,
        .seed = (uint64_t)c->seed,
        .mode = !c->has_qat                          ? LQ_QAT_NONE
                : strcmp(c->qat.mode, "merged") == 0 ? LQ_QAT_MERGED
                                                     : LQ_QAT_SEPARATE,
        .clipped = c->has_qat && strcmp(c->qat.ste, "clipped") == 0,
        .types = c->has_qat ? &types->request : NULL,
    };
    LQ_GOTO(status, lq_adapter_new(out, m, &o, plan_only));
done:
    lq_free(ranks);
    lq_free(alphas);
    lq_free(layers);
    return status;
}

/* ---- optimizer ------------------------------------------------------------------------------- */

/* The span holds all A, then all B: LoRA+ trains the second part with a rate of its own. */
static void make_groups(lq_trainer *t) {
    const lq_adapter *a = t->adapter;
    const double ratio = t->config->loraplus_lr_ratio;
    const bool halves = !a->options.full && !a->options.scales;
    if (!halves || ratio <= 0 || ratio == 1) return; /* no groups: one rate for all */
    const int64_t first_b = a->item[0].b;
    t->groups[t->n_groups++] = (lq_optim_group){0, first_b, 1};
    t->groups[t->n_groups++] = (lq_optim_group){first_b, a->n_params - first_b, (float)ratio};
}

static lq_status open_optimizer(lq_trainer *t) {
    const lq_config *c = t->config;
    const int64_t n = t->adapter->n_params;
    t->rule = lq_optim_by_name(c->optimizer);
    t->schedule = lq_schedule_by_name(c->lr_scheduler);
    if (!t->rule || !t->schedule)
        return lq_fail(LQ_ECONFIG, "optimizer '%s' or lr_scheduler '%s' is unknown", c->optimizer,
                       c->lr_scheduler);
    t->optim = (lq_optim_options){
        .beta1 = c->adam_beta1,
        .beta2 = c->adam_beta2,
        .epsilon = c->adam_epsilon,
        .weight_decay = c->weight_decay,
        .momentum = c->adam_beta1, /* sgd */
    };
    make_groups(t);
    LQ_TRY(t->dev->row->alloc(t->dev, &t->norm_work, lq_optim_work_bytes()));
    LQ_TRY(t->dev->row->alloc_pinned(t->dev, (void **)&t->norm, sizeof *t->norm));
    LQ_TRY(lq_trainer_span(t, &t->state, n * t->rule->n_state));
    t->dev->row->fill(t->dev, t->state, 0, (size_t)(n * t->rule->n_state) * sizeof *t->state);
    LQ_TRY(lq_trainer_span(t, &t->kept, n));
    if (c->has_qat && c->qat.requantize_every > 1) {
        LQ_TRY(lq_trainer_span(t, &t->searched, n));
        lq_trainer_copy(t, t->searched, lq_adapter_param(t->adapter));
        lq_log(LQ_LOG_INFO,
               "QAT: K-quants get new scales every %lld steps and for every validation; between, "
               "only their codes change",
               (long long)c->qat.requantize_every);
    }
    if (t->data.val.n > 0) LQ_TRY(lq_trainer_span(t, &t->best, n));
    if (c->ema_decay > 0) {
        LQ_TRY(lq_trainer_span(t, &t->ema, n));
        lq_trainer_copy(t, t->ema, lq_adapter_param(t->adapter));
    }
    return LQ_OK;
}

/* ---- the plan of steps ----------------------------------------------------------------------- */

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* A count (>= 1), a share of the run (< 1), or so many per epoch; 0: `fallback`. */
static int64_t interval(const lq_trainer *t, double steps, int64_t per_epoch, int64_t fallback) {
    double every = (double)fallback;
    if (steps >= 1) every = steps;
    else if (steps > 0) every = steps * (double)t->total_steps;
    else if (per_epoch > 0) every = (double)t->steps_per_epoch / (double)per_epoch;
    return every < 1 ? 1 : (int64_t)llround(every);
}

static void plan_steps(lq_trainer *t) {
    const lq_config *c = t->config;
    const int64_t per_epoch = lq_loader_batches_per_epoch(t->loader),
                  g = c->gradient_accumulation_steps;
    t->steps_per_epoch = ceil_div(per_epoch, g);
    t->total_batches =
        c->max_steps > 0 ? c->max_steps * g : (int64_t)llround(c->num_epochs * (double)per_epoch);
    if (t->total_batches < 1) t->total_batches = 1;
    t->total_steps = ceil_div(t->total_batches, g);
    t->warmup_steps = c->warmup_steps > 0 ? c->warmup_steps
                                          : (int64_t)ceil(c->warmup_ratio * (double)t->total_steps);
    t->eval_every = interval(t, c->eval_steps, c->evals_per_epoch, ceil_div(t->total_steps, 12));
    t->save_every = interval(t, c->save_steps, c->saves_per_epoch, t->eval_every);
    const double after = c->has_qat ? c->qat.fake_quant_after_n_steps : 0;
    t->quant_from_step =
        after < 1 ? (int64_t)llround(after * (double)t->total_steps) : (int64_t)after;
    if (t->quant_from_step > t->total_steps) t->quant_from_step = t->total_steps;
}

static lq_status make_plain_patch(lq_trainer *t) {
    const int n = t->model->n_weights;
    if (t->quant_from_step == 0) return LQ_OK;
    t->plain_patch = lq_alloc_array(n, sizeof *t->plain_patch);
    if (!t->plain_patch) return LQ_EMEM;
    for (int i = 0; i < n; i++) {
        t->plain_patch[i] = lq_adapter_patch(t->adapter)[i];
        t->plain_patch[i].fmt = NULL;
        t->plain_patch[i].data = NULL;
        t->plain_patch[i].merged = false;
        t->plain_patch[i].clipped = NULL;
    }
    return LQ_OK;
}

static lq_status open_data(lq_trainer *t) {
    const lq_config *c = t->config;
    LQ_TRY(lq_prepare(&t->data, c, t->model->tokenizer, t->began));
    const lq_loader_options options = {
        .micro_batch_size = c->micro_batch_size,
        .sequence_len = c->sequence_len,
        .packing = c->sample_packing,
        .order = strcmp(c->data_order, "sequential") == 0 ? LQ_ORDER_SEQUENTIAL
                 : strcmp(c->data_order, "bucketed") == 0 ? LQ_ORDER_BUCKETED
                                                          : LQ_ORDER_SHUFFLE,
        .seed = lq_fnv1a((uint64_t)c->seed ^ LQ_FNV_INIT, "order", 5),
    };
    LQ_TRY(lq_loader_new(&t->loader, &t->data.train, &options));
    LQ_TRY(lq_batch_init(&t->batch, lq_loader_max_tokens(t->loader)));
    plan_steps(t);
    return LQ_OK;
}

/* The teacher runs on the batches of training and of validation. */
static lq_status open_teacher(lq_trainer *t) {
    const lq_config *c = t->config;
    const int64_t of_validation = lq_scorer_capacity(&t->data.val, VALIDATION_ROWS);
    const int64_t rows = t->batch.capacity > of_validation ? t->batch.capacity : of_validation;
    const bool cached = c->dataset_prepared_path && *c->dataset_prepared_path;
    if (!c->has_kd) return LQ_OK;
    LQ_TRY(lq_teacher_open(&t->teacher, t->dev, c, t->model));
    return lq_teacher_prepare(t->teacher, &t->base_hash, &t->data,
                              cached ? c->dataset_prepared_path : t->output.dir, rows);
}

static lq_status open_adapter(lq_trainer *t) {
    const lq_config *c = t->config;
    LQ_TRY(lq_run_imatrix(t));
    LQ_TRY(lq_types_from_config(&t->types, c, t->output.dir));
    LQ_TRY(lq_adapter_from_config(&t->adapter, t->model, c, &t->types, false));
    t->model->runtime = lq_runtime_from_config(c); /* not before the statistics are collected */
    if (c->lora_model_dir && *c->lora_model_dir) {
        LQ_TRY(lq_adapter_init_from(t->adapter, c->lora_model_dir));
        lq_sha256(t->start_key, t->adapter->param, (size_t)t->adapter->n_params * sizeof(float));
    }
    LQ_TRY(lq_adapter_train(t->adapter));
    LQ_TRY(lq_adapter_on(t->adapter, t->dev));
    LQ_TRY(make_plain_patch(t));
    LQ_TRY(lq_adapter_rebuild(t->adapter));
    if (t->data.val.n > 0)
        LQ_TRY(lq_scorer_new(&t->scorer, t->dev, t->model, lq_adapter_patch(t->adapter),
                             &t->data.val, VALIDATION_ROWS, t->teacher));
    else lq_log(LQ_LOG_WARN, "no validation data: the last step is exported, not the best one");
    return LQ_OK;
}

static lq_status resume_or_start(lq_trainer *t) {
    const char *from = t->config->resume_from_checkpoint;
    bool resumed = false;
    LQ_TRY(lq_make_dirs(t->checkpoint_dir));
    t->at = (lq_position){.best_step = -1};
    t->at.best_loss = t->at.start_loss = t->at.last_loss = NAN;
    t->at.best_kl = t->at.start_kl = t->at.last_kl = NAN;
    if (from && *from) {
        LQ_TRY(lq_checkpoint_resume(t, from, &resumed));
        if (resumed) {
            lq_log(LQ_LOG_INFO, "resumed at step %lld of %lld", (long long)t->at.step,
                   (long long)t->total_steps);
            lq_loader_seek(t->loader, t->at.batches);
            return lq_trainer_restore_weights(t);
        }
        lq_log(LQ_LOG_INFO, "no checkpoint in %s: starting from the beginning", t->checkpoint_dir);
        return LQ_OK;
    }
    return lq_checkpoint_discard(t->checkpoint_dir);
}

static lq_status open_all(lq_trainer *t) {
    const lq_config *c = t->config;
    if (c->threads > 0) omp_set_num_threads((int)c->threads);
    LQ_TRY(lq_dev_from_config(&t->dev, c));
    lq_dev_say(t->dev);
    t->checkpoint_dir = lq_path_join(c->output_dir, "checkpoints");
    if (!t->checkpoint_dir) return LQ_EMEM;
    LQ_TRY(lq_output_open(&t->output, c->output_dir));
    LQ_TRY(refuse_overwrite(t));
    LQ_TRY(lq_model_open_as(&t->model, c->base_model, true, c->base_quant));
    if (!t->model->tokenizer)
        return lq_fail(LQ_EFORMAT, "%s: has no tokenizer to train with", c->base_model);
    if (c->sequence_len > t->model->hp.n_ctx_train)
        lq_log(LQ_LOG_WARN, "sequence_len %lld is longer than the model's context %lld",
               (long long)c->sequence_len, (long long)t->model->hp.n_ctx_train);
    t->model->n_ctx = c->sequence_len;
    if (c->exports.merged_safetensors) LQ_TRY(lq_hf_can_write(t->model));
    lq_base_hash_open(&t->base_hash, t->model);
    LQ_TRY(lq_expert_load_new(&t->expert_load, t->model));
    LQ_TRY(choose_start(t));
    LQ_TRY(open_data(t));
    LQ_TRY(open_teacher(t));
    LQ_TRY(open_adapter(t));
    LQ_TRY(open_optimizer(t));
    LQ_TRY(resume_or_start(t));
    LQ_TRY(write_config(t));
    LQ_TRY(write_started(t));
    return lq_metrics_open(t);
}

lq_status lq_trainer_open(lq_trainer **out, lq_config *config, const loquat_callbacks *callbacks) {
    *out = NULL;
    lq_trainer *t = lq_alloc(sizeof *t);
    if (!t) {
        lq_config_free(config);
        return LQ_EMEM;
    }
    t->config = config;
    t->callbacks = callbacks;
    t->output = (lq_output)LQ_OUTPUT_INIT;
    const lq_status status = lq_trainer_explain(t, open_all(t));
    if (status != LQ_OK) {
        lq_output_undo(&t->output);
        lq_trainer_close(t);
        return status;
    }
    *out = t;
    return LQ_OK;
}

void lq_trainer_close(lq_trainer *t) {
    if (!t) return;
    if (t->metrics) fclose(t->metrics);
    lq_net_close(&t->net);
    lq_scorer_free(t->scorer);
    lq_teacher_free(t->teacher);
    lq_loader_free(t->loader);
    lq_batch_clear(&t->batch);
    lq_adapter_free(t->adapter);
    lq_types_clear(&t->types);
    lq_prepared_clear(&t->data);
    lq_base_hash_stop(&t->base_hash);
    lq_model_close(t->model);
    lq_free(t->plain_patch);
    lq_free(t->expert_load);
    lq_trainer_close_device(t);
    lq_free(t->checkpoint_dir);
    lq_config_free(t->config);
    lq_output_close(&t->output);
    lq_free(t);
}
