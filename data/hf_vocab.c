/* The vocabulary that Hugging Face tokenizer files are read into, and its way into GGUF metadata.
 * See hf_vocab.h. */
#include "hf_vocab.h"

#include "tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 24 };

static const float added_score = -1000, unused_score = -10000;

void lq_hf_vocab_clear(lq_hf_vocab *v) {
    lq_str_clear(&v->bytes);
    lq_free(v->token);
    lq_free(v->merge);
    *v = (lq_hf_vocab)LQ_HF_VOCAB_INIT;
}

static lq_status grow(lq_hf_vocab *v, int64_t n) {
    LQ_TRY(lq_reserve((void **)&v->token, &v->cap, n, sizeof *v->token));
    while (v->n < n) v->token[v->n++] = (lq_hf_token){{0, 0}, 0, 0};
    return LQ_OK;
}

lq_status lq_hf_vocab_set(lq_hf_vocab *v, int64_t id, const char *text, size_t n, float score,
                          int type) {
    if (id < 0 || id >= MAX_TOKENS)
        return lq_fail(LQ_EFORMAT, "token '%.60s' has id %lld, must be 0 to %d", text,
                       (long long)id, MAX_TOKENS - 1);
    if (id >= v->n) LQ_TRY(grow(v, id + 1));
    v->token[id] = (lq_hf_token){{v->bytes.n, n}, score, type};
    lq_str_add(&v->bytes, text, n);
    return lq_str_status(&v->bytes);
}

lq_status lq_hf_vocab_merge(lq_hf_vocab *v, const char *left, size_t n_left, const char *right,
                            size_t n_right) {
    LQ_TRY(lq_reserve((void **)&v->merge, &v->cap_merges, v->n_merges + 1, sizeof *v->merge));
    v->merge[v->n_merges++] = (lq_hf_text){v->bytes.n, n_left + 1 + n_right};
    lq_str_add(&v->bytes, left, n_left);
    lq_str_putc(&v->bytes, ' ');
    lq_str_add(&v->bytes, right, n_right);
    return lq_str_status(&v->bytes);
}

static bool framed(const char *s, const char *front, const char *back) {
    const size_t n = strlen(s), n_front = strlen(front), n_back = strlen(back);
    return n >= n_front + n_back && memcmp(s, front, n_front) == 0 &&
           memcmp(s + n - n_back, back, n_back) == 0;
}

/* Some models do not mark as special what is meant so. */
static bool looks_special(const char *s) {
    static const char *const whole[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    for (int i = 0; i < LQ_ARRAY_LEN(whole); i++)
        if (strcmp(s, whole[i]) == 0) return true;
    return framed(s, "<|", "|>") || framed(s, "<｜", "｜>") || framed(s, "<unused", ">");
}

static void marks_to_spaces(const char *s, lq_str *out) {
    static const char mark[] = "\xe2\x96\x81";
    for (const char *at; (at = strstr(s, mark)); s = at + 3) {
        lq_str_add(out, s, (size_t)(at - s));
        lq_str_putc(out, ' ');
    }
    lq_str_puts(out, s);
}

lq_status lq_hf_vocab_added(lq_hf_vocab *v, int64_t id, const json_t *content, bool special) {
    const char *s = json_string_value(content);
    if (!s || !*s || strlen(s) != json_string_length(content))
        return lq_fail(LQ_EFORMAT, "added token %lld: 'content' must be a text, not empty",
                       (long long)id);
    const float score = v->spm ? added_score : 0;
    if (special || looks_special(s))
        return lq_hf_vocab_set(v, id, s, strlen(s), score, LQ_TOKEN_CONTROL);
    lq_str plain = LQ_STR_INIT;
    marks_to_spaces(s, &plain);
    lq_status status = lq_str_status(&plain);
    if (status == LQ_OK)
        status = lq_hf_vocab_set(v, id, plain.s, plain.n, score, LQ_TOKEN_USER);
    lq_str_clear(&plain);
    return status;
}

static lq_status check_fits(lq_hf_vocab *v, int64_t n_vocab) {
    if (!n_vocab || v->n <= n_vocab) return LQ_OK;
    if (!v->spm)
        return lq_fail(LQ_EFORMAT, "token %lld is outside vocab_size, which is %lld in config.json",
                       (long long)v->n - 1, (long long)n_vocab);
    lq_log(LQ_LOG_WARN, "the tokenizer has %lld tokens, config.json %lld: the rest is left out",
           (long long)v->n, (long long)n_vocab);
    v->n = n_vocab;
    return LQ_OK;
}

lq_status lq_hf_vocab_fit(lq_hf_vocab *v, int64_t n_vocab) {
    char name[32];
    if (n_vocab < 0 || n_vocab > MAX_TOKENS)
        return lq_fail(LQ_EFORMAT, "vocab_size is %lld, must be 1 to %d", (long long)n_vocab,
                       MAX_TOKENS);
    LQ_TRY(check_fits(v, n_vocab));
    LQ_TRY(grow(v, n_vocab));
    for (int64_t id = 0; id < v->n; id++) {
        if (v->token[id].type) continue;
        const int n = snprintf(name, sizeof name, "[PAD%lld]", (long long)id);
        const float score = v->spm ? unused_score : 0;
        LQ_TRY(lq_hf_vocab_set(v, id, name, (size_t)n, score, LQ_TOKEN_UNUSED));
    }
    return LQ_OK;
}

static lq_status write_tokens(const lq_hf_vocab *v, lq_gguf_writer *w, lq_gguf_str *text) {
    for (int64_t i = 0; i < v->n; i++)
        text[i] = (lq_gguf_str){v->bytes.s + v->token[i].text.start, v->token[i].text.n};
    LQ_TRY(lq_gguf_writer_set_strings(w, "tokenizer.ggml.tokens", text, (uint64_t)v->n));
    for (int64_t i = 0; i < v->n_merges; i++)
        text[i] = (lq_gguf_str){v->bytes.s + v->merge[i].start, v->merge[i].n};
    if (v->spm) return LQ_OK;
    return lq_gguf_writer_set_strings(w, "tokenizer.ggml.merges", text, (uint64_t)v->n_merges);
}

static lq_status write_numbers(const lq_hf_vocab *v, lq_gguf_writer *w, float *score,
                               int32_t *type) {
    for (int64_t i = 0; i < v->n; i++) {
        score[i] = v->token[i].score;
        type[i] = v->token[i].type;
    }
    const uint64_t n = (uint64_t)v->n;
    if (v->spm)
        LQ_TRY(lq_gguf_writer_set_array(w, "tokenizer.ggml.scores", LQ_GGUF_F32, score, n));
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.token_type", LQ_GGUF_I32, type, n);
}

lq_status lq_hf_vocab_write(const lq_hf_vocab *v, lq_gguf_writer *w) {
    lq_status status = LQ_OK;
    const int64_t most = v->n > v->n_merges ? v->n : v->n_merges;
    lq_gguf_str *text = lq_alloc_array(most, sizeof *text);
    float *score = lq_alloc_array(v->n, sizeof *score);
    int32_t *type = lq_alloc_array(v->n, sizeof *type);
    LQ_GOTO(status, text && score && type ? LQ_OK : LQ_EMEM);
    const char *model = v->spm ? "llama" : "gpt2";
    LQ_GOTO(status, lq_gguf_writer_set_string(w, "tokenizer.ggml.model", model));
    const char *pre = v->spm ? "default" : v->pre;
    LQ_GOTO(status, lq_gguf_writer_set_string(w, "tokenizer.ggml.pre", pre));
    LQ_GOTO(status, write_tokens(v, w, text));
    LQ_GOTO(status, write_numbers(v, w, score, type));
    if (v->space_prefix >= 0)
        status = lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_space_prefix", v->space_prefix);
done:
    lq_free(text);
    lq_free(score);
    lq_free(type);
    return status;
}

/* ---- descriptions ---- */

json_t *lq_hf_get(const json_t *object, const char *key) { return json_object_get(object, key); }

json_t *lq_hf_config(const lq_hf_files *f, const char *key) {
    json_t *v = lq_hf_get(f->config, key);
    return v && !json_is_null(v) ? v : lq_hf_get(lq_hf_get(f->config, "text_config"), key);
}

bool lq_hf_is_arch(const lq_hf_files *f, const char *name) {
    const char *arch = json_string_value(json_array_get(lq_hf_get(f->config, "architectures"), 0));
    return arch && strcmp(arch, name) == 0;
}

bool lq_hf_is_llama(const lq_hf_files *f) {
    static const char *const names[] = {"LLaMAForCausalLM",    "LlamaForCausalLM",
                                        "MistralForCausalLM",  "MixtralForCausalLM",
                                        "SmolLM3ForCausalLM",  "GraniteForCausalLM"};
    for (int i = 0; i < LQ_ARRAY_LEN(names); i++)
        if (lq_hf_is_arch(f, names[i])) return true;
    return false;
}
