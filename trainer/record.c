/* run.json: what was trained, on what, how well, and what came out. */
#include "atomic_file.h"
#include "trainer.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *lq_artifacts_json(const lq_artifacts *l) {
    json_t *list = json_array();
    for (int64_t i = 0; i < l->n; i++) {
        const lq_artifact *a = &l->a[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:I}", "kind", a->kind, "path", a->path, "type",
                                              a->type, "sha256", a->sha256, "bytes", (json_int_t)a->bytes));
    }
    return list;
}

static json_t *data_file(const char *path, const char *use) {
    char hash[LQ_SHA256_HEX] = "";
    uint64_t bytes = 0;
    if (lq_sha256_file(hash, path, &bytes) != LQ_OK) return NULL;
    return json_pack("{s:s, s:s, s:s, s:I}", "path", path, "use", use, "sha256", hash, "bytes", (json_int_t)bytes);
}

static json_t *data_files(const lq_config *c) {
    json_t *list = json_array();
    for (int i = 0; i < c->datasets.n; i++) json_array_append_new(list, data_file(c->datasets.e[i].path, "train"));
    for (int i = 0; i < c->test_datasets.n; i++)
        json_array_append_new(list, data_file(c->test_datasets.e[i].path, "validation"));
    if (c->data && *c->data) json_array_append_new(list, json_pack("{s:s, s:s}", "path", c->data, "use", "data"));
    return list;
}

static json_t *counts(const lq_dataset *d) {
    const lq_data_counts *n = &d->counts;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "examples", (json_int_t)d->n, "records",
                     (json_int_t)n->records, "too_long_dropped", (json_int_t)n->too_long_dropped, "truncated",
                     (json_int_t)n->truncated, "nothing_trained", (json_int_t)n->nothing_trained, "duplicates",
                     (json_int_t)n->duplicates, "tokens", (json_int_t)n->tokens, "trained_tokens",
                     (json_int_t)n->trained_tokens);
}

static json_t *build(lq_trainer *t, const lq_artifacts *artifacts, double final_loss, const char *config) {
    const bool has_best = t->at.best_step >= 0;
    return json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:o, s:o, s:o, s:{s:I, s:I, s:f}, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
        "version", loquat_version(), "config", config,
        "base", "path", t->config->base_model, "sha256", lq_base_hash_hex(&t->base_hash),
        "data", data_files(t->config), "train", counts(&t->data.train), "validation", counts(&t->data.val),
        "split", "train", (json_int_t)t->data.train.n, "validation", (json_int_t)t->data.val.n, "val_set_size",
        t->config->val_set_size,
        "final_eval_loss", number(final_loss), "best_eval_loss", number(has_best ? t->at.best_loss : NAN),
        "best_step", (json_int_t)t->at.best_step, "steps", (json_int_t)t->at.step, "total_steps",
        (json_int_t)t->total_steps, "tokens", (json_int_t)t->at.tokens, "skipped_steps", (json_int_t)t->at.skipped,
        "trained_parameters", (json_int_t)t->adapter->n_params, "artifacts", lq_artifacts_json(artifacts));
}

lq_status lq_record_write(lq_trainer *t, const lq_artifacts *artifacts, double final_loss, char **out_json) {
    lq_str config = LQ_STR_INIT;
    json_t *record = NULL;
    char *path = lq_path_join(t->output_dir, "run.json"), *text = NULL;
    lq_status status = path ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK) status = lq_config_dump(t->config, &config);
    if (status != LQ_OK) goto done;
    record = build(t, artifacts, final_loss, lq_str_text(&config));
    text = record ? json_dumps(record, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    if (!text) status = lq_fail(LQ_EMEM, "out of memory while writing run.json");
    if (status == LQ_OK) status = lq_write_file(path, text, strlen(text));
    if (status == LQ_OK && out_json) {
        *out_json = lq_strdup(text);
        if (!*out_json) status = LQ_EMEM;
    }
done:
    json_decref(record);
    free(text);
    lq_str_clear(&config);
    lq_free(path);
    return status;
}
