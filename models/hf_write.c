/* What lies beside the weights of a Hugging Face directory, written anew: config.json and the
 * tokenizer's files are the base directory's; from a GGUF, config.json is made of its keys. */
#include "hf_parts.h"

#include "arch.h"
#include "atomic_file.h"
#include "json_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 96 };

/* ---- from a directory ------------------------------------------------------------------------ */

static lq_status copy_file(const char *from, const char *to, const char *name) {
    char *source = lq_path_join(from, name), *target = lq_path_join(to, name), *text = NULL;
    size_t n = 0;
    lq_status status = source && target ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK && lq_file_exists(source)) {
        status = lq_read_file(&text, &n, source);
        if (status == LQ_OK) status = lq_write_file(target, text, n);
    }
    lq_free(text);
    lq_free(source);
    lq_free(target);
    return status;
}

static lq_status copy_files(const char *from, const char *to) {
    static const char *const names[] = {
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "vocab.json", "merges.txt", "tekken.json", "chat_template.jinja",
        "chat_template.json", "generation_config.json"};
    for (int i = 0; i < LQ_ARRAY_LEN(names); i++) LQ_TRY(copy_file(from, to, names[i]));
    return LQ_OK;
}

/* The base's, of the text part where the model is a larger one's. */
static lq_status config_of_dir(json_t **out, const lq_hf_family *f, const char *dir) {
    json_t *root, *text;
    LQ_TRY(lq_json_read(&root, dir, "config.json", true));
    text = json_object_get(root, "text_config");
    *out = json_deep_copy(text ? text : root);
    if (text)
        json_object_set_new(*out, "architectures", json_pack("[s]", f->class));
    json_decref(root);
    return *out ? LQ_OK : lq_fail(LQ_EMEM, "%s/config.json: out of memory", dir);
}

/* ---- from a GGUF ----------------------------------------------------------------------------- */

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
    } else {
        LQ_TRY(lq_gguf_get_u32(m->file, key, true, &whole));
        set(root, k->names, json_integer(whole));
    }
    return LQ_OK;
}

static void set_rope(json_t *root, const lq_model *m) {
    const lq_hparams *hp = &m->hp;
    json_object_set_new(root, "rope_theta", shortest(hp->rope_freq_base));
    if (hp->rope_freq_scale != 1)
        json_object_set_new(root, "rope_scaling",
                            json_pack("{s:s, s:s, s:o}", "rope_type", "linear", "type", "linear",
                                      "factor", shortest(1 / hp->rope_freq_scale)));
}

static void set_tokens(json_t *root, const lq_tokenizer *t) {
    if (!t) return;
    if (lq_tokenizer_bos(t) >= 0)
        json_object_set_new(root, "bos_token_id", json_integer(lq_tokenizer_bos(t)));
    if (lq_tokenizer_eos(t) >= 0)
        json_object_set_new(root, "eos_token_id", json_integer(lq_tokenizer_eos(t)));
}

static lq_status config_of_gguf(json_t **out, const lq_hf_family *f, const lq_model *m) {
    if (!f->model_type)
        return lq_fail(LQ_EUNSUPPORTED, "a config.json for architecture %s cannot be made from a "
                       "GGUF; start from the Hugging Face directory", f->arch);
    if (lq_model_find(m, LQ_ROLE_ROPE_FREQS, -1, false) >= 0)
        return lq_fail(LQ_EUNSUPPORTED, "%s: its rope factors (rope_freqs.weight) cannot be said "
                       "in config.json; start from the Hugging Face directory",
                       lq_gguf_path(m->file));
    json_t *root = json_pack("{s:[s], s:s, s:b, s:I, s:b, s:b, s:I}", "architectures", f->class,
                             "model_type", f->model_type, "tie_word_embeddings", (int)m->tied,
                             "vocab_size", (json_int_t)m->hp.n_vocab, "attention_bias",
                             lq_model_find(m, LQ_ROLE_ATTN_Q, 0, true) >= 0, "mlp_bias",
                             lq_model_find(m, LQ_ROLE_FFN_UP, 0, true) >= 0, "num_key_value_heads",
                             (json_int_t)m->hp.n_head_kv);
    if (!root) return lq_fail(LQ_EMEM, "config.json: out of memory");
    set(root, "hidden_act", json_stringn(f->acts, strcspn(f->acts, " ")));
    set_rope(root, m);
    set_tokens(root, m->tokenizer);
    lq_status status = LQ_OK;
    for (int i = 0; status == LQ_OK && i < f->n_keys; i++)
        status = set_key(root, m, f, &f->key[i]);
    if (status == LQ_OK) *out = root;
    else json_decref(root);
    return status;
}

/* ---- either ---------------------------------------------------------------------------------- */

static lq_status write_config(json_t *root, const lq_format *type, const char *dir) {
    static const struct { const lq_format *fmt; const char *name; } names[] = {
        {&lq_f32, "float32"}, {&lq_f16, "float16"}, {&lq_bf16, "bfloat16"}};
    char *path = lq_path_join(dir, "config.json");
    for (int i = 0; i < LQ_ARRAY_LEN(names); i++)
        if (names[i].fmt == type)
            json_object_set_new(root, "torch_dtype", json_string(names[i].name));
    json_object_del(root, "dtype");   /* the newer name of the same */
    lq_status status = LQ_EMEM;
    if (path) status = lq_json_write(path, root);
    else json_decref(root);
    lq_free(path);
    return status;
}

lq_status lq_hf_write_files(const lq_model *m, const lq_format *type, const char *dir) {
    const lq_hf_family *f = lq_hf_family_of(m->arch->name);
    const char *base = lq_gguf_path(m->file);
    json_t *root = NULL;
    if (!f)
        return lq_fail(LQ_EUNSUPPORTED, "Hugging Face's names of architecture %s are not known",
                       m->arch->name);
    if (f->grouped && lq_model_find(m, LQ_ROLE_ATTN_NORM_2, 0, false) >= 0)
        return lq_fail(LQ_EUNSUPPORTED, "%s: a Falcon with two norms in a block cannot be written "
                       "as a Hugging Face directory yet; write a GGUF", base);
    if (lq_hf_is_dir(base)) {
        LQ_TRY(config_of_dir(&root, f, base));
        LQ_TRY(write_config(root, type, dir));
        return copy_files(base, dir);
    }
    LQ_TRY(config_of_gguf(&root, f, m));
    lq_log(LQ_LOG_WARN, "%s: tokenizer files are not written, the base is a GGUF", dir);
    return write_config(root, type, dir);
}
