/* loquat_inspect and loquat_inspect_two: reports on files, on a run's directory through its
 * run.json, and on a PEFT adapter's. */
#include "atomic_file.h"
#include "hf.h"
#include "inspect.h"
#include "json_file.h"
#include "loquat.h"
#include "peft_file.h"
#include "safetensors.h"
#include "session.h"

#include <stdio.h>
#include <string.h>

/* The report on one exported file; a file that is gone or no GGUF is said to be so. */
static lq_status add_artifact(json_t *files, const char *dir, const json_t *artifact) {
    const char *recorded = json_string_value(json_object_get(artifact, "path"));
    json_t *report = NULL;
    char *path = recorded ? lq_run_path(dir, recorded) : NULL;
    if (!recorded) return LQ_OK;
    if (!path) return LQ_EMEM;
    lq_status status = lq_is_directory(path) ? LQ_OK : lq_inspect_report(&report, path);
    if (status != LQ_OK && status != LQ_EMEM) {
        report = json_pack("{s:s, s:s}", "file", path, "problem", lq_error());
        status = LQ_OK;
    }
    if (report && json_object_set_new(files, path, report) != 0) status = LQ_EMEM;
    lq_free(path);
    return status;
}

static lq_status inspect_run(json_t **out, const char *dir) {
    json_t *record = NULL, *artifact;
    size_t i;
    LQ_TRY(lq_json_read(&record, dir, "run.json", true));
    json_t *files = json_object();
    json_t *report = json_pack("{s:s, s:s, s:o, s:o}", "directory", dir, "kind", "run", "record",
                               record, "files", files);
    lq_status status = report ? LQ_OK : lq_fail(LQ_EMEM, "%s: out of memory while inspecting", dir);
    json_array_foreach(json_object_get(record, "artifacts"), i, artifact) {
        if (status == LQ_OK) status = add_artifact(files, dir, artifact);
    }
    if (status == LQ_OK) *out = report;
    else
        json_decref(report);
    return status;
}

/* ---- a PEFT adapter -------------------------------------------------------------------------- */

static void count(json_t *object, const char *key) {
    const json_int_t n = json_integer_value(json_object_get(object, key));
    json_object_set_new(object, key, json_integer(n + 1));
}

/* The rows of A, which PEFT has for all experts of a parameter in one. */
static bool is_of_all_experts(const char *name) {
    return strstr(name, ".experts.lora_A.") || strstr(name, ".experts.base_layer.lora_A.");
}

/* Numbers of tensors by type, of modules by rank; parameters in all. */
static json_t *count_tensors(const lq_safetensors *s) {
    json_t *types = json_object(), *ranks = json_object();
    json_int_t n_params = 0;
    for (int64_t i = 0; i < lq_safetensors_n(s); i++) {
        const lq_st_tensor *t = lq_safetensors_at(s, i);
        char rank[48];
        int64_t n = 1;
        for (int d = 0; d < t->ndim; d++) n *= t->dim[d];
        n_params += n;
        count(types, t->dtype);
        if (t->ndim != 2 || !strstr(t->name, ".lora_A.")) continue;
        snprintf(rank, sizeof rank, "%lld%s", (long long)t->dim[0],
                 is_of_all_experts(t->name) ? " of all experts" : "");
        count(ranks, rank);
    }
    return json_pack("{s:o, s:o, s:I}", "tensor types", types, "modules by rank", ranks,
                     "parameters in all", n_params);
}

/* The settings of adapter_config.json that are not off. */
static json_t *settings_of(const json_t *config) {
    const char *key;
    json_t *value, *out = json_object();
    json_object_foreach((json_t *)config, key, value)
        if (!json_is_null(value) && !json_is_false(value) &&
            !(json_is_object(value) && json_object_size(value) == 0))
            json_object_set(out, key, value);
    return out;
}

static lq_status inspect_peft(json_t **out, const char *dir) {
    json_t *config = NULL;
    lq_safetensors *weights = NULL;
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_json_read(&config, dir, "adapter_config.json", true));
    LQ_GOTO(status, lq_safetensors_open_dir(&weights, dir, "adapter_model"));
    *out = json_pack("{s:s, s:s, s:o}", "directory", dir, "kind", "PEFT adapter", "settings",
                     settings_of(config));
    json_t *counts = count_tensors(weights);
    if (!*out || json_object_update(*out, counts) != 0)
        status = lq_fail(LQ_EMEM, "%s: out of memory while inspecting", dir);
    json_decref(counts);
done:
    lq_safetensors_close(weights);
    json_decref(config);
    return status;
}

static lq_status inspect_directory(json_t **out, const char *dir) {
    if (lq_peft_is_dir(dir)) return inspect_peft(out, dir);
    if (lq_file_exists_in(dir, "run.json")) return inspect_run(out, dir);
    return lq_fail(LQ_EUNSUPPORTED, "%s: is a directory with neither config.json (a Hugging Face "
                   "model) nor adapter_config.json (a PEFT adapter) nor run.json (a finished run)",
                   dir);
}

static loquat_status finish(lq_status status, json_t *report, bool json, char **out_text) {
    if (status == LQ_OK) status = lq_inspect_text(out_text, report, json);
    json_decref(report);
    return (loquat_status)status;
}

loquat_status loquat_inspect(const char *path, bool json, char **out_text) {
    json_t *report = NULL;
    *out_text = NULL;
    const bool is_other = lq_is_directory(path) && !lq_hf_is_dir(path);
    const lq_status status =
        is_other ? inspect_directory(&report, path) : lq_inspect_report(&report, path);
    return finish(status, report, json, out_text);
}

loquat_status loquat_inspect_two(const char *a, const char *b, bool json, char **out_text) {
    json_t *report = NULL;
    *out_text = NULL;
    const lq_status status = lq_inspect_compare(&report, a, b);
    return finish(status, report, json, out_text);
}
