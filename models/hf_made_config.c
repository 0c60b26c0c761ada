/* config.json of a model that came as a GGUF: its keys become numbers again by the table that they
 * are read with, and what no key says is the architecture's. What was made is then read as any
 * config.json is, and must mean the same hyper-parameters: what it cannot say is refused by
 * name. */
#include "hf_parts.h"

#include "arch.h"
#include "model_parts.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 96, LLAMA3_LOW = 1, LLAMA3_HIGH = 4 };

/* ---- numbers --------------------------------------------------------------------------------- */

/* The first of the names that a key is read from. */
static void set(json_t *root, const char *names, json_t *value) {
    char name[KEY_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(names, " "), names);
    json_object_set_new(root, name, value);
}

/* A float as the shortest decimal that gives it back, so that 1e-5f is 1e-05. */
static json_t *shortest(float x) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        double back;
        if (sscanf(text, "%lf", &back) == 1 && (float)back == x) return json_real(back);
    }
    return json_real((double)x);
}

static lq_status set_key(json_t *root, const lq_model *m, const lq_hf_family *f,
                         const lq_hf_key *k) {
    char key[KEY_BYTES];
    uint32_t whole = 0;
    float real = 0;
    snprintf(key, sizeof key, "%s.%s", f->arch, k->key);
    if (!lq_gguf_find(m->file, key)) return LQ_OK;
    if (k->type == LQ_GGUF_F32) {
        LQ_TRY(lq_gguf_get_f32(m->file, key, true, &real));
        set(root, k->names, shortest(real));
    } else if (lq_gguf_find(m->file, key)->type != LQ_GGUF_ARRAY) {
        LQ_TRY(lq_gguf_get_u32(m->file, key, true, &whole));
        set(root, k->names, json_integer(whole));
    }
    return LQ_OK;
}

/* Numbers that a GGUF may leave to a rule, where the family's config.json has them. */
static void set_sizes(json_t *root, const lq_model *m, const lq_hf_family *f) {
    const struct { const char *key; int64_t value; } sizes[] = {
        {"attention.head_count_kv", m->hp.n_head_kv},
        {"attention.head_count", m->hp.n_head},
        {"attention.key_length", m->hp.head_dim},
        {"feed_forward_length", m->hp.n_ff},
        {"attention.sliding_window", m->hp.sliding_window},
    };
    for (int i = 0; i < f->n_keys; i++)
        for (int k = 0; k < LQ_ARRAY_LEN(sizes); k++)
            if (strcmp(f->key[i].key, sizes[k].key) == 0 && sizes[k].value)
                set(root, f->key[i].names, json_integer(sizes[k].value));
}

static json_t *token_id(const lq_gguf *file, const char *key) {
    uint32_t id = 0;
    if (!lq_gguf_find(file, key) || lq_gguf_get_u32(file, key, true, &id) != LQ_OK)
        return json_null();   /* transformers would take a number of its own */
    return json_integer(id);
}

static void set_tokens(json_t *root, const lq_gguf *file) {
    json_object_set_new(root, "bos_token_id", token_id(file, "tokenizer.ggml.bos_token_id"));
    json_object_set_new(root, "eos_token_id", token_id(file, "tokenizer.ggml.eos_token_id"));
    json_object_set_new(root, "pad_token_id", token_id(file, "tokenizer.ggml.padding_token_id"));
}

/* ---- rotary positions ------------------------------------------------------------------------ */

static const lq_weight *table(const lq_model *m, lq_role role) {
    const int i = lq_model_find(m, role, -1, false);
    return i < 0 ? NULL : &m->weight[i];
}

/* The context that llama3's factors were made for: between the pairs that are left alone and those
 * that are slowed down by all of `factor`; a pair between them gives it. */
static double llama3_context(const lq_model *m, const lq_weight *freqs, double factor) {
    const double n = (double)freqs->cols;
    double below = 0, above = 0;
    for (int64_t i = 0; i < freqs->cols; i++) {
        const double x = (double)((const float *)freqs->data)[i];
        const double wave = 2 * acos(-1) * pow((double)m->hp.rope_freq_base, (double)i / n);
        const double smooth = (1 / x - 1 / factor) / (1 - 1 / factor);   /* 1 to 0 */
        if (smooth > 0.999) below = wave * LLAMA3_HIGH;
        else if (smooth > 0.001)
            return round(wave * (LLAMA3_LOW + smooth * (LLAMA3_HIGH - LLAMA3_LOW)));
        else if (above == 0) above = wave * LLAMA3_LOW;
    }
    return below > 0 && above > 0 ? round(sqrt(below * above)) : 8192;
}

/* llama3's parameters from its factors: the largest is the factor. Every model has the same two
 * others; reading it back shows whether this one does. */
static json_t *llama3(const lq_model *m, const lq_weight *freqs) {
    const float *x = freqs->data;
    float factor = 1;
    for (int64_t i = 0; i < freqs->cols; i++) factor = fmaxf(factor, x[i]);
    return json_pack("{s:s, s:o, s:f, s:f, s:I}", "rope_type", "llama3", "factor", shortest(factor),
                     "low_freq_factor", (double)LLAMA3_LOW, "high_freq_factor",
                     (double)LLAMA3_HIGH, "original_max_position_embeddings",
                     (json_int_t)llama3_context(m, freqs, (double)factor));
}

static json_t *numbers(const lq_weight *w) {
    json_t *list = json_array();
    for (int64_t i = 0; i < w->cols; i++)
        json_array_append_new(list, shortest(((const float *)w->data)[i]));
    return list;
}

static void set_rope(json_t *root, const lq_model *m) {
    const lq_hparams *hp = &m->hp;
    const lq_weight *freqs = table(m, LQ_ROLE_ROPE_FREQS);
    const lq_weight *longer = table(m, LQ_ROLE_ROPE_LONG), *shorter = table(m, LQ_ROLE_ROPE_SHORT);
    if (m->arch->no_rope) return;
    json_object_set_new(root, "rope_theta", shortest(hp->rope_freq_base));
    if (hp->rope_freq_scale != 1)
        json_object_set_new(root, "rope_scaling",
                            json_pack("{s:s, s:s, s:o}", "rope_type", "linear", "type", "linear",
                                      "factor", shortest(1 / hp->rope_freq_scale)));
    if (freqs) json_object_set_new(root, "rope_scaling", llama3(m, freqs));
    if (longer && shorter)
        json_object_set_new(root, "rope_scaling",
                            json_pack("{s:s, s:s, s:o, s:o}", "rope_type", "longrope", "type",
                                      "longrope", "long_factor", numbers(longer), "short_factor",
                                      numbers(shorter)));
    if (m->arch->partial_rotary)
        json_object_set_new(root, "partial_rotary_factor",
                            json_real((double)hp->n_rot / (double)hp->head_dim));
}

/* ---- what no key says ------------------------------------------------------------------------ */

static void say_gemma(json_t *root, const lq_model *m) {
    const float scale = m->hp.attn_scale;   /* 1/sqrt of a whole number */
    json_object_set(root, "hidden_activation", json_object_get(root, "hidden_act"));
    json_object_set_new(root, "query_pre_attn_scalar",
                        json_integer(lrintf(1 / (scale * scale))));
}

/* Every n-th layer sees everything. */
static void say_layers(json_t *root, const lq_model *m) {
    json_t *list = json_array();
    for (int64_t i = 0; i < m->hp.n_layer; i++)
        json_array_append_new(list, json_string(m->hp.local[i] ? "sliding_attention"
                                                               : "full_attention"));
    json_object_set_new(root, "layer_types", list);
    say_gemma(root, m);
}

static void say_gemma3(json_t *root, const lq_model *m) {
    json_object_set_new(root, "rope_local_base_freq", shortest(m->hp.local_freq_base));
    say_layers(root, m);
}

static void say_phi3(json_t *root, const lq_model *m) {
    json_object_set_new(root, "original_max_position_embeddings", json_integer(m->hp.n_ctx_orig));
    if (!m->hp.sliding_window) json_object_set_new(root, "sliding_window", json_null());
}

static void say_smollm3(json_t *root, const lq_model *m) {
    json_t *list = json_array();
    for (int64_t i = 0; i < m->hp.n_layer; i++)
        json_array_append_new(list, json_integer((i + 1) % m->arch->rope_period != 0));
    json_object_set_new(root, "no_rope_layers", list);
    json_object_set_new(root, "no_rope_layer_interval", json_integer(m->arch->rope_period));
}

static void say_stablelm(json_t *root, const lq_model *m) {
    json_object_set_new(root, "use_qkv_bias",
                        json_boolean(lq_model_find(m, LQ_ROLE_ATTN_Q, 0, true) >= 0));
    json_object_set_new(root, "qk_layernorm",
                        json_boolean(lq_model_find(m, LQ_ROLE_ATTN_Q_NORM, 0, false) >= 0));
    json_object_set_new(root, "use_parallel_residual",
                        json_boolean(lq_model_find(m, LQ_ROLE_FFN_NORM, 0, false) < 0));
}

static void say_gpt2(json_t *root, const lq_model *m) {
    json_object_set(root, "activation_function", json_object_get(root, "hidden_act"));
    json_object_set_new(root, "n_positions", json_integer(m->hp.n_ctx_train));
}

static void say_experts(json_t *root, const lq_model *m) {
    json_object_set_new(root, "norm_topk_prob", json_boolean(m->arch->normalises_shares));
    json_object_set_new(root, "decoder_sparse_step", json_integer(1));
    json_object_set_new(root, "mlp_only_layers", json_array());
    json_object_set_new(root, "moe_intermediate_size", json_integer(m->hp.n_ff_expert));
    if (lq_model_find(m, LQ_ROLE_SHARED_UP, 0, false) >= 0)
        json_object_set_new(root, "shared_expert_intermediate_size",
                            json_integer(m->hp.n_ff_shared));
}

static const struct {
    const char *arch;
    void (*say)(json_t *root, const lq_model *m);
    lq_status (*check)(const lq_model *m);   /* may be NULL */
} more[] = {
    {"gemma", say_gemma, NULL},
    {"gemma2", say_layers, NULL},
    {"gemma3", say_gemma3, NULL},
    {"phi3", say_phi3, NULL},
    {"smollm3", say_smollm3, NULL},
    {"stablelm", say_stablelm, NULL},
    {"gpt2", say_gpt2, NULL},
    {"qwen2moe", say_experts, NULL},
    {"qwen3moe", say_experts, NULL},
    {"falcon", lq_hf_say_falcon, NULL},
    {"mpt", lq_hf_say_mpt, lq_hf_check_mpt},
};

/* ---- is it the same model? ------------------------------------------------------------------- */

#define WHOLE(field) {#field, offsetof(lq_hparams, field), true}
#define REAL(field) {#field, offsetof(lq_hparams, field), false}

static const struct { const char *name; size_t offset; bool whole; } fields[] = {
    WHOLE(n_embd), WHOLE(n_layer), WHOLE(n_head), WHOLE(n_head_kv), WHOLE(head_dim), WHOLE(n_ff),
    WHOLE(n_ctx_train), WHOLE(n_rot), WHOLE(n_expert), WHOLE(n_expert_used), WHOLE(n_ff_expert),
    WHOLE(n_ff_shared), WHOLE(n_ctx_orig), WHOLE(sliding_window), REAL(norm_eps),
    REAL(rope_freq_base), REAL(rope_freq_scale), REAL(rope_attn_factor), REAL(yarn_factor),
    REAL(attn_softcap), REAL(final_softcap), REAL(embed_scale), REAL(attn_scale),
    REAL(residual_scale), REAL(logit_scale), REAL(clamp_qkv), REAL(alibi), REAL(local_freq_base),
    REAL(local_freq_scale)};

static double field_of(const lq_hparams *hp, int i) {
    const char *at = (const char *)hp + fields[i].offset;
    return fields[i].whole ? (double)*(const int64_t *)at : (double)*(const float *)at;
}

static lq_status compare_hparams(const lq_hparams *made, const lq_hparams *hp) {
    for (int i = 0; i < LQ_ARRAY_LEN(fields); i++) {
        const double a = field_of(made, i), b = field_of(hp, i);
        if (!(fabs(a - b) <= 1e-6 * fabs(b)))
            return lq_fail(LQ_EUNSUPPORTED, "%s is %g, read back from config.json it is %g",
                           fields[i].name, b, a);
    }
    for (int64_t i = 0; i < hp->n_layer; i++)
        if (hp->sliding_window && made->local[i] != hp->local[i])
            return lq_fail(LQ_EUNSUPPORTED, "which layers attend within the window differs from "
                           "layer %lld on", (long long)i);
    return LQ_OK;
}

static lq_status compare_factors(const lq_hf_config *c, const lq_model *m) {
    const lq_weight *freqs = table(m, LQ_ROLE_ROPE_FREQS);
    float *made = NULL;
    int64_t n = 0;
    if (!freqs) return LQ_OK;
    LQ_TRY(lq_hf_rope_factors(&made, &n, c));
    lq_status status = LQ_OK;
    for (int64_t i = 0; status == LQ_OK && i < freqs->cols; i++)
        if (!made || n != freqs->cols ||
            fabsf(made[i] - ((const float *)freqs->data)[i]) > 1e-4F * fabsf(made[i]))
            status = lq_fail(LQ_EUNSUPPORTED, "rope_freqs.weight is not what llama3's rule gives");
    lq_free(made);
    return status;
}

/* The keys that the made config.json stands for. */
static lq_status read_back(lq_gguf **out, lq_hf_config *c, const lq_hf_family *f) {
    lq_gguf_writer *w = NULL;
    lq_status status = LQ_OK;
    lq_gguf_assembly a = {.path = "config.json", .hash_keys = true};
    LQ_GOTO(status, lq_gguf_writer_new(&w));
    LQ_GOTO(status, lq_gguf_writer_set_string(w, "general.architecture", f->arch));
    LQ_GOTO(status, lq_hf_config_write(c, f, w));
    a.keys = w;
    status = lq_gguf_assemble(out, &a);
done:
    lq_gguf_writer_free(w);
    return status;
}

static lq_status check(json_t *root, const lq_hf_family *f, const lq_model *m) {
    lq_hf_config c;
    lq_hparams made;
    lq_gguf *file = NULL;
    lq_status status = LQ_OK;
    LQ_TRY(lq_hf_config_of(&c, json_incref(root), "config.json"));
    LQ_GOTO(status, read_back(&file, &c, f));
    LQ_GOTO(status, lq_hparams_read(&made, file, m->arch));
    LQ_GOTO(status, compare_hparams(&made, &m->hp));
    status = compare_factors(&c, m);
done:
    lq_gguf_close(file);
    lq_hf_config_clear(&c);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static lq_status fill(json_t *root, const lq_hf_family *f, const lq_model *m) {
    set(root, "hidden_act", json_stringn(f->acts, strcspn(f->acts, " ")));
    for (int i = 0; i < f->n_keys; i++) LQ_TRY(set_key(root, m, f, &f->key[i]));
    set_sizes(root, m, f);
    set_rope(root, m);
    set_tokens(root, m->file);
    lq_status status = LQ_OK;
    for (int i = 0; i < LQ_ARRAY_LEN(more); i++) {
        if (strcmp(more[i].arch, f->arch) != 0) continue;
        more[i].say(root, m);
        if (more[i].check) status = more[i].check(m);
    }
    if (status == LQ_OK) status = check(root, f, m);
    return status == LQ_OK ? LQ_OK
                           : lq_fail_context(status, "%s: no config.json can be made of it; start "
                                             "from the Hugging Face directory: ",
                                             lq_gguf_path(m->file));
}

lq_status lq_hf_config_make(json_t **out, const lq_model *m) {
    const lq_hf_family *f = lq_hf_family_for(m);
    json_t *root = json_pack("{s:[s], s:s, s:b, s:I, s:b, s:b}", "architectures", f->class,
                             "model_type", f->model_type, "tie_word_embeddings", (int)m->tied,
                             "vocab_size", (json_int_t)m->hp.n_vocab, "attention_bias",
                             lq_model_find(m, LQ_ROLE_ATTN_Q, 0, true) >= 0, "mlp_bias",
                             lq_model_find(m, LQ_ROLE_FFN_UP, 0, true) >= 0);
    if (!root) return lq_fail(LQ_EMEM, "config.json: out of memory");
    const lq_status status = fill(root, f, m);
    if (status == LQ_OK) *out = root;
    else json_decref(root);
    return status;
}
