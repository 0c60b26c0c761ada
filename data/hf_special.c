/* Tokens with a role, whether BOS and EOS are added, and the chat template: from tokenizer.json's
 * post-processor, tokenizer_config.json and config.json, in the order in which llama.cpp's
 * converter believes them. */
#include "hf_vocab.h"

#include "atomic_file.h"
#include "json_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, EOT, EOM, N_ROLES, N_ADDED = SEP + 1 };

/* In Hugging Face's names and in GGUF's; NULL: the converter writes none. */
static const char *const roles[N_ROLES][2] = {
    {"bos", "bos"},  {"eos", "eos"},         {"unk", "unknown"},
    {"sep", "seperator"}, {"pad", "padding"}, {"cls", NULL},
    {"mask", "mask"}, {"eot", "eot"},         {"eom", "eom"},
};

typedef struct specials {
    const lq_hf_files *files;
    const char *text[N_ROLES];   /* borrowed; NULL: not named */
    int64_t id[N_ROLES];         /* -1: unknown */
    int add[N_ADDED];            /* -1: not said */
} specials;

/* "<s>" or {"content": "<s>"} */
static const char *token_text(const json_t *v) {
    return json_string_value(json_is_object(v) ? lq_hf_get(v, "content") : v);
}

static void read_config_texts(specials *s) {
    char key[32];
    for (int r = 0; r < N_ROLES; r++) {
        snprintf(key, sizeof key, "%s_token", roles[r][0]);
        if (r < EOT) s->text[r] = token_text(lq_hf_get(s->files->tokenizer_config, key));
    }
    if (!s->text[BOS]) s->text[BOS] = s->text[CLS];
    if (!s->text[EOS]) s->text[EOS] = s->text[SEP];
}

static bool same(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

static const char *special_at(const json_t *list, size_t i) {
    return json_string_value(lq_hf_get(lq_hf_get(json_array_get(list, i), "SpecialToken"), "id"));
}

/* BOS is the one that begins; where it has another name in tokenizer_config.json, it stays that. */
static void read_first(specials *s, const char *first) {
    if (!same(first, s->text[BOS]) && !same(first, s->text[CLS])) {
        if (!s->text[BOS]) s->text[BOS] = first;
        if (!s->text[CLS]) s->text[CLS] = first;
    }
    s->add[BOS] = same(first, s->text[BOS]) || same(first, s->text[CLS]);
}

/* An EOS that differs from the one that tokenizer_config.json names ends texts; the named one then
 * ends turns. */
static void read_last(specials *s, const char *last) {
    if (!same(last, s->text[EOS])) {
        const int role = s->text[EOT] ? EOM : EOT;
        s->text[role] = s->text[EOS];
        s->text[EOS] = last;
    }
    s->add[EOS] = 1;
}

static bool separates(const specials *s, const char *text) {
    return same(text, s->text[SEP]) || same(text, s->text[EOS]);
}

/* What stands between the two texts of a pair, without what begins and ends it: a separator, an EOS
 * and one, or nothing. */
static void read_pair(specials *s, const json_t *pair, const char *first, const char *last) {
    size_t from = 0, to = json_array_size(pair);
    if (to && first && same(special_at(pair, 0), first)) from++;
    if (to > from && last && same(special_at(pair, to - 1), last)) to--;
    if (to < from + 3 || special_at(pair, from) || special_at(pair, to - 1)) return;
    s->add[SEP] = !last && separates(s, special_at(pair, from + 1));
    if (to - from == 4 && separates(s, special_at(pair, from + 2))) s->add[SEP] = 1;
    if (s->add[SEP] && !s->text[SEP]) s->text[SEP] = s->text[EOS];
}

/* The first and last entry of `single` say what is added. */
static void read_template_processing(specials *s, const json_t *processor) {
    const json_t *single = lq_hf_get(processor, "single");
    const size_t n = json_array_size(single);
    const char *first = n > 1 ? special_at(single, 0) : NULL;
    const char *last = n > 1 ? special_at(single, n - 1) : NULL;
    if (first) read_first(s, first);
    if (last) read_last(s, last);
    read_pair(s, lq_hf_get(processor, "pair"), first, last);
}

static void read_processor(specials *s, const json_t *processor) {
    const char *type = json_string_value(lq_hf_get(processor, "type"));
    if (same(type, "ByteLevel")) {
        if (s->add[BOS] < 0) s->add[BOS] = 0;
        if (s->add[EOS] < 0) s->add[EOS] = 0;
    }
    if (same(type, "TemplateProcessing")) read_template_processing(s, processor);
    size_t i;
    json_t *part;
    json_array_foreach(lq_hf_get(processor, "processors"), i, part) read_processor(s, part);
}

static void read_config_flags(specials *s) {
    char key[32];
    for (int r = 0; r < N_ADDED; r++) {
        snprintf(key, sizeof key, "add_%s_token", roles[r][0]);
        const json_t *v = lq_hf_get(s->files->tokenizer_config, key);
        if (json_is_boolean(v) && s->add[r] < 0) s->add[r] = json_is_true(v);
    }
}

/* -1: no added token of tokenizer.json, or of tokenizer_config.json where there is none, is
 * this. */
static int64_t find_added(const lq_hf_files *f, const char *text) {
    size_t i;
    const char *id;
    json_t *entry;
    json_array_foreach(lq_hf_get(f->tokenizer, "added_tokens"), i, entry) {
        if (same(json_string_value(lq_hf_get(entry, "content")), text))
            return json_integer_value(lq_hf_get(entry, "id"));
    }
    if (f->tokenizer) return -1;
    json_object_foreach(lq_hf_get(f->tokenizer_config, "added_tokens_decoder"), id, entry) {
        if (same(json_string_value(lq_hf_get(entry, "content")), text))
            return strtoll(id, NULL, 10);
    }
    return -1;
}

static void find_ids(specials *s) {
    char key[32];
    for (int r = 0; r < N_ROLES; r++) {
        const bool listed = s->files->tokenizer && s->files->tokenizer_config;
        if (s->text[r] && listed) s->id[r] = find_added(s->files, s->text[r]);
        snprintf(key, sizeof key, "%s_token_id", roles[r][0]);
        const json_t *v = lq_hf_config(s->files, key);
        if (s->id[r] < 0 && json_is_integer(v)) s->id[r] = json_integer_value(v);
        if (s->id[r] < 0 && s->text[r]) s->id[r] = find_added(s->files, s->text[r]);
    }
}

/* Facts about single families that their files do not hold. */
static void apply_exceptions(specials *s, const lq_hf_vocab *v) {
    const lq_hf_files *f = s->files;
    const bool llama = lq_hf_is_llama(f);
    if (llama && v->n == 32016 && s->id[EOT] < 0) s->id[EOT] = 32010;   /* Code Llama */
    if (llama && v->n == 49152) s->add[BOS] = 0;                        /* small Granite models */
    if (lq_hf_is_arch(f, "GemmaForCausalLM") && s->id[EOT] < 0 && v->n > 107) s->id[EOT] = 107;
}

static lq_status write_keys(lq_gguf_writer *w, const specials *s, const lq_hf_vocab *v) {
    char key[64];
    for (int r = 0; r < N_ROLES; r++) {
        if (!roles[r][1]) continue;
        if (s->id[r] >= v->n)
            lq_log(LQ_LOG_WARN, "%s token %lld is outside the vocabulary of %lld: left out",
                   roles[r][0], (long long)s->id[r], (long long)v->n);
        if (s->id[r] < 0 || s->id[r] >= v->n) continue;
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", roles[r][1]);
        LQ_TRY(lq_gguf_writer_set_u32(w, key, (uint32_t)s->id[r]));
    }
    for (int r = 0; r < N_ADDED; r++) {
        if (s->add[r] < 0 || r == UNK) continue;
        snprintf(key, sizeof key, "tokenizer.ggml.add_%s_token", roles[r][0]);
        LQ_TRY(lq_gguf_writer_set_bool(w, key, s->add[r]));
    }
    return LQ_OK;
}

lq_status lq_hf_write_special(lq_gguf_writer *w, const lq_hf_files *f, const lq_hf_vocab *v) {
    specials s = {.files = f};
    for (int r = 0; r < N_ROLES; r++) s.id[r] = -1;
    for (int r = 0; r < N_ADDED; r++) s.add[r] = -1;
    read_config_texts(&s);
    if (f->tokenizer) read_processor(&s, lq_hf_get(f->tokenizer, "post_processor"));
    read_config_flags(&s);
    find_ids(&s);
    apply_exceptions(&s, v);
    return write_keys(w, &s, v);
}

/* ---- chat templates ---- */

static lq_status write_named(lq_gguf_writer *w, const char *name, const char *source,
                             lq_gguf_str *names, uint64_t *n_names) {
    if (strcmp(name, "default") == 0)
        return lq_gguf_writer_set_string(w, "tokenizer.chat_template", source);
    char *key = lq_sprintf("tokenizer.chat_template.%s", name);
    if (!key) return LQ_EMEM;
    for (char *c = key + strlen("tokenizer.chat_template."); *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '_';
    const lq_status status = lq_gguf_writer_set_string(w, key, source);
    lq_free(key);
    names[(*n_names)++] = (lq_gguf_str){name, strlen(name)};
    return status;
}

/* [{"name": ..., "template": ...}, ...] */
static lq_status write_list(lq_gguf_writer *w, const json_t *list) {
    size_t i;
    json_t *entry;
    uint64_t n = 0;
    lq_gguf_str *names = lq_alloc_array((int64_t)json_array_size(list), sizeof *names);
    lq_status status = names ? LQ_OK : LQ_EMEM;
    json_array_foreach((json_t *)list, i, entry) {
        const char *name = json_string_value(lq_hf_get(entry, "name"));
        const char *source = json_string_value(lq_hf_get(entry, "template"));
        if (status == LQ_OK && name && *name && source)
            status = write_named(w, name, source, names, &n);
    }
    if (status == LQ_OK && n)
        status = lq_gguf_writer_set_strings(w, "tokenizer.chat_templates", names, n);
    lq_free(names);
    return status;
}

static lq_status write_value(lq_gguf_writer *w, const json_t *v) {
    if (json_is_array(v)) return write_list(w, v);
    const char *source = json_string_value(v);
    return source ? lq_gguf_writer_set_string(w, "tokenizer.chat_template", source) : LQ_OK;
}

static lq_status write_file(lq_gguf_writer *w, const char *dir) {
    char *source = NULL, *path = lq_path_join(dir, "chat_template.jinja");
    json_t *file = NULL;
    size_t n;
    lq_status status = path ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK && lq_file_exists(path)) {
        status = lq_read_file(&source, &n, path);
        if (status == LQ_OK)
            status = lq_gguf_writer_set_string(w, "tokenizer.chat_template", source);
    } else if (status == LQ_OK) {
        status = lq_json_read(&file, dir, "chat_template.json", false);
        if (status == LQ_OK) status = write_value(w, lq_hf_get(file, "chat_template"));
    }
    json_decref(file);
    lq_free(source);
    lq_free(path);
    return status;
}

lq_status lq_hf_write_template(lq_gguf_writer *w, const lq_hf_files *f) {
    const json_t *v = lq_hf_get(f->tokenizer_config, "chat_template");
    return v && !json_is_null(v) ? write_value(w, v) : write_file(w, f->dir);
}
