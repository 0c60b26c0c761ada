/* The inspection report, built as JSON; the text form prints the same object. See inspect.h. */
#include "inspect.h"

#include "hf.h"
#include "inspect_parts.h"
#include "model_parts.h"
#include "template.h"

#include <stdlib.h>
#include <string.h>

static int64_t n_elements(const lq_gguf_tensor *t) {
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

/* {"type", "shape"} under every tensor's name: for programs. */
static void report_tensor(lq_report *r, json_t *all, const lq_gguf_tensor *t, const char *type) {
    json_t *one = lq_report_object(r, all, t->name), *shape = json_array();
    lq_report_text(r, one, "type", type);
    for (int d = 0; d < t->ndim; d++)
        if (json_array_append_new(shape, json_integer(t->ne[d])) != 0) r->failed = true;
    lq_report_put(r, one, "shape", shape);
}

static void report_tensors(lq_report *r, json_t *out) {
    char stem[LQ_STEM_BYTES], label[LQ_TYPE_LABEL];
    int64_t total = 0;
    json_t *types = lq_report_object(r, out, "tensor types");
    json_t *roles = lq_report_object(r, out, "parameters");
    json_t *by_role = lq_report_object(r, out, "types by role");
    json_t *all = lq_report_object(r, out, "tensors");
    for (int64_t i = 0; i < lq_gguf_n_tensors(r->file); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(r->file, i);
        lq_type_label(label, t->ggml_type);
        lq_tensor_stem(stem, t->name);
        lq_report_count(r, types, label, 1);
        lq_report_count(r, roles, stem, n_elements(t));
        if (!json_object_get(by_role, stem)) lq_report_object(r, by_role, stem);
        lq_report_count(r, json_object_get(by_role, stem), label, 1);
        report_tensor(r, all, t, label);
        total += n_elements(t);
    }
    lq_report_int(r, out, "parameters in all", total);
}

/* Every key with this prefix. */
static void report_keys(lq_report *r, json_t *out, const char *name, const char *prefix) {
    json_t *keys = NULL;
    for (int64_t i = 0; i < lq_gguf_n_kv(r->file); i++) {
        const lq_gguf_kv *kv = lq_gguf_kv_at(r->file, i);
        if (strncmp(kv->key, prefix, strlen(prefix)) != 0) continue;
        if (!keys) keys = lq_report_object(r, out, name);
        lq_report_put(r, keys, kv->key, lq_value_json(kv));
    }
}

static void report_licence(lq_report *r, json_t *out) {
    const lq_gguf_kv *kv = lq_gguf_find(r->file, "general.license");
    lq_report_put(r, out, "licence", kv ? lq_value_json(kv) : json_string("not stated"));
}

/* ---- models ---- */

static void report_sizes(lq_report *r, json_t *out) {
    const lq_hparams *hp = &r->model->hp;
    json_t *sizes = lq_report_object(r, out, "sizes");
    lq_report_int(r, sizes, "context length", hp->n_ctx_train);
    lq_report_int(r, sizes, "layers", hp->n_layer);
    lq_report_int(r, sizes, "width", hp->n_embd);
    lq_report_int(r, sizes, "feed-forward width", hp->n_ff);
    lq_report_int(r, sizes, "heads", hp->n_head);
    lq_report_int(r, sizes, "key/value heads", hp->n_head_kv);
    lq_report_int(r, sizes, "head size", hp->head_dim);
    lq_report_int(r, sizes, "vocabulary", hp->n_vocab);
    lq_report_put(r, sizes, "tied head", json_boolean(r->model->tied));
}

/* Of a model that Loquat cannot use: the architecture's keys as they are. */
static void report_raw_sizes(lq_report *r, json_t *out) {
    char *arch = NULL;
    if (lq_gguf_get_string(r->file, "general.architecture", false, &arch) == LQ_EMEM)
        r->failed = true;
    char *prefix = arch ? lq_sprintf("%s.", arch) : NULL;
    if (prefix) report_keys(r, out, "sizes", prefix);
    lq_free(prefix);
    lq_free(arch);
}

static void report_usable(lq_report *r, json_t *out) {
    json_t *object = json_object_get(out, "architecture");
    const lq_status status = lq_model_open(&r->model, r->path, true);
    if (status == LQ_EMEM) r->failed = true;
    lq_report_put(r, object, "tensors agree", json_boolean(status == LQ_OK));
    if (status != LQ_OK) lq_report_text(r, object, "problem", lq_error());
    if (status == LQ_OK) report_sizes(r, out);
    else
        report_raw_sizes(r, out);
}

static void put_token(lq_report *r, json_t *out, const char *key, int32_t id) {
    if (id >= 0) lq_report_text(r, out, key, lq_token_text(r->tokenizer, id));
}

static void report_tokenizer(lq_report *r, json_t *out) {
    if (!lq_gguf_find(r->file, "tokenizer.ggml.model")) return;
    json_t *tok = lq_report_object(r, out, "tokenizer");
    const lq_status status = lq_tokenizer_from_gguf(&r->tokenizer, r->file);
    if (status == LQ_EMEM) r->failed = true;
    if (status != LQ_OK) lq_report_text(r, tok, "problem", lq_error());
    if (!r->tokenizer) return;
    const lq_tokenizer *t = r->tokenizer;
    const char *family = lq_vocabulary_family(t);
    lq_report_text(r, tok, "model", lq_tokenizer_model(t));
    if (*lq_tokenizer_pre(t)) lq_report_text(r, tok, "pre", lq_tokenizer_pre(t));
    lq_report_int(r, tok, "tokens", lq_tokenizer_n_vocab(t));
    lq_report_text(r, tok, "vocabulary of", family ? family : "no family that is known here");
    lq_report_text(r, tok, "fingerprint", lq_tokenizer_fingerprint(t));
    lq_report_put(r, tok, "adds bos", json_boolean(lq_tokenizer_adds_bos(t)));
    lq_report_put(r, tok, "adds eos", json_boolean(lq_tokenizer_adds_eos(t)));
    put_token(r, tok, "bos", lq_tokenizer_bos(t));
    put_token(r, tok, "eos", lq_tokenizer_eos(t));
    put_token(r, tok, "eot", lq_tokenizer_eot(t));
}

/* A template with a mistake in it is no template. */
static void check_template(lq_report *r) {
    const char *source = r->tokenizer ? lq_tokenizer_chat_template(r->tokenizer) : NULL;
    lq_template *parsed = NULL;
    if (!source) return;
    const lq_status status = lq_template_parse(&parsed, source);
    lq_template_free(parsed);
    if (status == LQ_EMEM) r->failed = true;
    else if (status != LQ_OK) lq_report_warn(r, "the template cannot be used: %s", lq_error());
}

static void report_vocabulary(lq_report *r, json_t *out) {
    lq_report_architecture(r, out);
    report_raw_sizes(r, out);
    report_tokenizer(r, out);
    check_template(r);
}

static void report_model(lq_report *r, json_t *out) {
    lq_report_architecture(r, out);
    report_usable(r, out);
    report_tokenizer(r, out);
    check_template(r);
    lq_report_tuning(r, out);
    report_tensors(r, out);
}

/* ---- adapters ---- */

static void report_adapter(lq_report *r, json_t *out) {
    int64_t pairs = 0, least = INT64_MAX, most = 0;
    for (int64_t i = 0; i < lq_gguf_n_tensors(r->file); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(r->file, i);
        const size_t n = strlen(t->name);
        if (n < 7 || strcmp(t->name + n - 7, ".lora_a") != 0) continue;
        pairs++;
        if (t->ne[1] < least) least = t->ne[1];
        if (t->ne[1] > most) most = t->ne[1];
    }
    json_t *lora = lq_report_object(r, out, "adapter");
    lq_report_int(r, lora, "adapted tensors", pairs);
    lq_report_int(r, lora, "smallest rank", pairs ? least : 0);
    lq_report_int(r, lora, "largest rank", most);
    report_keys(r, lora, "keys", "adapter.");
    report_tensors(r, out);
}

/* ---- the whole ---- */

typedef struct kind {
    const char *name;
    void (*report)(lq_report *r, json_t *out);
} kind;

static const kind model = {"model", report_model}, adapter = {"adapter", report_adapter},
                  vocabulary = {"vocabulary", report_vocabulary};

static const kind *kind_of(lq_report *r) {
    char *type = NULL;
    if (lq_gguf_get_string(r->file, "general.type", false, &type) == LQ_EMEM) r->failed = true;
    const bool says_adapter = type && strcmp(type, adapter.name) == 0;
    lq_free(type);
    return says_adapter ? &adapter : lq_gguf_n_tensors(r->file) ? &model : &vocabulary;
}

static void report_all(lq_report *r, json_t *out) {
    const kind *k = kind_of(r);
    r->warnings = json_array();
    lq_report_text(r, out, "file", r->path);
    lq_report_int(r, out, "bytes", (int64_t)lq_gguf_bytes(r->file));
    lq_report_text(r, out, "kind", k->name);
    lq_report_put(r, out, "warnings", r->warnings);
    k->report(r, out);
    report_licence(r, out);
    report_keys(r, out, "lineage", "general.");
    report_keys(r, out, "written by loquat", "loquat.");
}

lq_status lq_inspect_report(json_t **out, const char *path) {
    lq_report r = {.path = path};
    *out = NULL;
    LQ_TRY(lq_hf_is_dir(path) ? lq_hf_open(&r.file, path) : lq_gguf_open(&r.file, path));
    json_t *object = json_object();
    if (object) report_all(&r, object);
    lq_status status = LQ_OK;
    if (!object || r.failed) status = lq_fail(LQ_EMEM, "%s: out of memory while inspecting", path);
    if (status == LQ_OK) *out = object;
    else
        json_decref(object);
    lq_tokenizer_close(r.tokenizer);
    lq_model_close(r.model);
    lq_gguf_close(r.file);
    return status;
}

lq_status lq_inspect_text(char **out_text, const json_t *report, bool json) {
    lq_str text = LQ_STR_INIT;
    if (json) {
        char *dumped = json_dumps(report, JSON_INDENT(2));
        if (dumped) lq_str_printf(&text, "%s\n", dumped);
        if (!dumped) text.failed = true;
        free(dumped);
    } else {
        lq_inspect_print(&text, report);
    }
    const lq_status status = lq_str_status(&text);
    *out_text = lq_str_take(&text);
    return status;
}
