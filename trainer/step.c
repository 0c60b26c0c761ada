/* One optimizer step: accumulate, divide by the true token count, clip, update, rebuild. */
#include "expert_load.h"
#include "random.h"
#include "trainer.h"

#include <math.h>
#include <string.h>

static bool stop_asked(const lq_trainer *t) {
    return t->callbacks && t->callbacks->stop && t->callbacks->stop(t->callbacks->ctx);
}

/* The micro-batches of the coming step: accumulation, but never past the end of the run. */
static int64_t batches_of_step(const lq_trainer *t) {
    const int64_t left = t->total_batches - t->at.batches;
    return left < t->config->gradient_accumulation_steps ? left
                                                         : t->config->gradient_accumulation_steps;
}

/* The only wait of a step is at its end, for the losses and the gradient's norm. */
static lq_status accumulate(lq_trainer *t, lq_loss *loss, int64_t *tokens) {
    const uint64_t key =
        lq_random_key((uint64_t)t->config->seed, 0x7261696eu /* a stream of its own */);
    const int64_t n = batches_of_step(t);
    lq_expert_load_reset(t->expert_load, t->model);
    t->dev->row->fill(t->dev, lq_adapter_grad(t->adapter), 0,
                      (size_t)t->adapter->n_params * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        if (stop_asked(t)) return lq_fail(LQ_EINTERRUPTED, "stopped on request");
        LQ_TRY(lq_loader_next(t->loader, &t->batch));
        lq_net_load(&t->net, &t->batch);
        if (t->teacher) LQ_TRY(lq_teacher_load(t->teacher, &t->batch, &t->net));
        LQ_TRY(lq_tape_forward(t->net.tape, lq_random_key(key, (uint64_t)(t->at.batches + i)), 0));
        LQ_TRY(lq_net_take_loss(&t->net, &t->batch));
        LQ_TRY(lq_expert_load_add(t->expert_load, t->model, &t->net));
        LQ_TRY(lq_tape_backward(t->net.tape));
        *tokens += t->batch.n_tokens;
    }
    lq_optim_norm(t->dev, t->norm_work, lq_adapter_grad(t->adapter), t->adapter->n_params,
                  t->norm);
    return lq_net_sum_loss(&t->net, loss);
}

static lq_status update(lq_trainer *t, int64_t labels) {
    lq_adapter *a = t->adapter;
    const float max_norm = (float)t->config->max_grad_norm;
    const bool clip = max_norm > 0 && t->grad_norm > (double)max_norm;
    const float scale = (float)((clip ? (double)max_norm / t->grad_norm : 1.0) / (double)labels);
    float *const param = lq_adapter_param(a), *const grad = lq_adapter_grad(a);
    lq_optim_scale(t->dev, grad, a->n_params, scale);
    t->at.optim_step++;
    lq_optim_step_on(t->dev, t->rule, &t->optim, t->groups, t->n_groups, (float)t->learning_rate,
                     t->at.optim_step, a->n_params, param, grad, t->state);
    if (t->ema) lq_optim_ema(t->dev, t->ema, param, a->n_params, (float)t->config->ema_decay);
    return t->net_is_quantized || a->norm ? lq_trainer_requantize(t) : LQ_OK;
}

/* Counts a step whose loss or gradient cannot be used; an error after too many in a row. */
static lq_status skip(lq_trainer *t, double loss) {
    t->at.skipped++;
    t->at.skipped_in_a_row++;
    lq_log(LQ_LOG_WARN, "step %lld: loss %g, gradient norm %g: the step is skipped (%lld in a row)",
           (long long)t->at.step + 1, loss, t->grad_norm, (long long)t->at.skipped_in_a_row);
    if (t->at.skipped_in_a_row < t->config->loss_watchdog_patience) return LQ_OK;
    return lq_fail(
        LQ_ENONFINITE,
        "%lld steps in a row had a non-finite loss or gradient (step %lld); lower the learning "
        "rate (%g) or look at the data",
        (long long)t->at.skipped_in_a_row, (long long)t->at.step + 1, t->config->learning_rate);
}

static lq_status watch(lq_trainer *t, double loss) {
    const double threshold = t->config->loss_watchdog_threshold;
    t->at.above_threshold = threshold > 0 && loss > threshold ? t->at.above_threshold + 1 : 0;
    if (threshold <= 0 || t->at.above_threshold < t->config->loss_watchdog_patience) return LQ_OK;
    return lq_fail(LQ_EVALUE,
                   "the loss was above loss_watchdog_threshold (%g) for %lld steps in a row",
                   threshold, (long long)t->at.above_threshold);
}

lq_status lq_train_step(lq_trainer *t) {
    lq_loss loss = {0};
    int64_t tokens = 0;
    const lq_status status = accumulate(t, &loss, &tokens);
    if (status != LQ_OK) {
        lq_loader_seek(t->loader, t->at.batches); /* the step has not happened */
        return status;
    }
    t->grad_norm = loss.labels ? *t->norm / (double)loss.labels : 0;
    t->learning_rate =
        lq_learning_rate(t->schedule, t->config->learning_rate, t->config->cosine_min_lr_ratio,
                         t->at.step, t->warmup_steps, t->total_steps);
    lq_status outcome = LQ_OK;
    if (!isfinite(loss.objective) || !isfinite(t->grad_norm)) {
        outcome = skip(t, loss.objective / (double)loss.labels);
    } else if (loss.labels > 0) {
        t->at.skipped_in_a_row = 0;
        LQ_TRY(update(t, loss.labels));
        t->at.logged_loss += loss.objective;
        t->at.logged_kl += loss.kl;
        t->at.logged_labels += loss.labels;
        outcome = watch(t, loss.objective / (double)loss.labels);
    }
    t->at.logged_tokens += tokens;
    t->at.tokens += tokens;
    t->at.batches = lq_loader_position(t->loader);
    t->at.step++;
    return outcome;
}
