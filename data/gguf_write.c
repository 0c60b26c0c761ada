/* GGUF out: keys are kept as the bytes that the file will hold, tensors as pointers; the file is
 * written in one pass and published whole (atomic_file.h). */
#include "atomic_file.h"
#include "gguf_parts.h"
#include "str.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const char alignment_key[] = "general.alignment";

typedef struct pair { char *key; lq_str value; } pair;   /* value: type id, then the value */

typedef struct planned {
    char *name;
    int ggml_type, ndim;
    int64_t ne[LQ_GGUF_MAX_DIMS];
    const void *data;
    uint64_t bytes;
} planned;

struct lq_gguf_writer {
    pair *kv;
    planned *tensor;
    int64_t n_kv, cap_kv, n_tensors, cap_tensors;
    lq_atomic_file file;     /* from begin to commit */
    uint32_t alignment;
    int64_t at;              /* the tensor that put goes on with */
    uint64_t done;           /* bytes of it that are written */
};

lq_status lq_gguf_writer_new(lq_gguf_writer **out) {
    *out = lq_alloc(sizeof **out);
    return *out ? LQ_OK : LQ_EMEM;
}

static void clear_pair(pair *p) {
    lq_free(p->key);
    lq_str_clear(&p->value);
}

void lq_gguf_writer_free(lq_gguf_writer *w) {
    if (!w) return;
    lq_atomic_abort(&w->file);
    for (int64_t i = 0; i < w->n_kv; i++) clear_pair(&w->kv[i]);
    for (int64_t i = 0; i < w->n_tensors; i++) lq_free(w->tensor[i].name);
    lq_free(w->kv);
    lq_free(w->tensor);
    lq_free(w);
}

static int64_t find_key(const lq_gguf_writer *w, const char *key) {
    for (int64_t i = 0; i < w->n_kv; i++)
        if (strcmp(w->kv[i].key, key) == 0) return i;
    return -1;
}

void lq_gguf_writer_remove(lq_gguf_writer *w, const char *key) {
    const int64_t i = find_key(w, key);
    if (i < 0) return;
    clear_pair(&w->kv[i]);
    w->n_kv--;
    memmove(&w->kv[i], &w->kv[i + 1], (size_t)(w->n_kv - i) * sizeof *w->kv);
}

/* Takes value over, in every case. An old value of the key keeps its place in the file. */
static lq_status set(lq_gguf_writer *w, const char *key, lq_str *value) {
    int64_t i = find_key(w, key);
    lq_status status = lq_str_status(value);
    if (status == LQ_OK && i < 0) {
        status = lq_reserve((void **)&w->kv, &w->cap_kv, w->n_kv + 1, sizeof *w->kv);
        char *copy = status == LQ_OK ? lq_strdup(key) : NULL;
        if (copy) {
            i = w->n_kv++;
            w->kv[i] = (pair){copy, LQ_STR_INIT};
        } else {
            status = LQ_EMEM;
        }
    }
    if (status != LQ_OK) {
        lq_str_clear(value);
        return status;
    }
    lq_str_clear(&w->kv[i].value);
    w->kv[i].value = *value;
    return LQ_OK;
}

static void add_type(lq_str *out, lq_gguf_type type) {
    const int32_t id = (int32_t)type;
    lq_str_add(out, (const char *)&id, sizeof id);
}

static void add_string(lq_str *out, const char *s, uint64_t n) {
    lq_str_add(out, (const char *)&n, sizeof n);
    lq_str_add(out, s, n);
}

static void add_array_head(lq_str *out, lq_gguf_type elem, uint64_t n) {
    add_type(out, LQ_GGUF_ARRAY);
    add_type(out, elem);
    lq_str_add(out, (const char *)&n, sizeof n);
}

static lq_status set_scalar(lq_gguf_writer *w, const char *key, lq_gguf_type type, const void *v) {
    lq_str value = LQ_STR_INIT;
    add_type(&value, type);
    lq_str_add(&value, v, lq_gguf_type_bytes(type));
    return set(w, key, &value);
}

static lq_status copy_key(lq_gguf_writer *w, const lq_gguf_kv *kv) {
    if (kv->type == LQ_GGUF_ARRAY && kv->elem == LQ_GGUF_STRING)
        return lq_gguf_writer_set_strings(w, kv->key, kv->data, kv->n);
    if (kv->type == LQ_GGUF_ARRAY)
        return lq_gguf_writer_set_array(w, kv->key, kv->elem, kv->data, kv->n);
    if (kv->type != LQ_GGUF_STRING) return set_scalar(w, kv->key, kv->type, kv->data);
    const lq_gguf_str *s = kv->data;
    lq_str value = LQ_STR_INIT;
    add_type(&value, LQ_GGUF_STRING);
    add_string(&value, s->s, s->n);
    return set(w, kv->key, &value);
}

lq_status lq_gguf_writer_copy_kv(lq_gguf_writer *w, const lq_gguf *g) {
    for (int64_t i = 0; i < lq_gguf_n_kv(g); i++) LQ_TRY(copy_key(w, lq_gguf_kv_at(g, i)));
    return LQ_OK;
}

lq_status lq_gguf_writer_set_number(lq_gguf_writer *w, const char *key, lq_gguf_type type,
                                    const void *v) {
    assert(lq_gguf_type_bytes(type));
    return set_scalar(w, key, type, v);
}

lq_status lq_gguf_writer_set_u32(lq_gguf_writer *w, const char *key, uint32_t v) {
    return set_scalar(w, key, LQ_GGUF_U32, &v);
}

lq_status lq_gguf_writer_set_f32(lq_gguf_writer *w, const char *key, float v) {
    return set_scalar(w, key, LQ_GGUF_F32, &v);
}

lq_status lq_gguf_writer_set_bool(lq_gguf_writer *w, const char *key, bool v) {
    const uint8_t byte = v;
    return set_scalar(w, key, LQ_GGUF_BOOL, &byte);
}

lq_status lq_gguf_writer_set_string(lq_gguf_writer *w, const char *key, const char *v) {
    lq_str value = LQ_STR_INIT;
    add_type(&value, LQ_GGUF_STRING);
    add_string(&value, v, strlen(v));
    return set(w, key, &value);
}

lq_status lq_gguf_writer_set_strings(lq_gguf_writer *w, const char *key, const lq_gguf_str *v,
                                     uint64_t n) {
    lq_str value = LQ_STR_INIT;
    add_array_head(&value, LQ_GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) add_string(&value, v[i].s, v[i].n);
    return set(w, key, &value);
}

lq_status lq_gguf_writer_set_array(lq_gguf_writer *w, const char *key, lq_gguf_type elem,
                                   const void *data, uint64_t n) {
    size_t bytes;
    assert(lq_gguf_type_bytes(elem));
    LQ_TRY(lq_mul_size(&bytes, n, lq_gguf_type_bytes(elem)));
    lq_str value = LQ_STR_INIT;
    add_array_head(&value, elem, n);
    lq_str_add(&value, data, bytes);
    return set(w, key, &value);
}

static lq_status check_new_tensor(const lq_gguf_writer *w, const char *name, int ggml_type,
                                  int ndim, const int64_t *ne, uint64_t bytes) {
    uint64_t want;
    const size_t len = strlen(name);
    if (!len || len > LQ_GGUF_MAX_NAME)
        return lq_fail(LQ_EVALUE, "tensor '%s': a name has 1 to %d bytes, this one %zu", name,
                       LQ_GGUF_MAX_NAME, len);
    if (ndim < 0 || ndim > LQ_GGUF_MAX_DIMS)
        return lq_fail(LQ_EVALUE, "tensor %s: %d dimensions, at most %d are allowed", name, ndim,
                       LQ_GGUF_MAX_DIMS);
    LQ_TRY(lq_gguf_tensor_bytes(&want, name, ggml_type, ndim, ne));
    if (bytes != want)
        return lq_fail(LQ_EVALUE, "tensor %s: %llu bytes given, its type and sizes make %llu", name,
                       (unsigned long long)bytes, (unsigned long long)want);
    for (int64_t i = 0; i < w->n_tensors; i++)
        if (strcmp(w->tensor[i].name, name) == 0)
            return lq_fail(LQ_EVALUE, "tensor %s is added twice", name);
    return LQ_OK;
}

lq_status lq_gguf_writer_add(lq_gguf_writer *w, const char *name, int ggml_type, int ndim,
                             const int64_t *ne, const void *data, uint64_t bytes) {
    LQ_TRY(check_new_tensor(w, name, ggml_type, ndim, ne, bytes));
    LQ_TRY(lq_reserve((void **)&w->tensor, &w->cap_tensors, w->n_tensors + 1, sizeof *w->tensor));
    planned t = {.ggml_type = ggml_type, .ndim = ndim, .data = data, .bytes = bytes};
    memcpy(t.ne, ne, (size_t)ndim * sizeof *ne);
    t.name = lq_strdup(name);
    if (!t.name) return LQ_EMEM;
    w->tensor[w->n_tensors++] = t;
    return LQ_OK;
}

static lq_status get_alignment(const lq_gguf_writer *w, uint32_t *alignment) {
    *alignment = LQ_GGUF_ALIGNMENT;
    const int64_t i = find_key(w, alignment_key);
    if (i < 0) return LQ_OK;
    const lq_str *value = &w->kv[i].value;
    int32_t type;
    memcpy(&type, value->s, sizeof type);
    if (type == LQ_GGUF_U32) memcpy(alignment, value->s + sizeof type, sizeof *alignment);
    if (type == LQ_GGUF_U32 && lq_gguf_alignment_valid(*alignment)) return LQ_OK;
    return lq_fail(LQ_EVALUE, "%s must be a u32 power of two", alignment_key);
}

/* Everything before the data section, padded. */
static lq_status make_head(const lq_gguf_writer *w, uint32_t alignment, lq_str *out) {
    const uint32_t version = LQ_GGUF_VERSION;
    lq_str_puts(out, "GGUF");
    lq_str_add(out, (const char *)&version, sizeof version);
    lq_str_add(out, (const char *)&w->n_tensors, sizeof w->n_tensors);
    lq_str_add(out, (const char *)&w->n_kv, sizeof w->n_kv);
    for (int64_t i = 0; i < w->n_kv; i++) {
        add_string(out, w->kv[i].key, strlen(w->kv[i].key));
        lq_str_add(out, w->kv[i].value.s, w->kv[i].value.n);
    }
    uint64_t offset = 0;
    for (int64_t i = 0; i < w->n_tensors; i++) {
        const planned *t = &w->tensor[i];
        const uint32_t ndim = (uint32_t)t->ndim;
        const int32_t type = t->ggml_type;
        add_string(out, t->name, strlen(t->name));
        lq_str_add(out, (const char *)&ndim, sizeof ndim);
        lq_str_add(out, (const char *)t->ne, ndim * sizeof t->ne[0]);
        lq_str_add(out, (const char *)&type, sizeof type);
        lq_str_add(out, (const char *)&offset, sizeof offset);
        if (!lq_gguf_pad(&offset, offset + t->bytes, alignment))
            return lq_fail(LQ_EVALUE, "tensor %s: the tensors' sizes overflow", t->name);
    }
    while (!out->failed && out->n % alignment) lq_str_putc(out, 0);
    return lq_str_status(out);
}

static lq_status put(lq_gguf_writer *w, const void *data, size_t n) {
    if (fwrite(data, 1, n, w->file.f) == n) return LQ_OK;
    return lq_fail(LQ_EIO, "%s: %s", w->file.path, strerror(errno));
}

static lq_status pad(lq_gguf_writer *w, uint64_t bytes) {
    static const char zeros[64];
    uint64_t padding = -bytes & (w->alignment - 1);
    while (padding) {
        const uint64_t n = padding < sizeof zeros ? padding : sizeof zeros;
        LQ_TRY(put(w, zeros, n));
        padding -= n;
    }
    return LQ_OK;
}

lq_status lq_gguf_writer_begin(lq_gguf_writer *w, const char *path) {
    lq_str head = LQ_STR_INIT;
    lq_status status;
    assert(!w->file.f);
    w->at = 0;
    w->done = 0;
    LQ_GOTO(status, get_alignment(w, &w->alignment));
    LQ_GOTO(status, make_head(w, w->alignment, &head));
    LQ_GOTO(status, lq_atomic_open(&w->file, path));
    status = put(w, head.s, head.n);
done:
    lq_str_clear(&head);
    return status;
}

lq_status lq_gguf_writer_put(lq_gguf_writer *w, const void *data, size_t bytes) {
    assert(w->at < w->n_tensors && bytes <= w->tensor[w->at].bytes - w->done);
    LQ_TRY(put(w, data, bytes));
    w->done += bytes;
    if (w->done < w->tensor[w->at].bytes) return LQ_OK;
    w->done = 0;
    return pad(w, w->tensor[w->at++].bytes);
}

lq_status lq_gguf_writer_commit(lq_gguf_writer *w) {
    assert(w->at == w->n_tensors);
    return lq_atomic_commit(&w->file);
}

lq_status lq_gguf_writer_write(lq_gguf_writer *w, const char *path) {
    lq_status status = lq_gguf_writer_begin(w, path);
    for (int64_t i = 0; status == LQ_OK && i < w->n_tensors; i++)
        status = lq_gguf_writer_put(w, w->tensor[i].data, w->tensor[i].bytes);
    if (status == LQ_OK) return lq_gguf_writer_commit(w);
    lq_atomic_abort(&w->file);
    return status;
}

lq_status lq_gguf_writer_memory(const lq_gguf_writer *w, lq_str *out) {
    uint32_t alignment;
    assert(w->n_tensors == 0);
    LQ_TRY(get_alignment(w, &alignment));
    return make_head(w, alignment, out);
}
