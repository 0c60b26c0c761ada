/* Hyper-parameters from metadata: keys, types and defaults as in llama.cpp's loader. */
#include "model_parts.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 128, MAX_SIZE = 1 << 24 };

typedef struct reader { const lq_gguf *file; const lq_arch *arch; } reader;

static const char *key_of(char key[KEY_BYTES], const reader *r, const char *name) {
    snprintf(key, KEY_BYTES, "%s.%s", r->arch->name, name);
    return key;
}

static lq_status get_f32(const reader *r, const char *name, bool required, float *out) {
    char key[KEY_BYTES];
    return lq_gguf_get_f32(r->file, key_of(key, r, name), required, out);
}

/* One number per layer where the file has a list: they must be equal. */
static lq_status get_uniform(const lq_gguf_kv *kv, int64_t n_layer, uint32_t *out) {
    if ((kv->elem != LQ_GGUF_U32 && kv->elem != LQ_GGUF_I32) || kv->n != (uint64_t)n_layer)
        return lq_fail(LQ_EFORMAT, "key %s must have one u32 or one of each of the %lld layers",
                       kv->key, (long long)n_layer);
    memcpy(out, kv->data, sizeof *out);
    for (uint64_t i = 1; i < kv->n; i++)
        if (memcmp((const char *)kv->data + i * sizeof *out, out, sizeof *out) != 0)
            return lq_fail(LQ_EUNSUPPORTED,
                           "key %s differs between layers, which is not supported yet", kv->key);
    return LQ_OK;
}

static lq_status get_size(const reader *r, const char *name, bool required, int64_t n_layer,
                          int64_t *out) {
    char key[KEY_BYTES];
    uint32_t v = (uint32_t)*out;
    const lq_gguf_kv *kv = lq_gguf_find(r->file, key_of(key, r, name));
    if (kv && kv->type == LQ_GGUF_ARRAY && n_layer)
        LQ_TRY(get_uniform(kv, n_layer, &v));
    else
        LQ_TRY(lq_gguf_get_u32(r->file, key, required, &v));
    if (kv && (v == 0 || v > MAX_SIZE))
        return lq_fail(LQ_EFORMAT, "key %s is %u, must be from 1 to %d", key, (unsigned)v,
                       MAX_SIZE);
    *out = v;
    return LQ_OK;
}

/* In reading order: n_layer comes before the keys that may be lists. */
static const struct { const char *name; size_t offset; bool required, per_layer; } sizes[] = {
    {"context_length", offsetof(lq_hparams, n_ctx_train), true, false},
    {"embedding_length", offsetof(lq_hparams, n_embd), true, false},
    {"block_count", offsetof(lq_hparams, n_layer), true, false},
    {"feed_forward_length", offsetof(lq_hparams, n_ff), true, true},
    {"attention.head_count", offsetof(lq_hparams, n_head), true, true},
};

static lq_status read_sizes(lq_hparams *hp, const reader *r) {
    for (int i = 0; i < LQ_ARRAY_LEN(sizes); i++) {
        int64_t *const field = (int64_t *)((char *)hp + sizes[i].offset);
        LQ_TRY(get_size(r, sizes[i].name, sizes[i].required, sizes[i].per_layer ? hp->n_layer : 0,
                        field));
    }
    if (hp->n_layer > LQ_MAX_LAYERS)
        return lq_fail(LQ_EFORMAT, "key %s.block_count is %lld, must be from 1 to %d",
                       r->arch->name, (long long)hp->n_layer, LQ_MAX_LAYERS);
    hp->n_head_kv = hp->n_head;
    LQ_TRY(get_size(r, "attention.head_count_kv", false, hp->n_layer, &hp->n_head_kv));
    if (hp->n_head % hp->n_head_kv)
        return lq_fail(LQ_EFORMAT, "%lld attention heads cannot share %lld key/value heads",
                       (long long)hp->n_head, (long long)hp->n_head_kv);
    return LQ_OK;
}

static lq_status read_head_sizes(lq_hparams *hp, const reader *r) {
    int64_t value = hp->n_embd / hp->n_head;
    hp->head_dim = value;
    LQ_TRY(get_size(r, "attention.key_length", false, 0, &hp->head_dim));
    LQ_TRY(get_size(r, "attention.value_length", false, 0, &value));
    hp->n_rot = hp->head_dim;
    LQ_TRY(get_size(r, "rope.dimension_count", false, 0, &hp->n_rot));
    if (value != hp->head_dim)
        return lq_fail(LQ_EUNSUPPORTED,
                       "attention.key_length is %lld and value_length %lld: they must be equal",
                       (long long)hp->head_dim, (long long)value);
    const bool fits = hp->n_rot == hp->head_dim ||
                      (r->arch->partial_rotary && hp->n_rot < hp->head_dim);
    if (!r->arch->no_rope && (!fits || hp->n_rot % 2))
        return lq_fail(LQ_EUNSUPPORTED,
                       "rope.dimension_count is %lld, must be %sthe head size %lld, an even number",
                       (long long)hp->n_rot, r->arch->partial_rotary ? "up to " : "",
                       (long long)hp->head_dim);
    return LQ_OK;
}

static bool has_role(const lq_arch *arch, lq_role role) {
    for (int i = 0; i < arch->n_slots; i++)
        if (arch->slot[i].role == role) return true;
    return false;
}

/* The length of queries and keys grows with the factor. llama.cpp's other knobs are refused. */
static lq_status read_yarn(lq_hparams *hp, const reader *r, float factor) {
    char key[KEY_BYTES];
    float extrapolate = 1, log_multiplier = 0;
    hp->yarn_beta_fast = 32;
    hp->yarn_beta_slow = 1;
    LQ_TRY(get_f32(r, "rope.scaling.yarn_beta_fast", false, &hp->yarn_beta_fast));
    LQ_TRY(get_f32(r, "rope.scaling.yarn_beta_slow", false, &hp->yarn_beta_slow));
    LQ_TRY(get_f32(r, "rope.scaling.yarn_log_multiplier", false, &log_multiplier));
    LQ_TRY(get_f32(r, "rope.scaling.yarn_ext_factor", false, &extrapolate));
    if (extrapolate != 1 || log_multiplier != 0 || r->arch->local_period ||
        has_role(r->arch, LQ_ROLE_ROPE_LONG))
        return lq_fail(LQ_EUNSUPPORTED,
                       "key %s is 'yarn', with its extra factors or in %s not supported yet",
                       key_of(key, r, "rope.scaling.type"), r->arch->name);
    if (!(factor >= 1 && hp->yarn_beta_fast > 0 && hp->yarn_beta_slow > 0 &&
          hp->rope_freq_base > 1))
        return lq_fail(LQ_EFORMAT, "YaRN's factor is %g (1 or more), its betas are %g and %g (> 0)",
                       (double)factor, (double)hp->yarn_beta_fast, (double)hp->yarn_beta_slow);
    hp->yarn_factor = factor;
    hp->rope_attn_factor *= 1 + 0.1F * logf(factor);
    return LQ_OK;
}

/* linear: positions are divided by the factor, 0 meaning none. The scalings of llama3 and longrope
 * are tensors. */
static lq_status read_rope(lq_hparams *hp, const reader *r) {
    char key[KEY_BYTES];
    char *type = NULL;
    float factor = 0;
    hp->rope_freq_base = 10000;
    hp->rope_attn_factor = 1;
    LQ_TRY(get_f32(r, "rope.freq_base", false, &hp->rope_freq_base));
    LQ_TRY(get_f32(r, "rope.scaling.attn_factor", false, &hp->rope_attn_factor));
    LQ_TRY(get_f32(r, "rope.scale_linear", false, &factor));  /* the key's old name */
    LQ_TRY(get_f32(r, "rope.scaling.factor", false, &factor));
    LQ_TRY(lq_gguf_get_string(r->file, key_of(key, r, "rope.scaling.type"), false, &type));
    lq_status status = LQ_OK;
    const bool linear = !type || strcmp(type, "linear") == 0;
    const bool tensors =
        type && strcmp(type, "longrope") == 0 && has_role(r->arch, LQ_ROLE_ROPE_LONG);
    const bool yarn = type && strcmp(type, "yarn") == 0;
    if (yarn)
        status = read_yarn(hp, r, factor);
    else if (!linear && !tensors && strcmp(type, "none") != 0)
        status = lq_fail(LQ_EUNSUPPORTED,
                         "key %s is '%s', which is not supported yet; supported: none, linear, "
                         "yarn, and llama3's rope_freqs.weight",
                         key, type);
    hp->rope_freq_scale = linear && factor > 0 ? 1 / factor : 1;
    lq_free(type);
    hp->n_ctx_orig = hp->n_ctx_train;
    if (status == LQ_OK)
        status = get_size(r, "rope.scaling.original_context_length", false, 0, &hp->n_ctx_orig);
    return status;
}

/* ---- attention within a window --------------------------------------------------------------- */

static void set_period(lq_hparams *hp, uint32_t period) {
    for (int64_t i = 0; i < hp->n_layer; i++)
        hp->local[i] = period == 0 || i % period < (int64_t)period - 1;
}

/* The pattern: a period, or a flag for each layer. */
static lq_status read_pattern(lq_hparams *hp, const reader *r) {
    char key[KEY_BYTES];
    uint32_t period = (uint32_t)r->arch->local_period;
    const lq_gguf_kv *kv =
        lq_gguf_find(r->file, key_of(key, r, "attention.sliding_window_pattern"));
    if (!kv || kv->type != LQ_GGUF_ARRAY) {
        LQ_TRY(lq_gguf_get_u32(r->file, key, false, &period));
        set_period(hp, period);
        return LQ_OK;
    }
    if (kv->elem != LQ_GGUF_BOOL || kv->n != (uint64_t)hp->n_layer)
        return lq_fail(LQ_EFORMAT, "key %s must have one u32 or a flag for each of the %lld layers",
                       key, (long long)hp->n_layer);
    for (int64_t i = 0; i < hp->n_layer; i++) hp->local[i] = ((const uint8_t *)kv->data)[i] != 0;
    return LQ_OK;
}

static lq_status read_window(lq_hparams *hp, const reader *r) {
    char key[KEY_BYTES];
    uint32_t window = (uint32_t)r->arch->window;
    if (!r->arch->local_period) return LQ_OK;
    LQ_TRY(lq_gguf_get_u32(r->file, key_of(key, r, "attention.sliding_window"), false, &window));
    hp->local_freq_base =
        r->arch->local_freq_base > 0 ? r->arch->local_freq_base : hp->rope_freq_base;
    hp->local_freq_scale = r->arch->local_scales_rope ? hp->rope_freq_scale : 1;
    LQ_TRY(get_f32(r, "rope.freq_base_swa", false, &hp->local_freq_base));
    if (window > MAX_SIZE)
        return lq_fail(LQ_EFORMAT, "key %s is %u, must be up to %d", key, (unsigned)window,
                       MAX_SIZE);
    hp->sliding_window = window;
    return window ? read_pattern(hp, r) : LQ_OK;
}

/* ---- scales and caps ------------------------------------------------------------------------- */

/* Granite's rotary embedding can be switched off by the key of another thing. */
static lq_status read_granite_scales(lq_hparams *hp, const reader *r) {
    char key[KEY_BYTES];
    bool rotary = true;
    LQ_TRY(lq_gguf_get_bool(r->file, key_of(key, r, "rope.scaling.finetuned"), false, &rotary));
    if (!rotary)
        return lq_fail(LQ_EUNSUPPORTED, "key %s is false: no RoPE, which is not supported yet",
                       key);
    LQ_TRY(get_f32(r, "embedding_scale", false, &hp->embed_scale));
    LQ_TRY(get_f32(r, "residual_scale", false, &hp->residual_scale));
    LQ_TRY(get_f32(r, "attention.scale", false, &hp->attn_scale));
    return get_f32(r, "logit_scale", true, &hp->logit_scale);
}

static lq_status check_scale(const char *name, float value, bool may_be_none) {
    if (isfinite(value) && (value > 0 || (may_be_none && !(value < 0)))) return LQ_OK;
    return lq_fail(LQ_EFORMAT, "the %s is %g, wanted a positive number", name, (double)value);
}

static lq_status check_scales(const lq_hparams *hp) {
    LQ_TRY(check_scale("scale of embeddings", hp->embed_scale, false));
    LQ_TRY(check_scale("scale of residuals", hp->residual_scale, false));
    LQ_TRY(check_scale("scale of attention", hp->attn_scale, false));
    LQ_TRY(check_scale("scale of logits", hp->logit_scale, false));
    LQ_TRY(check_scale("soft cap of attention", hp->attn_softcap, true));
    LQ_TRY(check_scale("soft cap of logits", hp->final_softcap, true));
    LQ_TRY(check_scale("limit of q, k and v", hp->clamp_qkv, true));
    return check_scale("largest ALiBi bias", hp->alibi, true);
}

static lq_status read_scales(lq_hparams *hp, const reader *r) {
    const lq_arch *arch = r->arch;
    const bool wide = arch->wide_query_layers && hp->n_layer == arch->wide_query_layers;
    hp->attn_scale = 1 / sqrtf((float)(wide ? hp->n_embd / hp->n_head : hp->head_dim));
    hp->embed_scale = arch->scales_embedding ? sqrtf((float)hp->n_embd) : 1;
    hp->attn_softcap = arch->attn_softcap;
    hp->final_softcap = arch->final_softcap;
    if (arch->attn_softcap > 0)
        LQ_TRY(get_f32(r, "attn_logit_softcapping", false, &hp->attn_softcap));
    if (arch->reads_final_softcap)
        LQ_TRY(get_f32(r, "final_logit_softcapping", false, &hp->final_softcap));
    hp->residual_scale = hp->logit_scale = 1;
    if (arch->granite_scales) LQ_TRY(read_granite_scales(hp, r));
    if (arch->alibi) {
        LQ_TRY(get_f32(r, "attention.clamp_kqv", false, &hp->clamp_qkv));
        LQ_TRY(get_f32(r, "attention.max_alibi_bias", false, &hp->alibi));
    }
    return check_scales(hp);
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Keys of mixtures that no row of arch.c computes: what they would change must not be ignored. */
static lq_status refuse_other_mixtures(const reader *r) {
    static const char *const keys[] = {"expert_group_count", "expert_gating_func",
                                       "expert_weights_scale", "leading_dense_block_count"};
    char key[KEY_BYTES];
    for (int i = 0; i < LQ_ARRAY_LEN(keys); i++)
        if (lq_gguf_find(r->file, key_of(key, r, keys[i])))
            return lq_fail(LQ_EUNSUPPORTED,
                           "key %s: a mixture of experts of another kind than Mixtral's and "
                           "Qwen's, which is not supported yet", key);
    return LQ_OK;
}

static lq_status read_experts(lq_hparams *hp, const reader *r) {
    char key[KEY_BYTES];
    uint32_t n = 0;
    LQ_TRY(lq_gguf_get_u32(r->file, key_of(key, r, "expert_count"), false, &n));
    if (n > MAX_SIZE || (n > 0 && !has_role(r->arch, LQ_ROLE_ROUTER)))
        return lq_fail(LQ_EUNSUPPORTED, "key %s is %u: %s with experts is not supported", key,
                       (unsigned)n, r->arch->name);
    hp->n_expert = n;
    if (!n && has_role(r->arch, LQ_ROLE_EXPERTS_UP) && !has_role(r->arch, LQ_ROLE_FFN_UP))
        return lq_fail(LQ_EFORMAT, "key %s is missing or 0", key);
    if (!n) return LQ_OK;
    LQ_TRY(refuse_other_mixtures(r));
    LQ_TRY(get_size(r, "expert_used_count", true, 0, &hp->n_expert_used));
    if (hp->n_expert_used > hp->n_expert)
        return lq_fail(LQ_EFORMAT, "%lld of %lld experts cannot be used",
                       (long long)hp->n_expert_used, (long long)hp->n_expert);
    hp->n_ff_expert = hp->n_ff_shared = hp->n_ff;
    LQ_TRY(get_size(r, "expert_shared_feed_forward_length", false, 0, &hp->n_ff_shared));
    return get_size(r, "expert_feed_forward_length", false, hp->n_layer, &hp->n_ff_expert);
}

lq_status lq_hparams_read(lq_hparams *out, const lq_gguf *file, const lq_arch *arch) {
    const reader r = {file, arch};
    *out = (lq_hparams){0};
    LQ_TRY(read_sizes(out, &r));
    LQ_TRY(read_head_sizes(out, &r));
    LQ_TRY(read_experts(out, &r));
    LQ_TRY(get_f32(&r, arch->layer_norm ? "attention.layer_norm_epsilon"
                                        : "attention.layer_norm_rms_epsilon", true,
                   &out->norm_eps));
    LQ_TRY(read_rope(out, &r));
    LQ_TRY(read_window(out, &r));
    return read_scales(out, &r);
}
