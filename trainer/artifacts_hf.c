/* What a run leaves for Hugging Face's libraries: a PEFT directory, a merged safetensors directory.
 * An artefact's hash and bytes are those of all weight files in it, in order of their names. */
#include "atomic_file.h"
#include "export_hf.h"
#include "export_peft.h"
#include "safetensors.h"
#include "trainer.h"

#include <string.h>

/* Enters the directory `path` (taken over), whose weights are `stem`.safetensors or its shards,
 * unless writing it failed. */
static lq_status add(lq_artifacts *l, const char *kind, const lq_format *type, const char *stem,
                     char *path, lq_status exported) {
    lq_artifact a = {.kind = kind, .type = type ? type->label : NULL, .path = path};
    lq_safetensors *weights = NULL;
    lq_bytes *region = NULL;
    lq_status status = exported;
    LQ_GOTO(status, status);
    LQ_GOTO(status, lq_safetensors_open_dir(&weights, path, stem));
    const int n = lq_safetensors_n_files(weights);
    region = lq_alloc_array(n, sizeof *region);
    LQ_GOTO(status, region ? LQ_OK : LQ_EMEM);
    for (int i = 0; i < n; i++) {
        region[i].p = lq_safetensors_file(weights, i, &region[i].n);
        a.bytes += region[i].n;
    }
    lq_sha256_regions(a.sha256, region, n);
    LQ_GOTO(status, lq_reserve((void **)&l->a, &l->cap, l->n + 1, sizeof *l->a));
    l->a[l->n++] = a;
    path = NULL;
    lq_log(LQ_LOG_INFO, "wrote %s (%s, %.1f MB)", a.path, kind, 1e-6 * (double)a.bytes);
done:
    lq_free(region);
    lq_safetensors_close(weights);
    lq_free(path);
    return status;
}

/* As transformers saves it: a file of its own, before tokenizer_config.json's. */
static lq_status write_template(const char *dir, const char *source) {
    if (!source) return LQ_OK;
    char *path = lq_path_join(dir, "chat_template.jinja");
    const lq_status status = path ? lq_write_file(path, source, strlen(source)) : LQ_EMEM;
    lq_free(path);
    return status;
}

lq_status lq_export_run_hf(const lq_adapter *a, const lq_config *c, const char *chat_template,
                           const char *dir, const char *name, lq_artifacts *out) {
    const lq_format *type = lq_format_by_name(c->exports.outtype);
    if (c->exports.peft) {
        if (c->base_quant && *c->base_quant)
            lq_log(LQ_LOG_WARN, "the PEFT adapter was trained beside base_quant's weights; beside "
                   "%s it is another model than the one validated", c->base_model);
        char *path = lq_sprintf("%s/%s-PEFT", dir, name);
        LQ_TRY(add(out, "peft", type, "adapter_model", path,
                   path ? lq_export_peft(a, path, type, c->base_model) : LQ_EMEM));
    }
    if (!c->exports.merged_safetensors) return LQ_OK;
    char *path = lq_sprintf("%s/%s-merged", dir, name);
    lq_status status = path ? lq_export_hf(a, path, &type) : LQ_EMEM;
    if (status == LQ_OK) status = write_template(path, chat_template);
    return add(out, "safetensors", type, "model", path, status);
}
