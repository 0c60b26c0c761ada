/* Reads a vocabulary from GGUF metadata: model, pre-tokenizer, tokens, types, scores and flags,
 * each checked, with llama.cpp's defaults for what the file leaves out. */
#include "tokenizer_parts.h"

#include <ctype.h>
#include <string.h>

enum { MAX_TOKENS = INT32_MAX / 16 };

static lq_status find_model(lq_tokenizer *t, const lq_gguf *g) {
    static const lq_vocab_kind *const models[] = {&lq_spm, &lq_bpe};
    char *name = NULL;
    LQ_TRY(lq_gguf_get_string(g, "tokenizer.ggml.model", true, &name));
    for (int i = 0; i < LQ_ARRAY_LEN(models); i++)
        if (strcmp(models[i]->name, name) == 0) t->model = models[i];
    lq_status status = LQ_OK;
    if (!t->model)
        status = lq_fail(LQ_EUNSUPPORTED, "model '%s' is not supported, only 'llama' (SPM) and "
                         "'gpt2' (byte-level BPE) are", name);
    lq_free(name);
    return status;
}

/* Only BPE has one. */
static lq_status find_pre(lq_tokenizer *t, const lq_gguf *g) {
    if (t->model != &lq_bpe) return LQ_OK;
    char *name = NULL;
    LQ_TRY(lq_gguf_get_string(g, "tokenizer.ggml.pre", false, &name));
    if (!name || !*name)
        lq_log(LQ_LOG_WARN, "%s: tokenizer.ggml.pre is missing: 'default' is used, as in llama.cpp",
               lq_gguf_path(g));
    t->pre = lq_pre_find(name && *name ? name : "default");
    lq_status status = LQ_OK;
    if (!t->pre)
        status = lq_fail(LQ_EUNSUPPORTED, "pre-tokenizer '%s' (tokenizer.ggml.pre) is not known",
                         name);
    lq_free(name);
    return status;
}

static void set_defaults(lq_tokenizer *t) {
    const unsigned flags = t->pre ? t->pre->flags : 0;
    t->bos = flags & LQ_PRE_NO_BOS ? -1 : t->model->bos;
    t->eos = t->model->eos;
    t->eot = -1;
    t->unknown = t->model->unknown;
    t->add_bos = t->model->add_bos || (flags & LQ_PRE_ADD_BOS);
    t->space_prefix = t->model->space_prefix;
    t->clean_spaces = t->model->clean_spaces && !(flags & LQ_PRE_KEEP_SPACES);
}

/* An array with at least one element per token, or NULL when the key is absent. */
static lq_status per_token(const lq_gguf_kv **out, const lq_tokenizer *t, const lq_gguf *g,
                           const char *key) {
    const lq_gguf_kv *kv = *out = lq_gguf_find(g, key);
    if (!kv) return LQ_OK;
    if (kv->type != LQ_GGUF_ARRAY || (kv->elem != LQ_GGUF_I32 && kv->elem != LQ_GGUF_F32))
        return lq_fail(LQ_EFORMAT, "key %s must be an array of 32-bit numbers", key);
    if (kv->n < (uint64_t)t->n_vocab)
        return lq_fail(LQ_EFORMAT,
                       "key %s has %llu elements, must have one for each of the %d tokens", key,
                       (unsigned long long)kv->n, t->n_vocab);
    return LQ_OK;
}

static lq_status load_scores(lq_tokenizer *t, const lq_gguf *g) {
    const lq_gguf_kv *kv;
    LQ_TRY(per_token(&kv, t, g, "tokenizer.ggml.scores"));
    t->score = lq_alloc_array(t->n_vocab, sizeof *t->score);
    if (!t->score) return LQ_EMEM;
    for (int32_t i = 0; kv && i < t->n_vocab; i++) {
        int32_t whole;
        const char *at = (const char *)kv->data + 4 * (size_t)i;
        if (kv->elem == LQ_GGUF_F32) memcpy(&t->score[i], at, 4);
        else {
            memcpy(&whole, at, 4);
            t->score[i] = (float)whole;
        }
    }
    return LQ_OK;
}

static bool is_byte_name(const char *s, size_t n) {
    return n == 6 && memcmp(s, "<0x", 3) == 0 && isxdigit((unsigned char)s[3]) &&
           isxdigit((unsigned char)s[4]) && s[5] == '>';
}

/* 0 stands for a type that nothing is known of: its text is never shown. */
static lq_status load_types(lq_tokenizer *t, const lq_gguf *g) {
    const char *key = "tokenizer.ggml.token_type";
    const lq_gguf_kv *kv;
    LQ_TRY(per_token(&kv, t, g, key));
    if (kv && kv->elem != LQ_GGUF_I32)
        return lq_fail(LQ_EFORMAT, "key %s must be an array of i32", key);
    t->type = lq_alloc_array(t->n_vocab, sizeof *t->type);
    if (!t->type) return LQ_EMEM;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        int32_t type = LQ_TOKEN_NORMAL;
        if (kv) memcpy(&type, (const char *)kv->data + 4 * (size_t)i, 4);
        t->type[i] = (uint8_t)(type >= LQ_TOKEN_NORMAL && type <= LQ_TOKEN_BYTE ? type : 0);
        size_t n;
        const char *text = lq_intern_text(&t->strings, i, &n);
        if (type == LQ_TOKEN_BYTE && !is_byte_name(text, n))
            return lq_fail(LQ_EFORMAT,
                           "token %d is of type byte, but its text is '%s', must be like <0x0A>", i,
                           text);
    }
    return LQ_OK;
}

static lq_status add_token(lq_tokenizer *t, int32_t id, const lq_gguf_str *s) {
    int32_t number;
    char *name = s->n ? NULL : lq_sprintf("[EMPTY_%d]", id);
    if (!s->n && !name) return LQ_EMEM;
    const char *text = name ? name : s->s;
    const size_t n = name ? strlen(name) : s->n;
    lq_status status = lq_intern_add(&t->strings, text, n, &number);
    if (status == LQ_OK && number != id)
        status = lq_fail(LQ_EFORMAT, "tokens %d and %d are both '%s', all must differ", number, id,
                         lq_token_text(t, number));
    if ((int64_t)n > t->longest) t->longest = n < INT32_MAX ? (int)n : INT32_MAX;
    lq_free(name);
    return status;
}

static lq_status load_tokens(lq_tokenizer *t, const lq_gguf *g) {
    const char *key = "tokenizer.ggml.tokens";
    const lq_gguf_kv *kv = lq_gguf_find(g, key);
    if (!kv) return lq_fail(LQ_EFORMAT, "key %s is missing", key);
    if (kv->type != LQ_GGUF_ARRAY || kv->elem != LQ_GGUF_STRING)
        return lq_fail(LQ_EFORMAT, "key %s must be an array of strings", key);
    if (!kv->n || kv->n > MAX_TOKENS)
        return lq_fail(LQ_EFORMAT, "key %s has %llu tokens, must have 1 to %d", key,
                       (unsigned long long)kv->n, MAX_TOKENS);
    const lq_gguf_str *token = kv->data;
    for (int32_t id = 0; id < (int32_t)kv->n; id++) LQ_TRY(add_token(t, id, &token[id]));
    t->n_vocab = (int32_t)kv->n;
    return LQ_OK;
}

static lq_status load_flags(lq_tokenizer *t, const lq_gguf *g) {
    LQ_TRY(lq_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", false, &t->add_bos));
    LQ_TRY(lq_gguf_get_bool(g, "tokenizer.ggml.add_eos_token", false, &t->add_eos));
    LQ_TRY(lq_gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", false, &t->space_prefix));
    return lq_gguf_get_string(g, "tokenizer.chat_template", false, &t->chat_template);
}

lq_status lq_tokenizer_load_vocab(lq_tokenizer *t, const lq_gguf *g) {
    LQ_TRY(find_model(t, g));
    LQ_TRY(find_pre(t, g));
    set_defaults(t);
    LQ_TRY(load_tokens(t, g));
    LQ_TRY(load_types(t, g));
    LQ_TRY(load_scores(t, g));
    return load_flags(t, g);
}
