/* Lineage as the GGUF specification names it (general.base_model.*, general.finetune,
 * general.quantized_by), and what llama.cpp's tools write into every quantized file. */
#include "lineage_keys.h"

#include "imatrix_keys.h"

#include <string.h>

enum { QUANTIZATION_VERSION = 2 }; /* ggml's version of its block formats */

static const char tuned[] = " (fine-tuned)";

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static lq_status write_name(lq_export *e, const lq_adapter *a, const lq_lineage_keys *keys) {
    char *base = NULL, *name = NULL;
    lq_status status = LQ_OK;
    if (keys->lineage->name) return lq_export_string(e, "general.name", keys->lineage->name);
    LQ_GOTO(status, lq_gguf_get_string(a->model->file, "general.name", false, &base));
    if (!base && !keys->finetune) goto done;
    const char *suffix = keys->finetune && !(base && ends_with(base, tuned)) ? tuned : "";
    name = lq_sprintf("%s%s", base ? base : "Model", suffix);
    LQ_GOTO(status, name ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_export_string(e, "general.name", name));
done:
    lq_free(base);
    lq_free(name);
    return status;
}

/* The base's file name: a path says more about the machine than about the model. */
static lq_status write_base_model(lq_export *e, const lq_lineage_keys *keys) {
    const char *path = keys->lineage->base_path;
    const char *const slash = path ? strrchr(path, '/') : NULL;
    LQ_TRY(lq_export_u32(e, "general.base_model.count", 1));
    if (!path) path = "unknown";
    return lq_export_string(e, "general.base_model.0.name", slash ? slash + 1 : path);
}

static lq_status write_imatrix(lq_export *e, const lq_imatrix *im) {
    lq_imatrix_key key[LQ_N_IMATRIX_KEYS];
    const int n = lq_imatrix_keys(key, im);
    for (int i = 0; i < n; i++)
        LQ_TRY(key[i].is_text ? lq_export_string(e, key[i].key, key[i].text)
                              : lq_export_u32(e, key[i].key, key[i].number));
    return LQ_OK;
}

static lq_status write_quantization(lq_export *e, const lq_lineage_keys *keys) {
    const lq_mix *mix = keys->types->mix;
    LQ_TRY(lq_export_u32(e, "general.quantization_version", QUANTIZATION_VERSION));
    LQ_TRY(lq_export_u32(e, "general.file_type", (uint32_t)mix->file_type));
    LQ_TRY(write_imatrix(e, keys->types->imatrix));
    if (lq_gguf_type_block(mix->type) == 1) return LQ_OK;
    char *by = lq_sprintf("Loquat %s", keys->lineage->version);
    const lq_status status = by ? lq_export_string(e, "general.quantized_by", by) : LQ_EMEM;
    lq_free(by);
    return status;
}

/* An adapter file has it, too: the base that it will lie beside has none, or another. */
static lq_status write_template(lq_export *e, const lq_adapter *a, const char *source) {
    const lq_tokenizer *tok = a->model->tokenizer;
    const char *own = tok ? lq_tokenizer_chat_template(tok) : NULL;
    if (!source || (own && strcmp(own, source) == 0)) return LQ_OK;
    return lq_export_string(e, "tokenizer.chat_template", source);
}

lq_status lq_lineage_write(lq_export *e, const lq_adapter *a, const lq_lineage_keys *keys) {
    LQ_TRY(write_name(e, a, keys));
    if (keys->finetune) {
        lq_export_drop(e, "general.base_model."); /* the base's own bases */
        LQ_TRY(write_base_model(e, keys));
        LQ_TRY(lq_export_string(e, "general.finetune", keys->finetune));
    }
    if (keys->qat_mode) LQ_TRY(lq_export_string(e, "loquat.qat.mode", keys->qat_mode));
    LQ_TRY(write_template(e, a, keys->lineage->chat_template));
    return keys->types ? write_quantization(e, keys) : LQ_OK;
}
