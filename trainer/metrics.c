/* metrics.jsonl: one JSON object per logged step and per evaluation. After a resume the lines
 * that the checkpoint did not know are cut off, so the file reads as if the run had never
 * stopped. */
#include "atomic_file.h"
#include "expert_load.h"
#include "telemetry.h"
#include "trainer.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

lq_status lq_metrics_open(lq_trainer *t) {
    char *path = lq_path_join(t->output.dir, "metrics.jsonl");
    if (!path) return LQ_EMEM;
    lq_status status = LQ_OK;
    struct stat file;
    t->metrics = fopen(path, "a");
    if (!t->metrics || fstat(fileno(t->metrics), &file) != 0) {
        status = lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
    } else {
        /* a file that lost lines goes on where it ends */
        if (file.st_size < t->at.metrics_bytes) t->at.metrics_bytes = file.st_size;
        if (ftruncate(fileno(t->metrics), (off_t)t->at.metrics_bytes) != 0)
            status = lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
    }
    lq_free(path);
    return status;
}

static lq_status put_line(lq_trainer *t, lq_str *line) {
    lq_status status = lq_str_status(line);
    if (status == LQ_OK &&
        (fwrite(line->s, 1, line->n, t->metrics) != line->n || fflush(t->metrics) != 0))
        status = lq_fail(LQ_EIO, "%s/metrics.jsonl: %s", t->output.dir, strerror(errno));
    if (status == LQ_OK) t->at.metrics_bytes += (int64_t)line->n;
    lq_str_clear(line);
    return status;
}

/* JSON has no NaN. */
static void put_number(lq_str *line, const char *key, double value) {
    if (isfinite(value)) lq_str_printf(line, ", \"%s\": %.9g", key, value);
    else lq_str_printf(line, ", \"%s\": null", key);
}

lq_status lq_metrics_step(lq_trainer *t, double tokens_per_second) {
    lq_str line = LQ_STR_INIT;
    lq_str_printf(&line, "{\"step\": %lld", (long long)t->at.step);
    put_number(&line, "epoch",
               (double)t->at.batches / (double)lq_loader_batches_per_epoch(t->loader));
    put_number(&line, "loss", t->at.last_loss);
    if (t->teacher) put_number(&line, "kl", t->at.last_kl);
    put_number(&line, "learning_rate", t->learning_rate);
    put_number(&line, "grad_norm", t->grad_norm);
    lq_str_printf(&line, ", \"tokens\": %lld, \"skipped_steps\": %lld", (long long)t->at.tokens,
                  (long long)t->at.skipped);
    put_number(&line, "tokens_per_second", tokens_per_second);
    lq_expert_load_log(t->expert_load, t->model);
    lq_expert_load_print(&line, t->expert_load, t->model);
    lq_telemetry_line(t->adapter, &line);
    lq_str_puts(&line, "}\n");
    return put_line(t, &line);
}

lq_status lq_metrics_eval(lq_trainer *t, const lq_loss *loss, const lq_loss *ema) {
    lq_str line = LQ_STR_INIT;
    lq_str_printf(&line, "{\"step\": %lld", (long long)t->at.step);
    put_number(&line, "eval_loss", lq_loss_mean(loss, loss->nll));
    if (t->teacher) put_number(&line, "eval_kl", lq_loss_mean(loss, loss->kl));
    if (ema->labels) put_number(&line, "eval_loss_ema", lq_loss_mean(ema, ema->nll));
    if (ema->labels && t->teacher) put_number(&line, "eval_kl_ema", lq_loss_mean(ema, ema->kl));
    put_number(&line, "eval_accuracy", (double)loss->correct / (double)loss->labels);
    lq_str_printf(&line, ", \"eval_tokens\": %lld", (long long)loss->labels);
    put_number(&line, "best_loss", t->at.best_loss);
    if (t->teacher) put_number(&line, "best_kl", t->at.best_kl);
    lq_str_puts(&line, "}\n");
    return put_line(t, &line);
}

lq_status lq_metrics_sync(lq_trainer *t) {
    if (fflush(t->metrics) != 0 || fsync(fileno(t->metrics)) != 0)
        return lq_fail(LQ_EIO, "%s/metrics.jsonl: %s", t->output.dir, strerror(errno));
    return LQ_OK;
}
