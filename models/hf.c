/* Opening a Hugging Face directory as a GGUF file. See hf.h. */
#include "hf.h"

#include "atomic_file.h"
#include "hf_general.h"
#include "hf_tensors.h"
#include "hf_tokenizer.h"

#include <string.h>

bool lq_hf_is_dir(const char *path) {
    return lq_file_exists_in(path, "config.json");
}

static void release(void *owner) {
    lq_hf_tensors_clear(owner);
    lq_free(owner);
}

/* A directory without tokenizer files is a model without one. */
static lq_status write_tokenizer(const lq_hf_config *c, const lq_hf_family *f, const char *dir,
                                 lq_gguf_writer *w) {
    static const char *const files[] = {"tokenizer.json", "tokenizer.model", "tekken.json",
                                        "vocab.json"};
    for (int i = 0; i < LQ_ARRAY_LEN(files); i++)
        if (lq_file_exists_in(dir, files[i])) return lq_hf_tokenizer_metadata(w, dir);
    LQ_TRY(lq_gguf_writer_set_string(w, "tokenizer.ggml.model", "none"));
    return lq_hf_set_u32(w, f, "vocab_size", lq_hf_config_int(c, "vocab_size"));
}

/* Says of other ways to store weights that they are not read. */
static lq_status open_weights(lq_hf_tensors *t, const char *dir) {
    static const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                         "consolidated.safetensors"};
    if (lq_safetensors_in_dir(dir, "model"))
        return lq_safetensors_open_dir(&t->files, dir, "model");
    for (int i = 0; i < LQ_ARRAY_LEN(others); i++)
        if (lq_file_exists_in(dir, others[i]))
            return lq_fail(LQ_EUNSUPPORTED, "%s: has %s; wanted model.safetensors or its shards "
                           "(transformers' save_pretrained writes them)", dir, others[i]);
    return lq_fail(LQ_EIO, "%s: has no model.safetensors and no model.safetensors.index.json", dir);
}

static const lq_gguf_tensor *find_tensor(const lq_hf_tensors *t, const char *name) {
    for (int64_t i = 0; i < t->n; i++)
        if (strcmp(t->tensor[i].name, name) == 0) return &t->tensor[i];
    return NULL;
}

/* The head as it is stored; NULL: it is not. */
static const lq_st_tensor *find_head(const lq_safetensors *files) {
    static const char *const names[] = {"lm_head.weight", "language_model.lm_head.weight"};
    const lq_st_tensor *found = NULL;
    for (int i = 0; !found && i < LQ_ARRAY_LEN(names); i++)
        found = lq_safetensors_find(files, names[i]);
    return found;
}

/* A head that is the embedding may be stored all the same. Where it is another matrix, transformers
 * takes it for what it is. */
static void report_tied_head(const lq_hf_config *c, const lq_hf_family *f, const lq_hf_tensors *t) {
    const lq_gguf_tensor *embedding = find_tensor(t, "token_embd.weight");
    const lq_st_tensor *head = find_head(t->files);
    if (!head || !embedding) return;
    if (head->fmt->ggml_id == embedding->ggml_type && head->bytes == embedding->bytes &&
        memcmp(head->data, embedding->data, head->bytes) == 0)
        lq_log(LQ_LOG_INFO, "%s: embedding and head are tied, and %s is stored too: it is the same",
               c->path, head->name);
    else if (f->no_head)
        lq_log(LQ_LOG_WARN, "%s: %s is another matrix than the embedding, and is not used: %s has "
               "no head of its own in llama.cpp", c->path, head->name, f->arch);
    else
        lq_log(LQ_LOG_WARN, "%s: tie_word_embeddings is true, but %s is another matrix than the "
               "embedding: the stored head is used, as in transformers", c->path, head->name);
}

/* tie_word_embeddings says whether there is a head; the file must agree. */
static lq_status check_tying(const lq_hf_config *c, const lq_hf_family *f,
                             const lq_hf_tensors *t) {
    const json_t *tied = lq_hf_config_get(c, "tie_word_embeddings");
    if (json_is_true(tied) || (!tied && f->no_head)) report_tied_head(c, f, t);
    if (!json_is_false(tied) || find_tensor(t, "output.weight")) return LQ_OK;
    return lq_fail(LQ_ESHAPE, "%s: tie_word_embeddings is false, but lm_head.weight is missing",
                   c->path);
}

/* Of the matrices, which are of one type in all checkpoints that matter. */
static int file_type(const lq_hf_tensors *t) {
    for (int64_t i = 0; i < t->n; i++)
        if (t->tensor[i].ndim > 1) {
            const lq_format *fmt = lq_format_by_ggml_id(t->tensor[i].ggml_type);
            return fmt ? fmt->file_type : 0;
        }
    return 0;
}

static lq_status write_keys(lq_gguf_writer *w, lq_hf_config *c, const lq_hf_family *f,
                            const lq_hf_tensors *t, const char *dir) {
    LQ_TRY(lq_hf_write_general(w, dir, f->arch));
    LQ_TRY(lq_hf_config_write(c, f, w));
    LQ_TRY(lq_gguf_writer_set_u32(w, "general.file_type", (uint32_t)file_type(t)));
    LQ_TRY(lq_gguf_writer_set_u32(w, "general.quantization_version", 2));
    return write_tokenizer(c, f, dir, w);
}

static lq_status assemble(lq_gguf **out, lq_gguf_writer *w, lq_hf_tensors *t, const char *dir) {
    const int n = lq_safetensors_n_files(t->files);
    lq_bytes *region = lq_alloc_array(n, sizeof *region);
    if (!region) return LQ_EMEM;
    for (int i = 0; i < n; i++) region[i].p = lq_safetensors_file(t->files, i, &region[i].n);
    const lq_gguf_assembly a = {
        .path = dir, .keys = w, .tensor = t->tensor, .n_tensors = t->n, .region = region,
        .n_regions = n, .hash_keys = true, .owner = t, .release = release};
    const lq_status status = lq_gguf_assemble(out, &a);
    lq_free(region);
    return status;
}

lq_status lq_hf_open(lq_gguf **out, const char *dir) {
    lq_hf_config c = {NULL, NULL, false, 0, 0};
    const lq_hf_family *f;
    const lq_arch *arch;
    lq_gguf_writer *w = NULL;
    lq_status status = LQ_OK;
    lq_hf_tensors *t = lq_alloc(sizeof *t);
    LQ_GOTO(status, t ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_hf_config_read(&c, dir));
    LQ_GOTO(status, lq_hf_find_family(&f, &c));
    LQ_GOTO(status, lq_arch_find(&arch, f->arch));
    LQ_GOTO(status, open_weights(t, dir));
    LQ_GOTO(status, lq_hf_tensors_make(t, &c, f, arch));
    LQ_GOTO(status, check_tying(&c, f, t));
    LQ_GOTO(status, lq_gguf_writer_new(&w));
    LQ_GOTO(status, write_keys(w, &c, f, t, dir));
    LQ_GOTO(status, assemble(out, w, t, dir));
    t = NULL;   /* the file's */
done:
    lq_gguf_writer_free(w);
    if (t) release(t);
    lq_hf_config_clear(&c);
    return status;
}
