/* run.json: what was trained, on what, how well, and what came out. */
#include "atomic_file.h"
#include "json_text.h"
#include "telemetry.h"
#include "trainer.h"

#include <string.h>

#include <math.h>

/* The list with `item` (taken over) in it; NULL, and nothing left, if either could not be made. */
static json_t *with(json_t *list, json_t *item) {
    if (json_array_append_new(list, item) == 0) return list;
    json_decref(list);
    return NULL;
}

const json_t *lq_record_artifact(const json_t *record, const char *kind) {
    size_t i;
    const json_t *a;
    json_array_foreach(json_object_get(record, "artifacts"), i, a) {
        const char *found = json_string_value(json_object_get(a, "kind"));
        if (found && strcmp(found, kind) == 0) return a;
    }
    return NULL;
}

json_t *lq_artifacts_json(const lq_artifacts *l) {
    json_t *list = json_array();
    for (int64_t i = 0; i < l->n && list; i++) {
        const lq_artifact *a = &l->a[i];
        list = with(list, json_pack("{s:s, s:s, s:s, s:s, s:I}", "kind", a->kind, "path", a->path,
                                    "type", a->type, "sha256", a->sha256, "bytes",
                                    (json_int_t)a->bytes));
    }
    return list;
}

/* A file that is gone by the end of the run has no fingerprint; the run still has its record. */
static json_t *data_file(const char *path, const char *use) {
    char hash[LQ_SHA256_HEX] = "";
    uint64_t bytes = 0;
    const bool found = lq_sha256_file(hash, path, &bytes) == LQ_OK;
    if (!found) lq_log(LQ_LOG_WARN, "no fingerprint of the data: %s", lq_error());
    return json_pack("{s:s, s:s, s:s?, s:I}", "path", path, "use", use, "sha256",
                     found ? hash : NULL, "bytes", (json_int_t)bytes);
}

/* `data`: a directory with train.jsonl and perhaps valid.jsonl, or one file. */
static json_t *with_directory(json_t *list, const char *data) {
    char *train = lq_path_join(data, "train.jsonl"), *val = lq_path_join(data, "valid.jsonl");
    if (!train || !val) {
        json_decref(list);
        list = NULL;
    } else if (!lq_file_exists(train)) {
        list = with(list, data_file(data, "train"));
    } else {
        list = with(list, data_file(train, "train"));
        if (list && lq_file_exists(val)) list = with(list, data_file(val, "validation"));
    }
    lq_free(train);
    lq_free(val);
    return list;
}

static json_t *data_files(const lq_config *c) {
    json_t *list = json_array();
    for (int i = 0; i < c->datasets.n && list; i++)
        list = with(list, data_file(c->datasets.e[i].path, "train"));
    for (int i = 0; i < c->test_datasets.n && list; i++)
        list = with(list, data_file(c->test_datasets.e[i].path, "validation"));
    const char *statistics = c->has_qat ? c->qat.imatrix : NULL;
    if (list && statistics && *statistics && strcmp(statistics, "auto") != 0)
        list = with(list, data_file(statistics, "imatrix"));
    return list && c->data && *c->data ? with_directory(list, c->data) : list;
}

static json_t *counts(const lq_dataset *d) {
    const lq_data_counts *n = &d->counts;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "examples", (json_int_t)d->n,
                     "records", (json_int_t)n->records, "too_long_dropped",
                     (json_int_t)n->too_long_dropped, "truncated", (json_int_t)n->truncated,
                     "nothing_trained", (json_int_t)n->nothing_trained, "duplicates",
                     (json_int_t)n->duplicates, "tokens", (json_int_t)n->tokens, "trained_tokens",
                     (json_int_t)n->trained_tokens);
}

static lq_status add_divergence(json_t *record, const lq_trainer *t, const lq_loss *final) {
    const double best = t->at.best_step >= 0 ? t->at.best_kl : (double)NAN;
    json_t *kl = json_pack("{s:o, s:o, s:o, s:s}", "start_eval_kl", lq_json_number(t->at.start_kl),
                           "final_eval_kl", lq_json_number(lq_loss_mean(final, final->kl)),
                           "best_eval_kl", lq_json_number(best), "best_by",
                           t->best_by_kl ? "eval_kl" : "eval_loss");
    const bool ok = kl && json_object_update(record, kl) == 0;
    json_decref(kl);
    return ok ? LQ_OK : LQ_EMEM;
}

static json_t *device_name(const lq_dev *dev) {
    return dev->id == LQ_CPU ? json_string(dev->row->name)
                             : json_sprintf("%s:%d", dev->row->name, dev->index);
}

static json_t *build(lq_trainer *t, const lq_artifacts *artifacts, const lq_loss *final,
                     const char *config) {
    const bool has_best = t->at.best_step >= 0;
    return json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:o, s:o, s:o, s:{s:I, s:I, s:f}, s:o, s:o, s:o, s:I, s:I, s:I, "
        "s:I, s:I, s:I, s:b, s:f, s:o, s:s, s:o, s:o}",
        "version", loquat_version(), "config", config, "base", "path", t->config->base_model,
        "sha256", lq_base_hash_hex(&t->base_hash), "data", data_files(t->config), "train",
        counts(&t->data.train), "validation", counts(&t->data.val), "split", "train",
        (json_int_t)t->data.train.n, "validation", (json_int_t)t->data.val.n, "val_set_size",
        t->config->val_set_size, "start_eval_loss", lq_json_number(t->at.start_loss),
        "final_eval_loss", lq_json_number(lq_loss_mean(final, final->nll)), "best_eval_loss",
        lq_json_number(has_best ? t->at.best_loss : NAN), "best_step", (json_int_t)t->at.best_step,
        "steps", (json_int_t)t->at.step, "total_steps", (json_int_t)t->total_steps, "tokens",
        (json_int_t)t->at.tokens, "skipped_steps", (json_int_t)t->at.skipped, "trained_parameters",
        (json_int_t)t->adapter->n_params, "best_is_ema", (int)t->at.best_is_ema, "seconds",
        t->at.seconds, "device", device_name(t->dev), "activations", t->dev->activation->name,
        "quantized", lq_telemetry_json(t->adapter), "artifacts",
        lq_artifacts_json(artifacts));
}

lq_status lq_record_write(lq_trainer *t, const lq_artifacts *artifacts, const lq_loss *final,
                          char **out_json) {
    lq_str config = LQ_STR_INIT, text = LQ_STR_INIT;
    json_t *record = NULL;
    char *path = lq_path_join(t->output.dir, "run.json");
    lq_status status = LQ_OK;
    LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_config_dump(t->config, &config));
    record = build(t, artifacts, final, lq_str_text(&config));
    LQ_GOTO(status, record ? LQ_OK : LQ_EMEM);
    if (t->teacher) LQ_GOTO(status, add_divergence(record, t, final));
    LQ_GOTO(status, lq_json_print(&text, record, JSON_INDENT(2) | JSON_REAL_PRECISION(17)));
    LQ_GOTO(status, lq_write_file(path, text.s, text.n));
    if (out_json) *out_json = lq_str_take(&text);
done:
    json_decref(record);
    lq_str_clear(&text);
    lq_str_clear(&config);
    lq_free(path);
    return status;
}
