/* config.json: its numbers become keys, each checked; what the architecture would compute
 * differently from what the file says is refused by name. */
#include "hf_parts.h"

#include "atomic_file.h"
#include "json_file.h"
#include "jsonl.h"
#include "str.h"

#include <math.h>
#include <string.h>

enum { KEY_BYTES = 96 };

lq_status lq_hf_config_read(lq_hf_config *out, const char *dir) {
    json_t *root = NULL;
    *out = (lq_hf_config){NULL, NULL, false, 0, 0};
    LQ_TRY(lq_json_read(&root, dir, "config.json", true));
    char *path = lq_path_join(dir, "config.json");
    const lq_status status = path ? lq_hf_config_of(out, root, path) : LQ_EMEM;
    if (!path) json_decref(root);
    lq_free(path);
    return status;
}

lq_status lq_hf_config_of(lq_hf_config *out, json_t *root, const char *name) {
    lq_status status = LQ_OK;
    *out = (lq_hf_config){.root = root, .path = lq_strdup(name)};
    LQ_GOTO(status, out->path ? LQ_OK : LQ_EMEM);
    if (!json_is_object(out->root))
        LQ_GOTO(status, lq_fail(LQ_EFORMAT, "%s: is %s, must be an object", out->path,
                                lq_json_type_name(out->root)));
    json_t *text = json_object_get(out->root, "text_config");
    if (json_is_object(text)) {
        json_t *class = json_incref(json_object_get(out->root, "architectures"));
        out->multimodal = true;
        const bool merged = json_object_update(out->root, text) == 0 &&
                            json_object_set_new(out->root, "architectures", class) == 0;
        LQ_GOTO(status, merged ? LQ_OK : lq_fail(LQ_EMEM, "%s: out of memory", out->path));
    }
    out->n_head = lq_hf_config_int(out, "num_attention_heads n_head n_heads");
    out->n_head_kv = lq_hf_config_int(out, "num_key_value_heads n_kv_heads");
    if (!out->n_head_kv) out->n_head_kv = out->n_head;
done:
    if (status != LQ_OK) lq_hf_config_clear(out);
    return status;
}

void lq_hf_config_clear(lq_hf_config *c) {
    json_decref(c->root);
    lq_free((char *)c->path);
    *c = (lq_hf_config){NULL, NULL, false, 0, 0};
}

json_t *lq_hf_config_get(const lq_hf_config *c, const char *names) {
    while (*names) {
        const size_t n = strcspn(names, " ");
        char name[KEY_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)n, names);
        json_t *value = json_object_get(c->root, name);
        if (value && !json_is_null(value)) return value;
        names += n + (names[n] == ' ');
    }
    return NULL;
}

int64_t lq_hf_config_int(const lq_hf_config *c, const char *names) {
    const json_int_t n = json_integer_value(lq_hf_config_get(c, names));
    return n > 0 && n <= UINT32_MAX ? n : 0;
}

lq_status lq_hf_set_u32(lq_gguf_writer *w, const lq_hf_family *f, const char *name, int64_t value) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", f->arch, name);
    return lq_gguf_writer_set_u32(w, key, (uint32_t)value);
}

lq_status lq_hf_set_f32(lq_gguf_writer *w, const lq_hf_family *f, const char *name, double value) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", f->arch, name);
    return lq_gguf_writer_set_f32(w, key, (float)value);
}

/* Sets a key; a mistake is added to the list. */
static lq_status write_key(const lq_hf_config *c, const lq_hf_family *f, const lq_hf_key *k,
                           lq_gguf_writer *w, lq_str *mistakes) {
    const json_t *value = lq_hf_config_get(c, k->names);
    const double number = value ? json_number_value(value) : k->fallback;
    if (!value && k->required)
        lq_str_printf(mistakes, "\n%.*s is missing", (int)strcspn(k->names, " "), k->names);
    if (!value && k->fallback == 0) return LQ_OK;
    if (k->type == LQ_GGUF_F32) {
        if (value && !json_is_number(value))
            lq_str_printf(mistakes, "\n%.*s is %s, must be a number", (int)strcspn(k->names, " "),
                          k->names, lq_json_type_name(value));
        return lq_hf_set_f32(w, f, k->key, number);
    }
    if ((value && !json_is_integer(value)) || !(number >= 1 && number <= UINT32_MAX))
        lq_str_printf(mistakes, "\n%.*s must be a whole number from 1 on",
                      (int)strcspn(k->names, " "), k->names);
    else LQ_TRY(lq_hf_set_u32(w, f, k->key, (int64_t)number));
    return LQ_OK;
}

static lq_status write_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    lq_str mistakes = LQ_STR_INIT;
    lq_status status = LQ_OK;
    for (int i = 0; status == LQ_OK && i < f->n_keys; i++)
        status = write_key(c, f, &f->key[i], w, &mistakes);
    if (status == LQ_OK && !lq_hf_config_int(c, "vocab_size"))
        lq_str_puts(&mistakes, "\nvocab_size must be a whole number from 1 on");
    if (status == LQ_OK) status = lq_str_status(&mistakes);
    if (status == LQ_OK && mistakes.n)
        status = lq_fail(LQ_EFORMAT, "%s (%s):%s", c->path, f->class, lq_str_text(&mistakes));
    lq_str_clear(&mistakes);
    return status;
}

static bool is_one_of(const char *word, const char *list) {
    const size_t n = strlen(word);
    for (const char *p = strstr(list, word); p; p = strstr(p + 1, word))
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) return true;
    return false;
}

/* What a config can ask for and the architecture does not do. */
static lq_status refuse(const lq_hf_config *c, const lq_hf_family *f) {
    const char *act = json_string_value(
        lq_hf_config_get(c, "hidden_activation hidden_act activation_function activation"));
    if (act && !is_one_of(act, f->acts))
        return lq_fail(LQ_EUNSUPPORTED, "%s: the activation is '%s', architecture %s has: %s",
                       c->path, act, f->arch, f->acts);
    const json_t *quantized = lq_hf_config_get(c, "quantization_config");
    if (quantized) {
        const char *how = json_string_value(json_object_get(quantized, "quant_method"));
        return lq_fail(LQ_EUNSUPPORTED, "%s: the weights are quantized (quantization_config: %s); "
                       "wanted F32, F16 or BF16", c->path, how ? how : "of an unknown kind");
    }
    return LQ_OK;
}

/* llama.cpp has no window in these architectures, and there is where the model will run. */
static void warn_window(const lq_hf_config *c, const lq_hf_family *f) {
    const int64_t window = lq_hf_config_int(c, "sliding_window");
    for (int i = 0; i < f->n_keys; i++)
        if (strcmp(f->key[i].key, "attention.sliding_window") == 0) return;
    if (!window || json_is_false(lq_hf_config_get(c, "use_sliding_window"))) return;
    if (window < lq_hf_config_int(c, "max_position_embeddings"))
        lq_log(LQ_LOG_WARN, "%s: sliding_window %lld is not applied, as in llama.cpp", c->path,
               (long long)window);
}

lq_status lq_hf_config_write(lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    LQ_TRY(refuse(c, f));
    LQ_TRY(write_keys(c, f, w));
    warn_window(c, f);
    return f->more ? f->more(c, f, w) : LQ_OK;
}
