/* See compare.h. */
#include "compare.h"

#include "atomic_file.h"
#include "best.h"
#include "json_file.h"
#include "safetensors.h"
#include "trainer.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

lq_status lq_file_bytes(int64_t *out, const char *path) {
    struct stat found;
    if (stat(path, &found) != 0) return lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
    *out = (int64_t)found.st_size;
    return LQ_OK;
}

/* Of a Hugging Face directory its safetensors, of a split GGUF all parts. */
static lq_status model_bytes(int64_t *out, const char *path) {
    lq_safetensors *files = NULL;
    lq_gguf *gguf = NULL;
    *out = 0;
    if (!lq_is_directory(path)) {
        LQ_TRY(lq_gguf_open(&gguf, path));
        *out = (int64_t)lq_gguf_bytes(gguf);
        lq_gguf_close(gguf);
        return LQ_OK;
    }
    LQ_TRY(lq_safetensors_open_dir(&files, path, "model"));
    for (int i = 0; i < lq_safetensors_n_files(files); i++) {
        size_t bytes;
        lq_safetensors_file(files, i, &bytes);
        *out += (int64_t)bytes;
    }
    lq_safetensors_close(files);
    return LQ_OK;
}

static int64_t artifact_bytes(const json_t *record, const char *kind) {
    return json_integer_value(json_object_get(lq_record_artifact(record, kind), "bytes"));
}

/* Merged: one file. Separate: base and adapter. Plain: the base model and an F32 adapter. */
static lq_status deployed_bytes(lq_compare_run *r, const json_t *record) {
    const int64_t merged = artifact_bytes(record, "merged");
    const int64_t adapter = artifact_bytes(record, "adapter");
    r->bytes = r->plain ? 0 : merged;
    if (r->bytes) return LQ_OK;
    r->bytes = artifact_bytes(record, "base");
    if (!r->bytes) LQ_TRY(model_bytes(&r->bytes, r->config->base_model));
    const json_int_t n = json_integer_value(json_object_get(record, "trained_parameters"));
    r->bytes += adapter ? adapter : (int64_t)sizeof(float) * n;
    return LQ_OK;
}

static lq_status read_run(lq_compare_run *r, const json_t *record) {
    char *config = lq_path_join(r->path, "config.yaml");
    lq_status status = LQ_OK;
    LQ_GOTO(status, config ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_config_load(&r->config, config, NULL, 0));
    r->plain = !r->config->has_qat;
    const json_t *seconds = json_object_get(record, "seconds");
    if (json_is_number(seconds)) r->seconds = json_number_value(seconds);
    LQ_GOTO(status, deployed_bytes(r, record));
done:
    lq_free(config);
    return status;
}

lq_status lq_compare_run_read(lq_compare_run *out, const char *argument) {
    const char *equals = strchr(argument, '=');
    json_t *record;
    *out = (lq_compare_run){.path = equals ? equals + 1 : argument, .seconds = NAN};
    if (equals) {
        out->name = lq_sprintf("%.*s", (int)(equals - argument), argument);
        if (!out->name) return LQ_EMEM;
    }
    LQ_TRY(lq_json_read(&record, out->path, "run.json", false));
    const lq_status status =
        record ? read_run(out, record) : model_bytes(&out->bytes, out->path);
    json_decref(record);
    return status;
}

void lq_compare_run_clear(lq_compare_run *r) {
    lq_free(r->name);
    lq_config_free(r->config);
    *r = (lq_compare_run){0};
}

int64_t lq_compare_run_seed(const lq_compare_run *r) { return r->config ? r->config->seed : -1; }

lq_status lq_compare_run_alike(const lq_compare_run *a, const lq_compare_run *b, bool *out) {
    lq_str diff = LQ_STR_INIT;
    *out = a->name && b->name && strcmp(a->name, b->name) == 0;
    if (a->name || b->name || !a->config || !b->config) return LQ_OK;
    const lq_status status = lq_config_diff(a->config, b->config, true, &diff);
    *out = strcmp(lq_str_text(&diff), "seed") == 0;
    lq_str_clear(&diff);
    return status;
}

static lq_status open_plain(loquat_model **out, const lq_compare_run *r) {
    lq_best b;
    lq_status status = lq_best_open(&b, r->config, r->path);
    if (status == LQ_OK) {
        status = lq_session_of(out, b.model, b.adapter, b.template_source);
        b.model = NULL;   /* taken over */
        b.adapter = NULL;
    }
    lq_best_close(&b);
    return status == LQ_OK ? LQ_OK : lq_fail_context(status, "%s: ", r->path);
}

lq_status lq_compare_run_session(loquat_model **out, const lq_compare_run *r) {
    *out = NULL;
    return r->plain ? open_plain(out, r) : (lq_status)loquat_model_open(out, r->path, NULL, 0);
}
