/* Building, writing and re-reading an exported file. See export_file.h. */
#include "export_file.h"

#include "gguf_parts.h"

#include <assert.h>
#include <string.h>

/* Keys of a base that are not copied: they start with a dropped prefix. */
static bool is_dropped(const lq_export *e, const char *key) {
    for (int i = 0; i < e->n_dropped; i++)
        if (strncmp(key, e->dropped[i], strlen(e->dropped[i])) == 0) return true;
    return false;
}

void lq_export_drop(lq_export *e, const char *prefix) {
    assert(e->n_dropped < LQ_ARRAY_LEN(e->dropped));
    e->dropped[e->n_dropped++] = prefix;
    for (int64_t i = 0; e->base && i < lq_gguf_n_kv(e->base); i++) {
        const char *key = lq_gguf_kv_at(e->base, i)->key;
        if (is_dropped(e, key)) lq_gguf_writer_remove(e->writer, key);
    }
}

static lq_status start(lq_export *e) {
    LQ_TRY(lq_gguf_writer_new(&e->writer));
    if (e->base) LQ_TRY(lq_gguf_writer_copy_kv(e->writer, e->base));
    lq_export_drop(e, "quantize."); /* an earlier quantization's importance matrix */
    lq_export_drop(e, "split.");    /* one part of several */
    return LQ_OK;
}

lq_status lq_export_open(lq_export *e, const lq_gguf *base) {
    *e = (lq_export){.base = base};
    const lq_status status = start(e);
    if (status != LQ_OK) lq_export_close(e);
    return status;
}

void lq_export_close(lq_export *e) {
    for (int i = 0; i < e->n_keys; i++) {
        lq_free(e->key[i].key);
        lq_free(e->key[i].text);
    }
    for (int64_t i = 0; i < e->n_tensors; i++) lq_free(e->tensor[i].name);
    lq_free(e->tensor);
    lq_gguf_writer_free(e->writer);
    *e = (lq_export){.base = NULL};
}

/* ---- what is meant --------------------------------------------------------------------------- */

static lq_status remember(lq_export *e, const char *key, lq_gguf_type type, const char *text,
                          uint32_t bits) {
    assert(e->n_keys < LQ_EXPORT_MAX_KEYS);
    lq_export_key *k = &e->key[e->n_keys++];
    *k = (lq_export_key){lq_strdup(key), type, text ? lq_strdup(text) : NULL, bits};
    return k->key && (!text || k->text) ? LQ_OK : LQ_EMEM;
}

lq_status lq_export_string(lq_export *e, const char *key, const char *value) {
    LQ_TRY(remember(e, key, LQ_GGUF_STRING, value, 0));
    return lq_gguf_writer_set_string(e->writer, key, value);
}

lq_status lq_export_u32(lq_export *e, const char *key, uint32_t value) {
    LQ_TRY(remember(e, key, LQ_GGUF_U32, NULL, value));
    return lq_gguf_writer_set_u32(e->writer, key, value);
}

lq_status lq_export_f32(lq_export *e, const char *key, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    LQ_TRY(remember(e, key, LQ_GGUF_F32, NULL, bits));
    return lq_gguf_writer_set_f32(e->writer, key, value);
}

lq_status lq_export_add(lq_export *e, const char *name, int ggml_type, int ndim, const int64_t *ne,
                        const void *data, uint64_t bytes) {
    LQ_TRY(lq_reserve((void **)&e->tensor, &e->capacity, e->n_tensors + 1, sizeof *e->tensor));
    lq_export_tensor *t = &e->tensor[e->n_tensors];
    *t = (lq_export_tensor){lq_strdup(name), ggml_type, ndim, {1, 1, 1, 1}, data, bytes};
    if (!t->name) return LQ_EMEM;
    e->n_tensors++;
    memcpy(t->ne, ne, (size_t)ndim * sizeof *ne);
    return lq_gguf_writer_add(e->writer, name, ggml_type, ndim, ne, data, bytes);
}

/* ---- what is in the file --------------------------------------------------------------------- */

static lq_status differs(const lq_gguf *file, const char *what, const char *name) {
    return lq_fail(LQ_EIO, "%s: read back after writing: %s '%s' is not what was written",
                   lq_gguf_path(file), what, name);
}

static bool same_strings(const lq_gguf_str *x, const lq_gguf_str *y, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (x[i].n != y[i].n || memcmp(x[i].s, y[i].s, x[i].n) != 0) return false;
    return true;
}

static bool same_kv(const lq_gguf_kv *x, const lq_gguf_kv *y) {
    if (x->type != y->type || x->elem != y->elem || x->n != y->n) return false;
    if (x->elem == LQ_GGUF_STRING) return same_strings(x->data, y->data, x->n);
    return x->n == 0 || memcmp(x->data, y->data, x->n * lq_gguf_type_bytes(x->elem)) == 0;
}

static bool same_key(const lq_gguf_kv *kv, const lq_export_key *k) {
    if (!kv || kv->type != k->type) return false;
    if (k->type != LQ_GGUF_STRING) return memcmp(kv->data, &k->bits, sizeof k->bits) == 0;
    const lq_gguf_str want = {k->text, strlen(k->text)};
    return same_strings(kv->data, &want, 1);
}

static bool is_set(const lq_export *e, const char *key) {
    for (int i = 0; i < e->n_keys; i++)
        if (strcmp(e->key[i].key, key) == 0) return true;
    return false;
}

static lq_status check_keys(const lq_export *e, const lq_gguf *file) {
    int64_t n = e->n_keys;
    for (int i = 0; i < e->n_keys; i++)
        if (!same_key(lq_gguf_find(file, e->key[i].key), &e->key[i]))
            return differs(file, "key", e->key[i].key);
    for (int64_t i = 0; e->base && i < lq_gguf_n_kv(e->base); i++) {
        const lq_gguf_kv *want = lq_gguf_kv_at(e->base, i);
        if (is_dropped(e, want->key) || is_set(e, want->key)) continue;
        const lq_gguf_kv *kv = lq_gguf_find(file, want->key);
        if (!kv || !same_kv(kv, want)) return differs(file, "key", want->key);
        n++;
    }
    if (lq_gguf_n_kv(file) == n) return LQ_OK;
    return lq_fail(LQ_EIO, "%s: read back after writing: %lld keys, wanted %lld",
                   lq_gguf_path(file), (long long)lq_gguf_n_kv(file), (long long)n);
}

static lq_status check_tensors(const lq_export *e, const lq_gguf *file) {
    for (int64_t i = 0; i < e->n_tensors; i++) {
        const lq_export_tensor *want = &e->tensor[i];
        const lq_gguf_tensor *t = i < lq_gguf_n_tensors(file) ? lq_gguf_tensor_at(file, i) : NULL;
        if (!t || strcmp(t->name, want->name) != 0 || t->ggml_type != want->ggml_type ||
            memcmp(t->ne, want->ne, sizeof t->ne) != 0 || t->bytes != want->bytes ||
            memcmp(t->data, want->data, want->bytes) != 0)
            return differs(file, "tensor", want->name);
    }
    if (lq_gguf_n_tensors(file) == e->n_tensors) return LQ_OK;
    return lq_fail(LQ_EIO, "%s: read back after writing: %lld tensors, wanted %lld",
                   lq_gguf_path(file), (long long)lq_gguf_n_tensors(file), (long long)e->n_tensors);
}

lq_status lq_export_write(lq_export *e, const char *path) {
    lq_gguf *file = NULL;
    LQ_TRY(lq_gguf_writer_write(e->writer, path));
    lq_status status = lq_gguf_open(&file, path);
    if (status == LQ_OK) status = check_keys(e, file);
    if (status == LQ_OK) status = check_tensors(e, file);
    lq_gguf_close(file);
    return status;
}
