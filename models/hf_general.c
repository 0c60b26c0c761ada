/* The general.* keys of a Hugging Face directory: a name, and the sampling that
 * generation_config.json recommends (llama.cpp's tools take it up). Facts: gguf-py's metadata.py. */
#include "hf_general.h"

#include "json_file.h"
#include "str.h"

#include <ctype.h>
#include <string.h>

/* Is it a version ("v0.3") or starts with a digit ("7b")? Such words keep their case. */
static bool is_number_like(const char *word, size_t n) {
    return isdigit((unsigned char)word[0]) ||
           (word[0] == 'v' && n > 1 && isdigit((unsigned char)word[1]));
}

static bool is_lower(const char *word, size_t n) {
    bool letters = false;
    for (size_t i = 0; i < n; i++) {
        if (isupper((unsigned char)word[i])) return false;
        letters |= islower((unsigned char)word[i]) != 0;
    }
    return letters;
}

/* Capitals at the start of each run of letters. */
static void add_title(lq_str *out, const char *word, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const bool first = i == 0 || !isalpha((unsigned char)word[i - 1]);
        lq_str_putc(out, (char)(first ? toupper((unsigned char)word[i]) : word[i]));
    }
}

/* "tiny-llama-v1" is "Tiny Llama v1". */
static lq_status write_name(lq_gguf_writer *w, const char *dir) {
    lq_str name = LQ_STR_INIT;
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && dir[start - 1] != '/') start--;
    while (start < end) {
        size_t n = 0;
        while (start + n < end && dir[start + n] != '-' && dir[start + n] != ' ') n++;
        const char *word = dir + start;
        start += n + 1;
        if (!n) continue;
        if (name.n) lq_str_putc(&name, ' ');
        if (is_lower(word, n) && !is_number_like(word, n)) add_title(&name, word, n);
        else lq_str_add(&name, word, n);
    }
    lq_status status = lq_str_status(&name);
    if (status == LQ_OK)
        status = lq_gguf_writer_set_string(w, "general.name", lq_str_text(&name));
    lq_str_clear(&name);
    return status;
}

static const struct { const char *name, *key; lq_gguf_type type; } sampling[] = {
    {"top_k", "general.sampling.top_k", LQ_GGUF_I32},
    {"top_p", "general.sampling.top_p", LQ_GGUF_F32},
    {"min_p", "general.sampling.min_p", LQ_GGUF_F32},
    {"temperature", "general.sampling.temp", LQ_GGUF_F32},
    {"repetition_penalty", "general.sampling.penalty_repeat", LQ_GGUF_F32},
};

static lq_status write_sampling(lq_gguf_writer *w, const char *dir) {
    json_t *config;
    lq_status status = lq_json_read(&config, dir, "generation_config.json", false);
    for (int i = 0; status == LQ_OK && i < LQ_ARRAY_LEN(sampling); i++) {
        const json_t *value = json_object_get(config, sampling[i].name);
        const int32_t whole = (int32_t)json_integer_value(value);
        const float number = (float)json_number_value(value);
        const bool is_float = sampling[i].type == LQ_GGUF_F32;
        if (is_float ? json_is_number(value) : json_is_integer(value))
            status = lq_gguf_writer_set_number(w, sampling[i].key, sampling[i].type,
                                               is_float ? (const void *)&number : &whole);
    }
    json_decref(config);
    return status;
}

lq_status lq_hf_write_general(lq_gguf_writer *w, const char *dir, const char *arch) {
    LQ_TRY(lq_gguf_writer_set_string(w, "general.architecture", arch));
    LQ_TRY(lq_gguf_writer_set_string(w, "general.type", "model"));
    LQ_TRY(write_name(w, dir));
    return write_sampling(w, dir);
}
