/* Opening a base model, and questions about its weights. See model.h. */
#include "model.h"

#include "atomic_file.h"
#include "gguf_requantize.h"
#include "hf.h"
#include "model_parts.h"

#include <stdio.h>
#include <string.h>

static lq_status refuse_adapter(const lq_gguf *file) {
    char *type = NULL;
    LQ_TRY(lq_gguf_get_string(file, "general.type", false, &type));
    const bool adapter = type && strcmp(type, "adapter") == 0;
    lq_free(type);
    return adapter ? lq_fail(LQ_EVALUE, "is an adapter, wanted a model") : LQ_OK;
}

static lq_status find_arch(lq_model *m) {
    char *name = NULL;
    LQ_TRY(lq_gguf_get_string(m->file, "general.architecture", true, &name));
    const lq_status status = lq_arch_find(&m->arch, name);
    lq_free(name);
    return status == LQ_EUNSUPPORTED ? lq_arch_explain(status, m->file) : status;
}

/* The vocabulary's size is the tokenizer's; a file that says it has none gives it in a key. */
static lq_status open_tokenizer(lq_model *m) {
    char key[64];
    char *kind = NULL;
    uint32_t n = 0;
    LQ_TRY(lq_gguf_get_string(m->file, "tokenizer.ggml.model", false, &kind));
    const bool none = !kind || strcmp(kind, "no_vocab") == 0 || strcmp(kind, "none") == 0;
    lq_free(kind);
    if (none) {
        snprintf(key, sizeof key, "%s.vocab_size", m->arch->name);
        LQ_TRY(lq_gguf_get_u32(m->file, key, true, &n));
        m->hp.n_vocab = n;
        return LQ_OK;
    }
    LQ_TRY(lq_tokenizer_from_gguf(&m->tokenizer, m->file));
    m->hp.n_vocab = lq_tokenizer_n_vocab(m->tokenizer);
    return LQ_OK;
}

static lq_status load(lq_model *m, bool check_finite) {
    LQ_TRY(refuse_adapter(m->file));
    LQ_TRY(find_arch(m));
    LQ_TRY(lq_hparams_read(&m->hp, m->file, m->arch));
    LQ_TRY(lq_yarn_factors(&m->yarn, &m->hp));
    LQ_TRY(open_tokenizer(m));
    LQ_TRY(lq_weights_bind(m));
    m->tied = lq_model_find(m, LQ_ROLE_OUTPUT, -1, false) < 0;
    return check_finite ? lq_model_check_finite(m) : LQ_OK;
}

lq_status lq_model_open(lq_model **out, const char *path, bool check_finite) {
    lq_model *m = lq_alloc(sizeof *m);
    if (!m) return LQ_EMEM;
    lq_status status = LQ_OK;
    if (lq_hf_is_dir(path)) status = lq_hf_open(&m->file, path);
    else if (lq_is_directory(path))
        status = lq_fail(LQ_EIO, "%s: a directory without config.json; wanted a GGUF file or a "
                         "Hugging Face model", path);
    else
        status = lq_gguf_open(&m->file, path);
    if (status == LQ_OK) {
        status = load(m, check_finite);
        if (status != LQ_OK) lq_fail_context(status, "%s: ", path);
    }
    if (status == LQ_OK)
        *out = m;
    else
        lq_model_close(m);
    return status;
}

static void clear_weights(lq_model *m) {
    for (int i = 0; i < m->n_weights; i++) {
        lq_free((char *)m->weight[i].name);
        lq_free((char *)m->weight[i].module);
    }
    lq_free(m->weight);
    m->weight = NULL;
    m->n_weights = 0;
}

static lq_status requantize(lq_model *m, const lq_format *fmt) {
    lq_gguf *file = NULL;
    LQ_TRY(lq_gguf_requantize(&file, m->file, fmt));
    m->file = file;
    clear_weights(m);
    return lq_weights_bind(m);
}

lq_status lq_model_open_as(lq_model **out, const char *path, bool check_finite, const char *type) {
    lq_model *m = NULL;
    const lq_format *fmt = type && *type ? lq_format_by_name(type) : NULL;
    if (type && *type && (!fmt || !fmt->quant))
        return lq_fail(LQ_ECONFIG, "base_quant: '%s' is not a type that Loquat writes", type);
    LQ_TRY(lq_model_open(&m, path, check_finite));
    const lq_status status = fmt ? requantize(m, fmt) : LQ_OK;
    if (status == LQ_OK) *out = m;
    else lq_model_close(m);
    return status;
}

void lq_model_close(lq_model *m) {
    if (!m) return;
    clear_weights(m);
    lq_free(m->yarn);
    lq_tokenizer_close(m->tokenizer);
    lq_gguf_close(m->file);
    lq_free(m);
}

int lq_model_find(const lq_model *m, lq_role role, int layer, bool is_bias) {
    for (int i = 0; i < m->n_weights; i++) {
        const lq_weight *w = &m->weight[i];
        if (w->role == role && w->layer == layer && w->is_bias == is_bias) return i;
    }
    return -1;
}

int lq_model_find_name(const lq_model *m, const char *gguf_name) {
    for (int i = 0; i < m->n_weights; i++)
        if (strcmp(m->weight[i].name, gguf_name) == 0) return i;
    return -1;
}

int lq_model_head(const lq_model *m) {
    return lq_model_find(m, m->tied ? LQ_ROLE_TOKEN_EMBD : LQ_ROLE_OUTPUT, -1, false);
}

bool lq_weight_is_linear(const lq_weight *w) {
    static const bool linear[LQ_N_ROLES] = {
        [LQ_ROLE_OUTPUT] = true, [LQ_ROLE_ATTN_Q] = true,      [LQ_ROLE_ATTN_K] = true,
        [LQ_ROLE_ATTN_QKV] = true, [LQ_ROLE_FFN_GATE_UP] = true,
        [LQ_ROLE_ATTN_V] = true, [LQ_ROLE_ATTN_OUTPUT] = true, [LQ_ROLE_FFN_GATE] = true,
        [LQ_ROLE_FFN_UP] = true, [LQ_ROLE_FFN_DOWN] = true,   [LQ_ROLE_SHARED_GATE] = true,
        [LQ_ROLE_SHARED_UP] = true, [LQ_ROLE_SHARED_DOWN] = true,
    };
    return (linear[w->role] || lq_weight_is_experts(w) || lq_weight_is_router(w)) && !w->is_bias;
}

bool lq_weight_is_experts(const lq_weight *w) {
    return w->role == LQ_ROLE_EXPERTS_GATE || w->role == LQ_ROLE_EXPERTS_UP ||
           w->role == LQ_ROLE_EXPERTS_DOWN;
}

bool lq_weight_is_router(const lq_weight *w) {
    return w->role == LQ_ROLE_ROUTER || w->role == LQ_ROLE_SHARED_ROUTER;
}

bool lq_weight_is_constant(const lq_weight *w) {
    return w->role == LQ_ROLE_ROPE_FREQS || w->role == LQ_ROLE_ROPE_LONG ||
           w->role == LQ_ROLE_ROPE_SHORT;
}

int64_t lq_model_n_params(const lq_model *m) {
    int64_t n = 0;
    for (int i = 0; i < m->n_weights; i++)
        if (!lq_weight_is_constant(&m->weight[i])) n += m->weight[i].rows * m->weight[i].cols;
    return n;
}
