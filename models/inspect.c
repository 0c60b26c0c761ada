/* The inspection report, built as JSON; the text form prints the same object. See inspect.h. */
#include "inspect.h"

#include "inspect_parts.h"
#include "model_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LATTICE_BLOCKS = 4096, MAX_TEXT = 4096, NAME_BYTES = 128 };

typedef struct report {
    const char *path;
    lq_gguf *file;
    lq_model *model;      /* NULL: Loquat cannot use it */
    bool failed;          /* Jansson ran out of memory */
} report;

/* Takes value over; NULL means that there was no memory for it. Keys may come from the file: JSON's
 * are UTF-8. */
static void put(report *r, json_t *object, const char *key, json_t *value) {
    char plain[NAME_BYTES];
    size_t n = 0;
    for (; key[n] && n + 1 < sizeof plain; n++)
        plain[n] = key[n] >= ' ' && key[n] <= '~' ? key[n] : '?';
    plain[n] = 0;
    if (json_object_set_new(object, plain, value) != 0) r->failed = true;
}

static void put_int(report *r, json_t *object, const char *key, int64_t v) {
    put(r, object, key, json_integer(v));
}

/* Files may hold anything in a string: what is not UTF-8 is said to be so. */
static json_t *text_json(const char *s, size_t n) {
    json_t *v = json_stringn(s, n > MAX_TEXT ? lq_utf8_complete(s, MAX_TEXT) : n);
    return v ? v : json_string("(not UTF-8)");
}

static void put_text(report *r, json_t *object, const char *key, const char *s) {
    put(r, object, key, text_json(s, strlen(s)));
}

static json_t *put_object(report *r, json_t *parent, const char *key) {
    json_t *object = json_object();
    put(r, parent, key, object);
    return object;
}

/* ---- tensors ---- */

static int64_t n_elements(const lq_gguf_tensor *t) {
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

/* "blk.3.attn_q.weight" -> "attn_q" */
static const char *stem_of(char stem[NAME_BYTES], const char *name) {
    if (strncmp(name, "blk.", 4) == 0 && strchr(name + 4, '.')) name = strchr(name + 4, '.') + 1;
    size_t n = strcspn(name, ".");
    if (n >= NAME_BYTES) n = NAME_BYTES - 1;
    memcpy(stem, name, n);
    stem[n] = 0;
    return stem;
}

static void count(report *r, json_t *object, const char *key, int64_t add) {
    put_int(r, object, key, json_integer_value(json_object_get(object, key)) + add);
}

static void report_tensors(report *r, json_t *out) {
    char stem[NAME_BYTES], label[LQ_TYPE_LABEL];
    int64_t total = 0;
    json_t *types = put_object(r, out, "tensor types"), *roles = put_object(r, out, "parameters");
    for (int64_t i = 0; i < lq_gguf_n_tensors(r->file); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(r->file, i);
        count(r, types, lq_type_label(label, t->ggml_type), 1);
        count(r, roles, stem_of(stem, t->name), n_elements(t));
        total += n_elements(t);
    }
    put_int(r, out, "parameters in all", total);
}

static void report_lattice(report *r, json_t *out) {
    lq_lattice all = {0, 0};
    for (int64_t i = 0; i < lq_gguf_n_tensors(r->file); i++) {
        const lq_lattice one = lq_lattice_of(lq_gguf_tensor_at(r->file, i), &lq_q4_0,
                                             LATTICE_BLOCKS);
        all.blocks += one.blocks;
        all.unchanged += one.unchanged;
    }
    if (!all.blocks) return;
    json_t *lattice = put_object(r, out, "on the Q4_0 lattice");
    put_int(r, lattice, "blocks looked at", all.blocks);
    put(r, lattice, "share", json_real((double)all.unchanged / (double)all.blocks));
    put_text(r, lattice, "reading",
             all.unchanged > all.blocks / 2 ? "trained or stored as Q4_0 before (it-qat)"
                                            : "no sign of quantization");
}

/* ---- metadata ---- */

static json_t *number_json(const lq_gguf_kv *kv) {
    uint32_t u;
    int32_t s;
    float f;
    switch (kv->type) {
    case LQ_GGUF_U32: memcpy(&u, kv->data, sizeof u); return json_integer(u);
    case LQ_GGUF_I32: memcpy(&s, kv->data, sizeof s); return json_integer(s);
    case LQ_GGUF_F32:
        memcpy(&f, kv->data, sizeof f);
        return isfinite(f) ? json_real((double)f) : json_string("not finite");
    case LQ_GGUF_BOOL: return json_boolean(*(const uint8_t *)kv->data);
    default: return json_string("(another kind of number)");
    }
}

static json_t *value_json(const lq_gguf_kv *kv) {
    const lq_gguf_str *s = kv->data;
    if (kv->elem != LQ_GGUF_STRING)
        return kv->type == LQ_GGUF_ARRAY ? json_string("(a list)") : number_json(kv);
    if (kv->type == LQ_GGUF_STRING) return text_json(s->s, s->n);
    json_t *list = json_array();
    for (uint64_t i = 0; list && i < kv->n; i++) {
        if (json_array_append_new(list, text_json(s[i].s, s[i].n)) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

/* Every key with this prefix. */
static void report_keys(report *r, json_t *out, const char *name, const char *prefix) {
    json_t *keys = NULL;
    for (int64_t i = 0; i < lq_gguf_n_kv(r->file); i++) {
        const lq_gguf_kv *kv = lq_gguf_kv_at(r->file, i);
        if (strncmp(kv->key, prefix, strlen(prefix)) != 0) continue;
        if (!keys) keys = put_object(r, out, name);
        put(r, keys, kv->key, value_json(kv));
    }
}

static void report_licence(report *r, json_t *out) {
    const lq_gguf_kv *kv = lq_gguf_find(r->file, "general.license");
    put(r, out, "licence", kv ? value_json(kv) : json_string("not stated"));
}

/* ---- models ---- */

static void report_sizes(report *r, json_t *out) {
    const lq_hparams *hp = &r->model->hp;
    json_t *sizes = put_object(r, out, "sizes");
    put_int(r, sizes, "context length", hp->n_ctx_train);
    put_int(r, sizes, "layers", hp->n_layer);
    put_int(r, sizes, "width", hp->n_embd);
    put_int(r, sizes, "feed-forward width", hp->n_ff);
    put_int(r, sizes, "heads", hp->n_head);
    put_int(r, sizes, "key/value heads", hp->n_head_kv);
    put_int(r, sizes, "head size", hp->head_dim);
    put_int(r, sizes, "vocabulary", hp->n_vocab);
    put(r, sizes, "tied head", json_boolean(r->model->tied));
}

static void report_architecture(report *r, json_t *out) {
    json_t *arch = put_object(r, out, "architecture");
    const lq_gguf_kv *kv = lq_gguf_find(r->file, "general.architecture");
    put(r, arch, "name", kv ? value_json(kv) : json_string("not stated"));
    const lq_status status = lq_model_open(&r->model, r->path, true);
    if (status == LQ_EMEM) r->failed = true;
    put(r, arch, "tensors agree", json_boolean(status == LQ_OK));
    if (status == LQ_OK)
        report_sizes(r, out);
    else
        put_text(r, arch, "problem", lq_error());
}

static void put_token(report *r, json_t *out, const char *key, const lq_tokenizer *t, int32_t id) {
    if (id >= 0) put_text(r, out, key, lq_token_text(t, id));
}

static void report_tokenizer(report *r, json_t *out) {
    const lq_tokenizer *t = r->model ? r->model->tokenizer : NULL;
    if (!t) return;
    json_t *tok = put_object(r, out, "tokenizer");
    put_text(r, tok, "model", lq_tokenizer_model(t));
    put_text(r, tok, "pre", lq_tokenizer_pre(t));
    put_int(r, tok, "tokens", lq_tokenizer_n_vocab(t));
    put_text(r, tok, "fingerprint", lq_tokenizer_fingerprint(t));
    put(r, tok, "adds bos", json_boolean(lq_tokenizer_adds_bos(t)));
    put_token(r, tok, "bos", t, lq_tokenizer_bos(t));
    put_token(r, tok, "eos", t, lq_tokenizer_eos(t));
    put_token(r, tok, "eot", t, lq_tokenizer_eot(t));
}

/* Pretrained or instruction-tuned: a template and an end-of-turn token of its own are signs of the
 * latter. */
static void report_kind(report *r, json_t *out) {
    const lq_tokenizer *t = r->model ? r->model->tokenizer : NULL;
    const bool template = lq_gguf_find(r->file, "tokenizer.chat_template") != NULL;
    const bool turns = t && lq_tokenizer_eot(t) >= 0 && lq_tokenizer_eot(t) != lq_tokenizer_eos(t);
    json_t *kind = put_object(r, out, "tuning");
    put_text(r, kind, "reading", template ? "it (instruction-tuned)" : "pt (pretrained)");
    put(r, kind, "chat template", json_boolean(template));
    put(r, kind, "end-of-turn token", json_boolean(turns));
}

static void report_model(report *r, json_t *out) {
    report_architecture(r, out);
    report_tokenizer(r, out);
    report_kind(r, out);
    report_tensors(r, out);
    report_lattice(r, out);
}

/* ---- adapters ---- */

static void report_adapter(report *r, json_t *out) {
    int64_t pairs = 0, least = INT64_MAX, most = 0;
    for (int64_t i = 0; i < lq_gguf_n_tensors(r->file); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(r->file, i);
        const size_t n = strlen(t->name);
        if (n < 7 || strcmp(t->name + n - 7, ".lora_a") != 0) continue;
        pairs++;
        if (t->ne[1] < least) least = t->ne[1];
        if (t->ne[1] > most) most = t->ne[1];
    }
    json_t *lora = put_object(r, out, "adapter");
    put_int(r, lora, "adapted tensors", pairs);
    put_int(r, lora, "smallest rank", pairs ? least : 0);
    put_int(r, lora, "largest rank", most);
    report_keys(r, lora, "keys", "adapter.");
    report_tensors(r, out);
}

/* ---- the whole ---- */

static lq_status render(char **out_text, const json_t *object, bool json) {
    lq_str text = LQ_STR_INIT;
    if (json) {
        char *dumped = json_dumps(object, JSON_INDENT(2));
        if (dumped) lq_str_printf(&text, "%s\n", dumped);
        if (!dumped) text.failed = true;
        free(dumped);
    } else {
        lq_inspect_print(&text, object);
    }
    const lq_status status = lq_str_status(&text);
    *out_text = lq_str_take(&text);
    return status;
}

static void report_all(report *r, json_t *out) {
    char *type = NULL;
    if (lq_gguf_get_string(r->file, "general.type", false, &type) == LQ_EMEM) r->failed = true;
    const bool adapter = type && strcmp(type, "adapter") == 0;
    lq_free(type);
    put_text(r, out, "file", r->path);
    put_int(r, out, "bytes", (int64_t)lq_gguf_bytes(r->file));
    put_text(r, out, "kind", adapter ? "adapter" : "model");
    if (adapter)
        report_adapter(r, out);
    else
        report_model(r, out);
    report_licence(r, out);
    report_keys(r, out, "lineage", "general.");
    report_keys(r, out, "written by loquat", "loquat.");
}

lq_status lq_inspect(char **out_text, const char *path, bool json) {
    report r = {.path = path};
    LQ_TRY(lq_gguf_open(&r.file, path));
    json_t *object = json_object();
    if (object) report_all(&r, object);
    lq_status status = object && !r.failed
                           ? render(out_text, object, json)
                           : lq_fail(LQ_EMEM, "%s: out of memory while inspecting", path);
    json_decref(object);
    lq_model_close(r.model);
    lq_gguf_close(r.file);
    return status;
}
