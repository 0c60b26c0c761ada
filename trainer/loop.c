/* The training loop: steps, evaluations, log lines, checkpoints, early stopping, export. */
#include "trainer.h"

#include <math.h>
#include <string.h>

/* ---- progress -------------------------------------------------------------------------------- */

static double tokens_per_second(const lq_trainer *t) {
    const double seconds = lq_seconds() - t->started;
    return seconds > 0 ? ((double)t->at.tokens - t->tokens_started) / seconds : 0;
}

/* loss, ema: of an evaluation that it reports; NULL: none. */
static void report(const lq_trainer *t, const lq_loss *loss, const lq_loss *ema, bool logged) {
    if (!t->callbacks || !t->callbacks->progress) return;
    const double rate = tokens_per_second(t);
    const double per_step = t->at.step ? (double)t->at.tokens / (double)t->at.step : 0;
    const loquat_progress p = {
        .step = t->at.step,
        .total_steps = t->total_steps,
        .epoch = (double)t->at.batches / (double)lq_loader_batches_per_epoch(t->loader),
        .loss = logged || !t->at.logged_labels ? t->at.last_loss
                                               : t->at.logged_loss / (double)t->at.logged_labels,
        .kl = t->teacher ? t->at.last_kl : NAN,
        .eval_loss = loss ? lq_loss_mean(loss, loss->nll) : NAN,
        .eval_kl = loss && t->teacher ? lq_loss_mean(loss, loss->kl) : NAN,
        .eval_loss_ema = ema ? lq_loss_mean(ema, ema->nll) : NAN,
        .learning_rate = t->learning_rate,
        .grad_norm = t->grad_norm,
        .tokens_per_second = rate,
        .seconds_left = rate > 0 ? (double)(t->total_steps - t->at.step) * per_step / rate : 0,
        .logged = logged,
    };
    t->callbacks->progress(t->callbacks->ctx, &p);
}

/* ---- what is validated ----------------------------------------------------------------------- */

static lq_status score_in_place(lq_trainer *t, lq_loss *loss) {
    lq_status status = lq_adapter_settle(t->adapter);
    if (status == LQ_OK) status = lq_scorer_run(t->scorer, loss);
    return status == LQ_OK
               ? LQ_OK
               : lq_fail_context(status, "validation after step %lld: ", (long long)t->at.step);
}

/* Is the best state the nearest to the teacher? */
static bool is_best_by_kl(const lq_config *c) {
    const char *name = c->metric_for_best_model;
    const bool only_taught = strcmp(name, "auto") == 0 && c->kd.alpha == 1;
    return c->has_kd && (only_taught || strcmp(name, "eval_kl") == 0);
}

/* What the best state is best in. */
static double metric(const lq_trainer *t, const lq_loss *loss) {
    return lq_loss_mean(loss, t->best_by_kl ? loss->kl : loss->nll);
}

/* Validates the parameters and, where there is one, their running average; *average: it is better.
 */
static lq_status score(lq_trainer *t, lq_loss *loss, lq_loss *ema_loss, bool *average) {
    *ema_loss = (lq_loss){0};
    *average = false;
    if (!t->ema && t->net_is_quantized && !t->searched) return score_in_place(t, loss);
    lq_trainer_copy(t, t->kept, lq_adapter_param(t->adapter));
    LQ_TRY(lq_trainer_use(t, t->kept));
    lq_status status = score_in_place(t, loss);
    if (status == LQ_OK && t->ema) {
        LQ_TRY(lq_trainer_use(t, t->ema));
        status = score_in_place(t, ema_loss);
        *average = metric(t, ema_loss) < metric(t, loss);
    }
    LQ_TRY(lq_trainer_use(t, t->kept));
    return status;
}

/* Validates the parameters and their running average; the better one counts: best, patience. */
static lq_status evaluate(lq_trainer *t) {
    lq_loss loss, ema_loss;
    bool average;
    LQ_TRY(score(t, &loss, &ema_loss, &average));
    const lq_loss *better = average ? &ema_loss : &loss;
    const double before = t->best_by_kl ? t->at.best_kl : t->at.best_loss;
    if (t->at.best_step < 0 || metric(t, better) < before) {
        t->at.best_step = t->at.step;
        t->at.best_loss = lq_loss_mean(better, better->nll);
        t->at.best_kl = t->teacher ? lq_loss_mean(better, better->kl) : NAN;
        t->at.best_is_ema = average;
        t->at.evals_without_gain = 0;
        lq_trainer_copy(t, t->best, average ? t->ema : lq_adapter_param(t->adapter));
    } else {
        t->at.evals_without_gain++;
    }
    report(t, &loss, &ema_loss, true);
    return lq_metrics_eval(t, &loss, &ema_loss);
}

/* Where the run starts from: a row of every honest table. */
static lq_status evaluate_start(lq_trainer *t) {
    lq_loss loss, ema_loss;
    bool average;
    LQ_TRY(score(t, &loss, &ema_loss, &average));
    LQ_TRY(lq_metrics_eval(t, &loss, &ema_loss));
    t->at.start_loss = lq_loss_mean(&loss, loss.nll);
    t->at.start_kl = t->teacher ? lq_loss_mean(&loss, loss.kl) : NAN;
    report(t, &loss, &ema_loss, true);
    return LQ_OK;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static bool due(int64_t step, int64_t every, int64_t total) {
    return every > 0 && (step % every == 0 || step == total);
}

static bool out_of_patience(const lq_trainer *t) {
    const int64_t patience = t->config->early_stopping_patience;
    return patience > 0 && t->at.evals_without_gain >= patience;
}

/* From quant_from_step on, the tape runs on the effective weights. */
static lq_status choose_net(lq_trainer *t) {
    const bool quantized = t->at.step >= t->quant_from_step;
    if (t->net.tape && quantized == t->net_is_quantized) return LQ_OK;
    const lq_net_options options = {
        .build = {.patch = quantized ? lq_adapter_patch(t->adapter) : t->plain_patch, .loss = true,
                  .exact = !quantized,
                  .noise_alpha = (float)t->config->neftune_noise_alpha,
                  .distil = lq_teacher_distil(t->teacher)},
        .training = true,
        .checkpoint = t->config->gradient_checkpointing,
        .capacity = t->batch.capacity,
        .dev = t->dev,
    };
    lq_net_close(&t->net);
    LQ_TRY(lq_net_open(&t->net, t->model, &options));
    t->net_is_quantized = quantized;
    return quantized && t->at.step == t->quant_from_step
               ? lq_trainer_use(t, lq_adapter_param(t->adapter))
               : LQ_OK;
}

static lq_status log_step(lq_trainer *t) {
    if (t->at.logged_labels) {
        t->at.last_loss = t->at.logged_loss / (double)t->at.logged_labels;
        t->at.last_kl = t->at.logged_kl / (double)t->at.logged_labels;
    }
    LQ_TRY(lq_metrics_step(t, tokens_per_second(t)));
    report(t, NULL, NULL, true);
    t->at.logged_loss = t->at.logged_kl = 0;
    t->at.logged_labels = t->at.logged_tokens = 0;
    return LQ_OK;
}

static bool is_logged(const lq_trainer *t, int64_t step) {
    return step % t->config->logging_steps == 0 || step == t->total_steps;
}

static lq_status after_step(lq_trainer *t) {
    const int64_t step = t->at.step;
    lq_base_hash_begin(&t->base_hash);
    t->at.seconds = t->seconds_started + lq_seconds() - t->started;
    if (is_logged(t, step)) LQ_TRY(log_step(t));
    else report(t, NULL, NULL, false);
    if (t->scorer && due(step, t->eval_every, t->total_steps)) LQ_TRY(evaluate(t));
    return due(step, t->save_every, t->total_steps) || out_of_patience(t) ? lq_checkpoint_save(t)
                                                                          : LQ_OK;
}

static lq_status train(lq_trainer *t) {
    if (t->scorer && t->at.step == 0) LQ_TRY(evaluate_start(t));
    while (t->at.step < t->total_steps && !out_of_patience(t)) {
        LQ_TRY(choose_net(t));
        if (is_logged(t, t->at.step + 1)) lq_adapter_watch(t->adapter, true);
        const lq_status status = lq_train_step(t);
        lq_adapter_watch(t->adapter, false);
        if (status == LQ_EINTERRUPTED) {
            LQ_TRY(lq_checkpoint_save(t));
            return lq_fail(
                LQ_EINTERRUPTED,
                "stopped at step %lld of %lld; a checkpoint is saved in %s: continue with "
                "--resume-from-checkpoint auto",
                (long long)t->at.step, (long long)t->total_steps, t->checkpoint_dir);
        }
        if (status != LQ_OK) return status;
        LQ_TRY(after_step(t));
    }
    if (out_of_patience(t))
        lq_log(LQ_LOG_INFO, "stopped early at step %lld: no gain in %lld evaluations",
               (long long)t->at.step, (long long)t->at.evals_without_gain);
    return LQ_OK;
}

/* Without a best: the last parameters or their average, whichever validates better. */
static lq_status last_params(lq_trainer *t, const float **out) {
    lq_loss loss, ema_loss;
    bool average = t->ema != NULL;
    if (t->ema && t->scorer) LQ_TRY(score(t, &loss, &ema_loss, &average));
    *out = average ? t->ema : lq_adapter_param(t->adapter);
    return LQ_OK;
}

/* Puts what is to be shipped in place and proves that it is what was validated: the loss must
 * come out the same to the last bit. */
static lq_status settle(lq_trainer *t, lq_loss *final) {
    const bool best = t->scorer && t->config->load_best_model_at_end && t->at.best_step >= 0;
    *final = (lq_loss){0};
    lq_net_close(&t->net); /* its arena is not needed any more */
    const float *param = t->best;
    if (!best) LQ_TRY(last_params(t, &param));
    lq_adapter_watch(t->adapter, true); /* for the record */
    LQ_TRY(lq_trainer_use(t, param));
    lq_adapter_watch(t->adapter, false);
    if (!t->scorer) return LQ_OK;
    LQ_TRY(lq_scorer_run(t->scorer, final));
    const double loss = lq_loss_mean(final, final->nll), kl = lq_loss_mean(final, final->kl);
    if (best && loss != t->at.best_loss)
        return lq_fail(
            LQ_EVALUE,
            "internal error: the best parameters gave loss %.17g when validated and %.17g now",
            t->at.best_loss, loss);
    if (best && t->teacher && kl != t->at.best_kl)
        return lq_fail(LQ_EVALUE, "internal error: the best parameters were %.17g nats from the "
                       "teacher when validated, they are %.17g now", t->at.best_kl, kl);
    return LQ_OK;
}

lq_status lq_trainer_run(lq_trainer *t, char **out_record) {
    lq_artifacts artifacts = {0};
    const lq_config *c = t->config;
    const char *dir =
        c->exports.output_dir && *c->exports.output_dir ? c->exports.output_dir : t->output.dir;
    lq_loss final;
    lq_status status = LQ_OK;
    t->best_by_kl = is_best_by_kl(c);
    t->started = lq_seconds();
    t->seconds_started = t->at.seconds;
    t->tokens_started = (double)t->at.tokens;
    LQ_GOTO(status, lq_trainer_explain(t, train(t)));
    LQ_GOTO(status, settle(t, &final));
    LQ_GOTO(status, lq_adapter_fetch(t->adapter));
    LQ_GOTO(status, lq_export_run(t->adapter, c, t->data.template_source, dir, NULL, 0,
                                  &artifacts));
    LQ_GOTO(status, lq_record_write(t, &artifacts, &final, out_record));
done:
    lq_artifacts_clear(&artifacts);
    return status;
}
