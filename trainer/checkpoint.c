/* Checkpoints: step-000100.h5 with everything that decides the rest of the run, so that a resumed
 * run ends with the same bytes as one never stopped. A checkpoint of another base, data or config
 * is refused by name. */
#include "atomic_file.h"
#include "h5.h"
#include "trainer.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 3 };

/* ---- the directory --------------------------------------------------------------------------- */

typedef struct steps {
    int64_t *v;
    int64_t n, cap;
} steps;

static int descending(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Steps of the checkpoints in dir, newest first. A missing directory has none. */
static lq_status list_steps(steps *out, const char *dir) {
    lq_status status = LQ_OK;
    *out = (steps){0};
    DIR *d = opendir(dir);
    if (!d) return errno == ENOENT ? LQ_OK : lq_fail(LQ_EIO, "%s: %s", dir, strerror(errno));
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        long long step;
        int end = 0;
        if (sscanf(e->d_name, "step-%lld.h5%n", &step, &end) != 1 || !end || e->d_name[end])
            continue;
        LQ_GOTO(status, lq_reserve((void **)&out->v, &out->cap, out->n + 1, sizeof *out->v));
        out->v[out->n++] = step;
    }
    if (out->n) qsort(out->v, (size_t)out->n, sizeof *out->v, descending);
done:
    closedir(d);
    if (status != LQ_OK) lq_free(out->v);
    return status;
}

static char *step_path(const char *dir, int64_t step) {
    return lq_sprintf("%s/step-%06lld.h5", dir, (long long)step);
}

static lq_status remove_step(const char *dir, int64_t step) {
    char *path = step_path(dir, step);
    if (!path) return LQ_EMEM;
    const lq_status status = lq_remove_file(path);
    lq_free(path);
    return status;
}

lq_status lq_checkpoint_discard(const char *dir) {
    steps s;
    LQ_TRY(list_steps(&s, dir));
    lq_status status = LQ_OK;
    for (int64_t i = 0; i < s.n && status == LQ_OK; i++) status = remove_step(dir, s.v[i]);
    lq_free(s.v);
    return status;
}

/* Keeps the newest save_total_limit and the one of the best step. Every checkpoint carries the best
 * parameters, so the best is never lost. */
static lq_status enforce_limit(const lq_trainer *t) {
    const int64_t limit = t->config->save_total_limit;
    if (limit <= 0) return LQ_OK;
    steps s;
    LQ_TRY(list_steps(&s, t->checkpoint_dir));
    lq_status status = LQ_OK;
    for (int64_t i = limit; i < s.n && status == LQ_OK; i++)
        if (s.v[i] != t->at.best_step) status = remove_step(t->checkpoint_dir, s.v[i]);
    lq_free(s.v);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* A span of the device's, through the host's memory if that is another. */
static lq_status write_span(lq_trainer *t, lq_h5 *h, const char *name, const float *span,
                            int64_t n) {
    if (t->dev->id == LQ_CPU) return lq_h5_write(h, name, LQ_H5_F32, span, n);
    float *const host = lq_alloc_array(n, sizeof *host);
    if (!host) return LQ_EMEM;
    t->dev->row->copy(t->dev, host, span, (size_t)n * sizeof *host);
    lq_status status = t->dev->row->wait(t->dev);
    if (status == LQ_OK) status = lq_h5_write(h, name, LQ_H5_F32, host, n);
    lq_free(host);
    return status;
}

static lq_status write_all(lq_trainer *t, lq_h5 *h, const char *config) {
    const int64_t n = t->adapter->n_params, version = VERSION, n_state = n * t->rule->n_state;
    LQ_TRY(lq_h5_write(h, "version", LQ_H5_I64, &version, 1));
    LQ_TRY(lq_h5_write(h, "position", LQ_H5_U8, &t->at, sizeof t->at));
    LQ_TRY(lq_h5_write_string(h, "base", lq_base_hash_hex(&t->base_hash)));
    LQ_TRY(lq_h5_write_string(h, "data", t->data.key));
    LQ_TRY(lq_h5_write_string(h, "start", t->start_key));
    LQ_TRY(lq_h5_write_string(h, "teacher", t->teacher ? lq_teacher_key(t->teacher) : "none"));
    LQ_TRY(lq_h5_write_string(h, "config", config));
    LQ_TRY(write_span(t, h, "param", lq_adapter_param(t->adapter), n));
    LQ_TRY(write_span(t, h, "state", t->state, n_state));
    if (t->adapter->taken) LQ_TRY(lq_h5_write(h, "taken", LQ_H5_F32, t->adapter->taken, n));
    if (t->ema) LQ_TRY(write_span(t, h, "ema", t->ema, n));
    if (t->searched) LQ_TRY(write_span(t, h, "searched", t->searched, n));
    if (t->at.best_step >= 0) LQ_TRY(write_span(t, h, "best", t->best, n));
    return LQ_OK;
}

lq_status lq_checkpoint_save(lq_trainer *t) {
    lq_h5 *h = NULL;
    lq_str config = LQ_STR_INIT;
    lq_status status = LQ_OK;
    char *path = step_path(t->checkpoint_dir, t->at.step);
    LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_metrics_sync(t)); /* the checkpoint counts on these lines */
    LQ_GOTO(status, lq_config_dump(t->config, &config));
    LQ_GOTO(status, lq_h5_create(&h, path));
    LQ_GOTO(status, write_all(t, h, lq_str_text(&config)));
    status = lq_h5_commit(h);
    h = NULL;
    if (status == LQ_OK) status = enforce_limit(t);
done:
    lq_h5_close(h);
    lq_str_clear(&config);
    lq_free(path);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

static lq_status read_span(lq_dev *dev, lq_h5 *h, const char *name, float *out, int64_t n) {
    void *data = NULL;
    int64_t found;
    LQ_TRY(lq_h5_read(h, name, LQ_H5_F32, &data, &found));
    if (found == n) dev->row->copy(dev, out, data, (size_t)n * sizeof(float));
    const lq_status status = dev->row->wait(dev);
    lq_free(data);
    return found == n ? status
                      : lq_fail(LQ_ESHAPE, "'%s' has %lld numbers, this run needs %lld", name,
                                (long long)found, (long long)n);
}

/* What the run's adapter took from W, where it did. */
static lq_status read_taken(lq_h5 *h, lq_adapter *a) {
    if (!a->taken) return LQ_OK;
    float *taken = lq_alloc_array(a->n_params, sizeof *taken);
    lq_status status = taken ? read_span(lq_dev_cpu(), h, "taken", taken, a->n_params)
                             : LQ_EMEM;
    if (status == LQ_OK) status = lq_adapter_take(a, taken);
    lq_free(taken);
    return status;
}

static lq_status read_position(lq_h5 *h, lq_position *out) {
    void *data = NULL;
    int64_t n;
    LQ_TRY(lq_h5_read(h, "position", LQ_H5_U8, &data, &n));
    if (n == sizeof *out) memcpy(out, data, sizeof *out);
    lq_free(data);
    return n == sizeof *out ? LQ_OK
                            : lq_fail(LQ_EFORMAT, "'position' has %lld bytes, wanted %zu",
                                      (long long)n, sizeof *out);
}

static lq_status read_version(lq_h5 *h) {
    void *data = NULL;
    int64_t n;
    LQ_TRY(lq_h5_read(h, "version", LQ_H5_I64, &data, &n));
    const int64_t version = n == 1 ? *(int64_t *)data : -1;
    lq_free(data);
    return version == VERSION
               ? LQ_OK
               : lq_fail(LQ_EUNSUPPORTED, "checkpoint version %lld, this program reads %d",
                         (long long)version, VERSION);
}

static lq_status same_text(lq_h5 *h, const char *name, const char *want, const char *what) {
    char *found = NULL;
    LQ_TRY(lq_h5_read_string(h, name, &found));
    const bool same = strcmp(found, want) == 0;
    lq_free(found);
    return same ? LQ_OK : lq_fail(LQ_ECONFIG, "the checkpoint was made with %s", what);
}

/* The configuration may differ in what does not change the result (logging, saving, output). */
static lq_status same_config(lq_h5 *h, const lq_config *now) {
    char *text = NULL;
    lq_config *then = NULL;
    lq_str diff = LQ_STR_INIT;
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_h5_read_string(h, "config", &text));
    LQ_GOTO(status, lq_config_parse(&then, text, "the checkpoint's config"));
    LQ_GOTO(status, lq_config_diff(then, now, true, &diff));
    if (diff.n)
        status = lq_fail(
            LQ_ECONFIG, "the checkpoint was made with another configuration; these keys differ: %s",
            lq_str_text(&diff));
done:
    lq_str_clear(&diff);
    lq_config_free(then);
    lq_free(text);
    return status;
}

static lq_status read_all(lq_trainer *t, lq_h5 *h) {
    const int64_t n = t->adapter->n_params;
    lq_position at;
    LQ_TRY(read_version(h));
    LQ_TRY(same_text(h, "base", lq_base_hash_hex(&t->base_hash), "another base model"));
    LQ_TRY(same_config(h, t->config));
    LQ_TRY(same_text(h, "data", t->data.key, "other training data"));
    LQ_TRY(same_text(h, "start", t->start_key, "another lora_model_dir"));
    LQ_TRY(same_text(h, "teacher", t->teacher ? lq_teacher_key(t->teacher) : "none",
                     "another teacher"));
    LQ_TRY(read_position(h, &at));
    LQ_TRY(read_span(lq_dev_cpu(), h, "param", t->adapter->param, n));
    LQ_TRY(read_taken(h, t->adapter));
    lq_adapter_send(t->adapter);
    LQ_TRY(read_span(t->dev, h, "state", t->state, n * t->rule->n_state));
    if (t->ema) LQ_TRY(read_span(t->dev, h, "ema", t->ema, n));
    if (t->searched) LQ_TRY(read_span(t->dev, h, "searched", t->searched, n));
    if (at.best_step >= 0 && t->best) LQ_TRY(read_span(t->dev, h, "best", t->best, n));
    t->at = at;
    return LQ_OK;
}

static lq_status resume_file(lq_trainer *t, const char *path) {
    lq_h5 *h = NULL;
    LQ_TRY(lq_h5_open(&h, path));
    lq_status status = read_all(t, h);
    lq_h5_close(h);
    return status == LQ_OK ? LQ_OK : lq_fail_context(status, "%s: ", path);
}

/* A damaged newest file (never left by us, but disks exist) falls back to the one before it. With
 * all of them damaged the user decides: starting over would throw away the run's record. */
static lq_status resume_newest(lq_trainer *t, bool *resumed) {
    steps s;
    LQ_TRY(list_steps(&s, t->checkpoint_dir));
    lq_status status = LQ_OK;
    for (int64_t i = 0; i < s.n && !*resumed; i++) {
        char *path = step_path(t->checkpoint_dir, s.v[i]);
        status = path ? resume_file(t, path) : LQ_EMEM;
        lq_free(path);
        *resumed = status == LQ_OK;
        if (status != LQ_OK && status != LQ_EFORMAT && status != LQ_EIO) break;
        if (status != LQ_OK && i + 1 < s.n)
            lq_log(LQ_LOG_WARN, "%s; trying the checkpoint before it", lq_error());
    }
    if (status == LQ_EFORMAT || status == LQ_EIO)
        lq_fail_context(status, "no checkpoint can be read; start over with --overwrite-output-dir "
                                "true and without --resume-from-checkpoint; the oldest: ");
    lq_free(s.v);
    return status;
}

lq_status lq_checkpoint_resume(lq_trainer *t, const char *path, bool *resumed) {
    *resumed = false;
    if (strcmp(path, "auto") == 0) return resume_newest(t, resumed);
    LQ_TRY(resume_file(t, path));
    *resumed = true;
    return LQ_OK;
}

static lq_status read_best(lq_h5 *h, lq_adapter *a, lq_base_hash *base, int64_t *out_step) {
    lq_position at;
    LQ_TRY(read_version(h));
    LQ_TRY(same_text(h, "base", lq_base_hash_hex(base), "another base model"));
    LQ_TRY(read_position(h, &at));
    LQ_TRY(read_span(lq_dev_cpu(), h, at.best_step >= 0 ? "best" : "param", a->param,
                     a->n_params));
    LQ_TRY(read_taken(h, a));
    *out_step = at.best_step >= 0 ? at.best_step : at.step;
    return LQ_OK;
}

lq_status lq_checkpoint_best(lq_adapter *a, const char *dir, lq_base_hash *base,
                             int64_t *out_step) {
    steps s;
    lq_h5 *h = NULL;
    char *path = NULL;
    lq_status status = LQ_OK;
    LQ_TRY(list_steps(&s, dir));
    if (!s.n) LQ_GOTO(status, lq_fail(LQ_EIO, "%s: holds no checkpoint", dir));
    path = step_path(dir, s.v[0]);
    LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_h5_open(&h, path));
    status = read_best(h, a, base, out_step);
    if (status != LQ_OK) lq_fail_context(status, "%s: ", path);
done:
    lq_h5_close(h);
    lq_free(path);
    lq_free(s.v);
    return status;
}
