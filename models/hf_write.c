/* What lies beside the weights of a Hugging Face directory, written anew: config.json and the
 * tokenizer's files are the base directory's; from a GGUF, they are made of its keys. */
#include "hf_parts.h"

#include "arch.h"
#include "atomic_file.h"
#include "hf_tokenizer_write.h"
#include "json_file.h"

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

/* A tokenizer that transformers has no way to say is left out: the weights are still of use. */
static lq_status write_tokenizer(const lq_model *m, const char *dir) {
    if (!m->tokenizer) {
        lq_log(LQ_LOG_WARN, "%s: no tokenizer files, the base has no tokenizer", dir);
        return LQ_OK;
    }
    const lq_status status = lq_hf_tokenizer_write(m->tokenizer, m->file, dir);
    if (status != LQ_EUNSUPPORTED) return status;
    lq_log(LQ_LOG_WARN, "%s: no tokenizer files, transformers cannot have this tokenizer: %s", dir,
           lq_error());
    return LQ_OK;
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

static lq_status make_config(json_t **out, const lq_model *m) {
    const lq_hf_family *f = lq_hf_family_of(m->arch->name);
    const char *base = lq_gguf_path(m->file);
    if (!f)
        return lq_fail(LQ_EUNSUPPORTED, "Hugging Face's names of architecture %s are not known",
                       m->arch->name);
    return lq_hf_is_dir(base) ? config_of_dir(out, f, base) : lq_hf_config_make(out, m);
}

lq_status lq_hf_can_write(const lq_model *m) {
    json_t *root = NULL;
    const lq_status status = make_config(&root, m);
    json_decref(root);
    return status;
}

lq_status lq_hf_write_files(const lq_model *m, const lq_format *type, const char *dir) {
    const char *base = lq_gguf_path(m->file);
    json_t *root = NULL;
    LQ_TRY(make_config(&root, m));
    LQ_TRY(write_config(root, type, dir));
    return lq_hf_is_dir(base) ? copy_files(base, dir) : write_tokenizer(m, dir);
}
