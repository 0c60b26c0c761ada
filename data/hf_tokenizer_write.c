/* The files beside tokenizer.json: which tokens have a role, what ends generation, templates with a
 * name (the unnamed one may be another by now: whoever exports the model writes it). See
 * hf_tokenizer_write.h. */
#include "hf_tokenizer_write.h"

#include "atomic_file.h"
#include "hf_write_parts.h"

#include <string.h>

static int32_t padding(const lq_tokenizer *t, const lq_gguf *g) {
    uint32_t id = UINT32_MAX;
    const lq_gguf_kv *kv = lq_gguf_find(g, "tokenizer.ggml.padding_token_id");
    if (kv && kv->type == LQ_GGUF_U32) memcpy(&id, kv->data, sizeof id);
    return id < (uint32_t)t->n_vocab ? (int32_t)id : -1;
}

/* Where the file names none, llama.cpp assumes one; it is none that transformers should know of. */
static int32_t named(const lq_gguf *g, const char *key, int32_t id) {
    return lq_gguf_find(g, key) ? id : -1;
}

static int32_t bos_of(const lq_tokenizer *t, const lq_gguf *g) {
    return t->add_bos ? t->bos : named(g, "tokenizer.ggml.bos_token_id", t->bos);
}

static int32_t eos_of(const lq_tokenizer *t, const lq_gguf *g) {
    return t->add_eos ? t->eos : named(g, "tokenizer.ggml.eos_token_id", t->eos);
}

static lq_status add_role(lq_str *out, const lq_tokenizer *t, const char *key, int32_t id) {
    lq_str_printf(out, "  \"%s\": ", key);
    if (id >= 0) LQ_TRY(lq_json_quote_token(out, t, id));
    else lq_str_puts(out, "null");
    lq_str_puts(out, ",\n");
    return LQ_OK;
}

/* PreTrainedTokenizerFast takes tokenizer.json as it is; other classes have their own regexes. */
static lq_status config_json(lq_str *out, const lq_tokenizer *t, const lq_gguf *g) {
    lq_str_printf(out, "{\n  \"add_bos_token\": %s,\n  \"add_eos_token\": %s,\n",
                  t->add_bos ? "true" : "false", t->add_eos ? "true" : "false");
    if (!t->pre)
        lq_str_printf(out, "  \"add_prefix_space\": %s,\n", t->space_prefix ? "true" : "false");
    LQ_TRY(add_role(out, t, "bos_token", bos_of(t, g)));
    LQ_TRY(add_role(out, t, "eos_token", eos_of(t, g)));
    LQ_TRY(add_role(out, t, "pad_token", padding(t, g)));
    LQ_TRY(add_role(out, t, "unk_token", t->unknown));
    lq_str_puts(out, "  \"clean_up_tokenization_spaces\": false,\n"   /* it corrupts texts */
                "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
    return lq_str_status(out);
}

/* All that ends generation in llama.cpp ends it in transformers; EOS comes first. */
static void add_endings(lq_str *out, const lq_tokenizer *t, int32_t eos) {
    const char *before = "";
    lq_str_puts(out, "  \"eos_token_id\": [");
    if (eos >= 0) lq_str_printf(out, "%d", eos);
    if (eos >= 0) before = ", ";
    for (int32_t id = 0; id < t->n_vocab; id++) {
        if (!t->is_eog[id] || id == t->eos) continue;
        lq_str_printf(out, "%s%d", before, id);
        before = ", ";
    }
    lq_str_putc(out, ']');
}

static lq_status generation_json(lq_str *out, const lq_tokenizer *t, const lq_gguf *g) {
    const int32_t bos = bos_of(t, g), pad = padding(t, g);
    lq_str_puts(out, "{\n");
    if (bos >= 0) lq_str_printf(out, "  \"bos_token_id\": %d,\n", bos);
    add_endings(out, t, eos_of(t, g));
    if (pad >= 0) lq_str_printf(out, ",\n  \"pad_token_id\": %d", pad);
    lq_str_puts(out, "\n}\n");
    return lq_str_status(out);
}

static lq_status write_text(const char *dir, const char *name, const char *text, size_t n) {
    char *path = lq_path_join(dir, name);
    const lq_status status = path ? lq_write_file(path, text, n) : LQ_EMEM;
    lq_free(path);
    return status;
}

/* name: of a key, which may hold anything; a file's name may not. */
static lq_status write_template(const char *dir, const char *name, const lq_gguf_str *source) {
    char *file = lq_sprintf("%s.jinja", name), *more = NULL;
    lq_status status = file ? LQ_OK : LQ_EMEM;
    for (char *c = file; c && *c; c++)
        if (*c == '/') *c = '_';
    if (status == LQ_OK) more = lq_path_join(dir, "additional_chat_templates");
    if (status == LQ_OK) status = more ? lq_make_dirs(more) : LQ_EMEM;
    if (status == LQ_OK) status = write_text(more, file, source->s, source->n);
    lq_free(file);
    lq_free(more);
    return status;
}

static lq_status write_templates(const lq_gguf *g, const char *dir) {
    static const char start[] = "tokenizer.chat_template.";
    for (int64_t i = 0; i < lq_gguf_n_kv(g); i++) {
        const lq_gguf_kv *kv = lq_gguf_kv_at(g, i);
        if (strncmp(kv->key, start, sizeof start - 1) == 0 && kv->type == LQ_GGUF_STRING)
            LQ_TRY(write_template(dir, kv->key + sizeof start - 1, kv->data));
    }
    return LQ_OK;
}

lq_status lq_hf_tokenizer_write(const lq_tokenizer *t, const lq_gguf *g, const char *dir) {
    static const struct {
        const char *name;
        lq_status (*make)(lq_str *out, const lq_tokenizer *t, const lq_gguf *g);
    } files[] = {
        {"tokenizer.json", lq_hf_tokenizer_json},
        {"tokenizer_config.json", config_json},
        {"generation_config.json", generation_json},
    };
    lq_str text = LQ_STR_INIT;
    lq_status status = LQ_OK;
    for (int i = 0; i < LQ_ARRAY_LEN(files) && status == LQ_OK; i++) {
        lq_str_reset(&text);
        status = files[i].make(&text, t, g);
        if (status == LQ_OK) status = write_text(dir, files[i].name, text.s, text.n);
        else status = lq_fail_context(status, "%s: ", files[i].name);
    }
    lq_str_clear(&text);
    return status == LQ_OK ? write_templates(g, dir) : status;
}
