/* Which of a Hugging Face directory's tokenizer files counts, what is laid over it, and the way
 * into GGUF metadata. See hf_tokenizer.h. */
#include "hf_tokenizer.h"

#include "atomic_file.h"
#include "hf_vocab.h"
#include "json_file.h"
#include "tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

static lq_status has(bool *out, const lq_hf_files *f, const char *name) {
    char *path = lq_path_join(f->dir, name);
    if (!path) return LQ_EMEM;
    *out = lq_file_exists(path);
    lq_free(path);
    return LQ_OK;
}

/* Of a token that tokenizer.json does not know: tokenizer_config.json's added_tokens_decoder. */
static lq_status overlay_decoder(lq_hf_vocab *v, const lq_hf_files *f, int64_t n_vocab) {
    const char *key;
    json_t *entry;
    json_object_foreach(lq_hf_get(f->tokenizer_config, "added_tokens_decoder"), key, entry) {
        char *end;
        const long long id = strtoll(key, &end, 10);
        if (*end || !*key)
            return lq_fail(LQ_EFORMAT, "%s/tokenizer_config.json: added_tokens_decoder: '%s' is no "
                           "id", f->dir, key);
        if (n_vocab && id >= n_vocab) continue;
        LQ_TRY(lq_hf_vocab_added(v, id, lq_hf_get(entry, "content"),
                                 json_is_true(lq_hf_get(entry, "special"))));
    }
    return LQ_OK;
}

/* {"text": id, ...} */
static lq_status overlay_added_tokens(lq_hf_vocab *v, const lq_hf_files *f, int64_t n_vocab) {
    const char *text;
    json_t *id, *file = NULL;
    LQ_TRY(lq_json_read(&file, f->dir, "added_tokens.json", false));
    lq_status status = LQ_OK;
    json_object_foreach(file, text, id) {
        const int64_t k = json_integer_value(id);
        if (status != LQ_OK || (n_vocab && k >= n_vocab)) continue;
        if (v->spm) status = lq_hf_vocab_set(v, k, text, strlen(text), -1000, LQ_TOKEN_USER);
        else {
            json_t *content = json_string(text);
            status = content ? lq_hf_vocab_added(v, k, content, false) : LQ_EMEM;
            json_decref(content);
        }
    }
    json_decref(file);
    return status;
}

/* Phi-3's tokenizer.json has added tokens that the other files lack; it takes them as they are. */
static lq_status overlay_phi3(lq_hf_vocab *v, const lq_hf_files *f) {
    size_t i;
    json_t *entry;
    if (!lq_hf_is_arch(f, "Phi3ForCausalLM")) return LQ_OK;
    json_array_foreach(lq_hf_get(f->tokenizer, "added_tokens"), i, entry) {
        const char *s = json_string_value(lq_hf_get(entry, "content"));
        const int type =
            json_is_true(lq_hf_get(entry, "special")) ? LQ_TOKEN_CONTROL : LQ_TOKEN_USER;
        const int64_t id = json_integer_value(lq_hf_get(entry, "id"));
        if (s) LQ_TRY(lq_hf_vocab_set(v, id, s, strlen(s), -1000, type));
    }
    return LQ_OK;
}

static lq_status read_model_file(lq_hf_vocab *v, const lq_hf_files *f, int64_t n_vocab) {
    char *bytes = NULL, *path = lq_path_join(f->dir, "tokenizer.model");
    size_t n;
    lq_status status = path ? lq_read_file(&bytes, &n, path) : LQ_EMEM;
    if (status == LQ_OK) status = lq_hf_read_sentencepiece(v, path, bytes, n);
    lq_free(bytes);
    lq_free(path);
    LQ_TRY(status);
    LQ_TRY(overlay_added_tokens(v, f, n_vocab));
    LQ_TRY(overlay_decoder(v, f, n_vocab));
    return overlay_phi3(v, f);
}

/* tokenizer.model counts first, but Phi-4 carries one beside its byte-level tokenizer.json. */
static lq_status read_vocabulary(lq_hf_vocab *v, const lq_hf_files *f, int64_t n_vocab,
                                 lq_gguf_writer *w) {
    bool model, tekken, pair;
    const char *class = json_string_value(lq_hf_get(f->tokenizer_config, "tokenizer_class"));
    const bool bytes = class && strncmp(class, "GPT2Tokenizer", strlen("GPT2Tokenizer")) == 0;
    LQ_TRY(has(&model, f, "tokenizer.model"));
    LQ_TRY(has(&tekken, f, "tekken.json"));
    LQ_TRY(has(&pair, f, "vocab.json"));
    if (model && !(bytes && f->tokenizer)) return read_model_file(v, f, n_vocab);
    if (f->tokenizer) {
        LQ_TRY(lq_hf_read_tokenizer_json(v, f));
        return overlay_decoder(v, f, n_vocab);
    }
    if (tekken) return lq_hf_read_tekken(v, f, w);
    if (pair) {
        LQ_TRY(lq_hf_read_vocab_json(v, f));
        LQ_TRY(overlay_added_tokens(v, f, n_vocab));
        return overlay_decoder(v, f, n_vocab);
    }
    return lq_fail(LQ_EIO, "%s: there is no tokenizer: none of tokenizer.model, tokenizer.json, "
                   "tekken.json, vocab.json", f->dir);
}

/* Llama and Mistral models say in tokenizer_config.json whether a space goes in front; Gemma has
 * none, whatever its files say. */
static void read_space_prefix(lq_hf_vocab *v, const lq_hf_files *f) {
    static const char *const without[] = {"GemmaForCausalLM", "Gemma2ForCausalLM",
                                          "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"};
    const json_t *prefix = lq_hf_get(f->tokenizer_config, "add_prefix_space");
    if (lq_hf_is_llama(f) && json_is_boolean(prefix)) v->space_prefix = json_is_true(prefix);
    for (int i = 0; v->spm && i < LQ_ARRAY_LEN(without); i++)
        if (lq_hf_is_arch(f, without[i])) v->space_prefix = false;
}

static lq_status convert(lq_gguf_writer *w, const lq_hf_files *f, lq_hf_vocab *v) {
    const json_t *size = lq_hf_config(f, "vocab_size");
    const int64_t n_vocab = json_integer_value(size);
    LQ_TRY(read_vocabulary(v, f, n_vocab, w));
    read_space_prefix(v, f);
    LQ_TRY(lq_hf_vocab_fit(v, n_vocab));
    LQ_TRY(lq_hf_vocab_write(v, w));
    LQ_TRY(lq_hf_write_special(w, f, v));
    LQ_TRY(lq_hf_write_template(w, f));
    return v->spm ? LQ_OK : lq_hf_refine_pre(w, v->pre);
}

lq_status lq_hf_tokenizer_metadata(lq_gguf_writer *w, const char *dir) {
    lq_hf_files f = {.dir = dir};
    lq_hf_vocab v = LQ_HF_VOCAB_INIT;
    lq_status status;
    LQ_GOTO(status, lq_json_read(&f.config, dir, "config.json", false));
    LQ_GOTO(status, lq_json_read(&f.tokenizer_config, dir, "tokenizer_config.json", false));
    LQ_GOTO(status, lq_json_read(&f.tokenizer, dir, "tokenizer.json", false));
    status = convert(w, &f, &v);
done:
    lq_hf_vocab_clear(&v);
    json_decref(f.config);
    json_decref(f.tokenizer_config);
    json_decref(f.tokenizer);
    return status;
}
