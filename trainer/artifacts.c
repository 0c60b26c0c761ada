/* What a run leaves behind: merged GGUF, adapter GGUF, quantized base, named by the GGUF
 * convention. */
#include "atomic_file.h"
#include "export.h"
#include "ggml_types.h"
#include "trainer.h"

#include <ctype.h>
#include <string.h>

void lq_artifacts_clear(lq_artifacts *l) {
    for (int64_t i = 0; i < l->n; i++) lq_free(l->a[i].path);
    lq_free(l->a);
    *l = (lq_artifacts){0};
}

/* NAME: run_name, else the base file's name without its type suffix and extension. */
static char *artifact_name(const lq_config *c) {
    if (c->run_name && *c->run_name) return lq_strdup(c->run_name);
    const char *slash = strrchr(c->base_model, '/');
    char *name = lq_strdup(slash ? slash + 1 : c->base_model);
    if (!name) return NULL;
    char *dot = strrchr(name, '.');
    if (dot && strcmp(dot, ".gguf") == 0) *dot = 0;
    char *dash = strrchr(name, '-');
    if (dash && lq_mix_by_name(dash + 1)) *dash = 0;
    return name;
}

/* Enters what an export to `path` (taken over) made, unless it failed. */
static lq_status add(lq_artifacts *l, const char *kind, const char *type, char *path,
                     lq_status exported) {
    lq_artifact a = {.kind = kind, .type = type, .path = path};
    lq_status status = exported;
    if (status == LQ_OK) status = lq_reserve((void **)&l->a, &l->cap, l->n + 1, sizeof *l->a);
    if (status == LQ_OK) status = lq_sha256_file(a.sha256, path, &a.bytes);
    if (status != LQ_OK) {
        lq_free(path);
        return status;
    }
    l->a[l->n++] = a;
    lq_log(LQ_LOG_INFO, "wrote %s (%s, %.1f MB)", path, kind, 1e-6 * (double)a.bytes);
    return LQ_OK;
}

static lq_status export_merged(const lq_adapter *a, const char *dir, const char *name,
                               const lq_mix_request *types, const lq_lineage *lineage,
                               lq_artifacts *out) {
    const char *label = lq_mix_label(types);
    char *path = lq_sprintf("%s/%s-%s.gguf", dir, name, label);
    return add(out, "merged", label, path,
               path ? lq_export_merged(a, path, types, lineage) : LQ_EMEM);
}

static lq_status export_lora(const lq_adapter *a, const char *dir, const char *name,
                             const lq_format *type, const lq_lineage *lineage, lq_artifacts *out) {
    char *path = lq_sprintf("%s/%s-%s-LoRA.gguf", dir, name, type->label);
    return add(out, "adapter", type->label, path,
               path ? lq_export_lora(a, path, type, lineage) : LQ_EMEM);
}

static lq_status export_base(const lq_adapter *a, const char *dir, const char *name,
                             const lq_mix_request *types, const lq_lineage *lineage,
                             lq_artifacts *out) {
    const char *label = lq_mix_label(types);
    char *path = lq_sprintf("%s/%s-base-%s.gguf", dir, name, label);
    return add(out, "base", label, path, path ? lq_export_base(a, path, types, lineage) : LQ_EMEM);
}

/* The adapter, and beside it the base that base_quant made: the pair is what was validated. */
static lq_status export_plain(const lq_adapter *a, const lq_config *c, const char *dir,
                              const char *name, const lq_format *outtype,
                              const lq_lineage *lineage, lq_artifacts *out) {
    const lq_types_text text = {.what = "base_quant", .type = c->base_quant};
    lq_types t = {0};
    lq_status status = LQ_OK;
    if (c->base_quant && *c->base_quant) {
        status = lq_types_open(&t, &text);
        if (status == LQ_OK) status = export_base(a, dir, name, &t.request, lineage, out);
        lq_types_clear(&t);
    }
    return status == LQ_OK ? export_lora(a, dir, name, outtype, lineage, out) : status;
}

static lq_status export_types(const lq_adapter *a, const char *dir, const char *name,
                              const char *const *types, int n_types, const lq_lineage *lineage,
                              lq_artifacts *out) {
    for (int i = 0; i < n_types; i++) {
        const lq_types_text text = {.what = "export", .type = types[i]};
        lq_types t;
        lq_status status = lq_types_open(&t, &text);
        if (status == LQ_OK) status = export_merged(a, dir, name, &t.request, lineage, out);
        lq_types_clear(&t);
        LQ_TRY(status);
    }
    return LQ_OK;
}

/* Named after its first trained weight. */
static lq_status export_scales(const lq_adapter *a, const char *dir, const char *name, int n_types,
                               const lq_lineage *lineage, lq_artifacts *out) {
    const char *label = a->model->weight[a->item[0].weight].fmt->label;
    if (n_types > 0)
        return lq_fail(LQ_ECONFIG, "export: a run with adapter: scales is exported in the base's "
                       "own types; others would not be what was validated");
    char *path = lq_sprintf("%s/%s-%s.gguf", dir, name, label);
    return add(out, "merged", label, path,
               path ? lq_export_merged(a, path, NULL, lineage) : LQ_EMEM);
}

static lq_status export_mode(const lq_adapter *a, const lq_config *c, const char *dir,
                             const char *name, const char *const *types, int n_types,
                             const lq_lineage *lineage, lq_artifacts *out) {
    const lq_format *outtype = lq_format_by_name(c->exports.outtype);
    const lq_mix_request f16 = lq_mix_plain(LQ_TYPE_F16);
    if (!outtype)
        return lq_fail(LQ_ECONFIG, "export.outtype: '%s' is not a type", c->exports.outtype);
    if (a->options.mode == LQ_QAT_MERGED) {
        if (n_types > 0)
            return lq_fail(LQ_ECONFIG,
                           "export: a run trained as merged %s is exported as just that; other "
                           "types would not be what was validated",
                           lq_mix_label(a->options.types));
        return export_merged(a, dir, name, a->options.types, lineage, out);
    }
    if (a->options.mode == LQ_QAT_SEPARATE) {
        if (n_types > 0)
            return lq_fail(LQ_ECONFIG,
                           "export: a run trained as a separate adapter on %s is exported as base "
                           "and adapter; merging it would not be what was validated",
                           lq_mix_label(a->options.types));
        LQ_TRY(export_base(a, dir, name, a->options.types, lineage, out));
        return export_lora(a, dir, name, outtype, lineage, out);
    }
    if (a->options.scales) return export_scales(a, dir, name, n_types, lineage, out);
    LQ_TRY(export_types(a, dir, name, types, n_types, lineage, out));
    if (a->options.full || (a->options.use_dora && !c->exports.lora))
        return n_types ? LQ_OK : export_merged(a, dir, name, &f16, lineage, out);
    return c->exports.lora || n_types == 0
               ? export_plain(a, c, dir, name, outtype, lineage, out)
               : LQ_OK;
}

lq_status lq_export_run(const lq_adapter *a, const lq_config *c, const char *chat_template,
                        const char *dir, const char *const *types, int n_types, lq_artifacts *out) {
    const lq_lineage lineage = {.base_path = c->base_model, .version = loquat_version(),
                                .chat_template = chat_template};
    if (!types) {
        types = (const char *const *)c->exports.quantize.s;
        n_types = c->exports.quantize.n;
    }
    LQ_TRY(lq_make_dirs(dir));
    char *name = artifact_name(c);
    if (!name) return LQ_EMEM;
    lq_status status = export_mode(a, c, dir, name, types, n_types, &lineage, out);
    if (status == LQ_OK) status = lq_export_run_hf(a, c, chat_template, dir, name, out);
    lq_free(name);
    return status;
}
