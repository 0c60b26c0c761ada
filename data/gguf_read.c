/* GGUF in: maps a file and validates all of it but the tensors' numbers. Every length is checked
 * against the bytes that are left before anything is allocated, so memory stays in proportion to
 * the file. Numbers and tensors are read in place; keys, names and lists of strings are copied or
 * indexed. */
#include "gguf_parts.h"

#include "mapped_file.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STRING = 1 << 30, MAX_ARRAY = 1 << 30 };
/* The fewest bytes that a key with its value, and a tensor's entry, take. */
enum { MIN_KV_BYTES = 8 + 1 + 4 + 1, MIN_TENSOR_BYTES = 8 + 4 + 4 + 8 };

typedef struct entry { const char *name; int64_t index; } entry;

struct lq_gguf {
    char *path;
    const uint8_t *bytes;                 /* of the file, or of an assembly's keys */
    size_t n;
    lq_bytes whole;                       /* the same */
    lq_mapped map;                        /* what they are in, if it is a file */
    lq_gguf_kv *kv;
    lq_gguf_tensor *tensor;
    int64_t n_kv, n_tensors;
    entry *kv_by_name, *tensor_by_name;   /* sorted */
    /* of an assembly (gguf_parts.h) */
    lq_str keys;
    lq_bytes *region;                     /* NULL: the one file */
    int n_regions;
    void *owner;
    void (*release)(void *owner);
};

typedef struct cursor { const uint8_t *bytes; size_t n, at; } cursor;

/* The next bytes in place; NULL, with the error recorded, when the file has fewer. */
static const void *take(cursor *c, uint64_t bytes, const char *what) {
    if (bytes > c->n - c->at) {
        lq_fail(LQ_EFORMAT, "truncated: %s needs %llu bytes at offset %zu, the file ends at %zu",
                what, (unsigned long long)bytes, c->at, c->n);
        return NULL;
    }
    const uint8_t *p = c->bytes + c->at;
    c->at += bytes;
    return p;
}

static lq_status take_number(void *out, cursor *c, size_t bytes, const char *what) {
    const void *p = take(c, bytes, what);
    if (!p) return LQ_EFORMAT;
    memcpy(out, p, bytes);
    return LQ_OK;
}

static lq_status take_string(lq_gguf_str *out, cursor *c, const char *what) {
    LQ_TRY(take_number(&out->n, c, sizeof out->n, what));
    if (out->n > MAX_STRING)
        return lq_fail(LQ_EFORMAT, "%s: a string of %llu bytes, at most %d are allowed", what,
                       (unsigned long long)out->n, MAX_STRING);
    out->s = take(c, out->n, what);
    return out->s ? LQ_OK : LQ_EFORMAT;
}

/* A key or a tensor's name: a copy with a NUL at its end and none inside. */
static lq_status take_name(char **out, cursor *c, const char *what) {
    lq_gguf_str s = {NULL, 0};
    LQ_TRY(take_string(&s, c, what));
    if (!s.n) return lq_fail(LQ_EFORMAT, "%s is empty", what);
    if (memchr(s.s, 0, s.n))
        return lq_fail(LQ_EFORMAT, "%s '%.*s' has a NUL inside", what, (int)s.n, s.s);
    *out = lq_strndup(s.s, s.n);
    return *out ? LQ_OK : LQ_EMEM;
}

static lq_status check_counts(const lq_gguf *g, const cursor *c) {
    const int64_t left = (int64_t)(c->n - c->at);
    if (g->n_tensors < 0 || g->n_tensors > left / MIN_TENSOR_BYTES)
        return lq_fail(LQ_EFORMAT, "claims %lld tensors, but only %lld bytes follow",
                       (long long)g->n_tensors, (long long)left);
    if (g->n_kv < 0 || g->n_kv > left / MIN_KV_BYTES)
        return lq_fail(LQ_EFORMAT, "claims %lld metadata keys, but only %lld bytes follow",
                       (long long)g->n_kv, (long long)left);
    return LQ_OK;
}

static lq_status read_header(lq_gguf *g, cursor *c) {
    uint32_t version;
    const void *magic = take(c, 4, "the magic");
    if (!magic) return LQ_EFORMAT;
    if (memcmp(magic, "GGUF", 4) != 0)
        return lq_fail(LQ_EFORMAT,
                       "not a GGUF file: starts with %02x %02x %02x %02x, wanted 'GGUF'",
                       c->bytes[0], c->bytes[1], c->bytes[2], c->bytes[3]);
    LQ_TRY(take_number(&version, c, sizeof version, "the version"));
    if (version && !(version & 0xffff))
        return lq_fail(LQ_EUNSUPPORTED, "a big-endian GGUF file (version reads 0x%08x); "
                       "only little-endian files are supported", (unsigned)version);
    if (version < 2 || version > LQ_GGUF_VERSION)
        return lq_fail(LQ_EUNSUPPORTED, "GGUF version %u; supported: 2 and 3", (unsigned)version);
    LQ_TRY(take_number(&g->n_tensors, c, sizeof g->n_tensors, "the number of tensors"));
    LQ_TRY(take_number(&g->n_kv, c, sizeof g->n_kv, "the number of keys"));
    return check_counts(g, c);
}

static lq_status read_strings(lq_gguf_kv *kv, cursor *c) {
    if (kv->n > (c->n - c->at) / sizeof(uint64_t))
        return lq_fail(LQ_EFORMAT, "truncated: key %s has %llu strings, only %zu bytes are left",
                       kv->key, (unsigned long long)kv->n, c->n - c->at);
    lq_gguf_str *s = lq_alloc_array((int64_t)kv->n, sizeof *s);
    if (!s) return LQ_EMEM;
    kv->data = s;
    for (uint64_t i = 0; i < kv->n; i++) LQ_TRY(take_string(&s[i], c, kv->key));
    return LQ_OK;
}

static lq_status read_type(lq_gguf_type *out, cursor *c, const char *key) {
    int32_t id;
    LQ_TRY(take_number(&id, c, sizeof id, key));
    if (id < 0 || id >= LQ_GGUF_N_TYPES)
        return lq_fail(LQ_EFORMAT, "key %s: unknown value type %d", key, (int)id);
    *out = (lq_gguf_type)id;
    return LQ_OK;
}

static lq_status read_kv(lq_gguf_kv *kv, cursor *c) {
    LQ_TRY(take_name(&kv->key, c, "a metadata key"));
    LQ_TRY(read_type(&kv->type, c, kv->key));
    kv->elem = kv->type;
    kv->n = 1;
    if (kv->type == LQ_GGUF_ARRAY) {
        LQ_TRY(read_type(&kv->elem, c, kv->key));
        if (kv->elem == LQ_GGUF_ARRAY)
            return lq_fail(LQ_EFORMAT,
                           "key %s: an array of arrays, which GGUF readers do not accept", kv->key);
        LQ_TRY(take_number(&kv->n, c, sizeof kv->n, kv->key));
        if (kv->n > MAX_ARRAY)
            return lq_fail(LQ_EFORMAT, "key %s: an array of %llu elements, at most %d are allowed",
                           kv->key, (unsigned long long)kv->n, MAX_ARRAY);
    }
    if (kv->elem == LQ_GGUF_STRING) return read_strings(kv, c);
    kv->data = take(c, kv->n * lq_gguf_type_bytes(kv->elem), kv->key);
    return kv->data ? LQ_OK : LQ_EFORMAT;
}

static lq_status read_tensor(lq_gguf_tensor *t, cursor *c) {
    uint32_t ndim;
    int32_t type;
    LQ_TRY(take_name(&t->name, c, "a tensor name"));
    if (strlen(t->name) > LQ_GGUF_MAX_NAME)
        return lq_fail(LQ_EFORMAT, "tensor %s: its name has %zu bytes, at most %d are allowed",
                       t->name, strlen(t->name), LQ_GGUF_MAX_NAME);
    LQ_TRY(take_number(&ndim, c, sizeof ndim, t->name));
    if (ndim > LQ_GGUF_MAX_DIMS)
        return lq_fail(LQ_EFORMAT, "tensor %s: %u dimensions, at most %d are allowed", t->name,
                       (unsigned)ndim, LQ_GGUF_MAX_DIMS);
    t->ndim = (int)ndim;
    for (int i = 0; i < LQ_GGUF_MAX_DIMS; i++) t->ne[i] = 1;
    LQ_TRY(take_number(t->ne, c, ndim * sizeof t->ne[0], t->name));
    LQ_TRY(take_number(&type, c, sizeof type, t->name));
    LQ_TRY(take_number(&t->offset, c, sizeof t->offset, t->name));
    LQ_TRY(lq_gguf_tensor_bytes(&t->bytes, t->name, type, t->ndim, t->ne));
    t->ggml_type = type;
    t->fmt = lq_format_by_ggml_id(type);
    return LQ_OK;
}

static int compare_entries(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

/* Names must differ; `what` they name is for the message. */
static lq_status sort_index(entry *index, int64_t n, const char *what) {
    qsort(index, (size_t)n, sizeof *index, compare_entries);
    for (int64_t i = 1; i < n; i++)
        if (strcmp(index[i - 1].name, index[i].name) == 0)
            return lq_fail(LQ_EFORMAT, "duplicate %s %s", what, index[i].name);
    return LQ_OK;
}

static lq_status read_kvs(lq_gguf *g, cursor *c) {
    const int64_t n = g->n_kv;
    g->kv = lq_alloc_array(n, sizeof *g->kv);
    g->kv_by_name = lq_alloc_array(n, sizeof *g->kv_by_name);
    if (!g->kv || !g->kv_by_name) return LQ_EMEM;
    for (int64_t i = 0; i < n; i++) {
        LQ_TRY(read_kv(&g->kv[i], c));
        g->kv_by_name[i] = (entry){g->kv[i].key, i};
    }
    return sort_index(g->kv_by_name, n, "metadata key");
}

static lq_status read_tensors(lq_gguf *g, cursor *c) {
    const int64_t n = g->n_tensors;
    g->tensor = lq_alloc_array(n, sizeof *g->tensor);
    g->tensor_by_name = lq_alloc_array(n, sizeof *g->tensor_by_name);
    if (!g->tensor || !g->tensor_by_name) return LQ_EMEM;
    for (int64_t i = 0; i < n; i++) {
        LQ_TRY(read_tensor(&g->tensor[i], c));
        g->tensor_by_name[i] = (entry){g->tensor[i].name, i};
    }
    return sort_index(g->tensor_by_name, n, "tensor");
}

static lq_status read_alignment(const lq_gguf *g, uint32_t *alignment) {
    *alignment = LQ_GGUF_ALIGNMENT;
    LQ_TRY(lq_gguf_get_u32(g, "general.alignment", false, alignment));
    if (!lq_gguf_alignment_valid(*alignment))
        return lq_fail(LQ_EFORMAT, "general.alignment is %u, must be a power of two",
                       (unsigned)*alignment);
    return LQ_OK;
}

/* Each tensor must start where the one before it, padded, ends; and lie within the file. */
static lq_status place_tensors(lq_gguf *g, const cursor *c) {
    uint32_t alignment;
    uint64_t start, offset = 0;
    LQ_TRY(read_alignment(g, &alignment));
    if (!g->n_tensors) return LQ_OK;
    if (!lq_gguf_pad(&start, c->at, alignment) || start > g->n)
        return lq_fail(LQ_EFORMAT,
                       "truncated: the tensors' data should start at %llu, the file ends at %zu",
                       (unsigned long long)start, g->n);
    for (int64_t i = 0; i < g->n_tensors; i++) {
        lq_gguf_tensor *t = &g->tensor[i];
        if (t->offset != offset)
            return lq_fail(LQ_EFORMAT, "tensor %s: its offset is %llu, must be %llu, where the one "
                           "before it ends", t->name, (unsigned long long)t->offset,
                           (unsigned long long)offset);
        if (offset > g->n - start || t->bytes > g->n - start - offset)
            return lq_fail(LQ_EFORMAT,
                           "truncated: tensor %s has %llu bytes from %llu on, the file ends at %zu",
                           t->name, (unsigned long long)t->bytes,
                           (unsigned long long)(start + offset), g->n);
        t->data = g->bytes + start + offset;
        if (!lq_gguf_pad(&offset, offset + t->bytes, alignment))
            return lq_fail(LQ_EFORMAT, "tensor %s: the tensors' sizes overflow", t->name);
    }
    return LQ_OK;
}

static lq_status parse(lq_gguf *g) {
    cursor c = {g->bytes, g->n, 0};
    LQ_TRY(read_header(g, &c));
    LQ_TRY(read_kvs(g, &c));
    LQ_TRY(read_tensors(g, &c));
    return place_tensors(g, &c);
}

static lq_status open_bytes(lq_gguf **out, const void *bytes, size_t n, const char *name) {
    lq_gguf *g = lq_alloc(sizeof *g);
    if (!g) return LQ_EMEM;
    g->bytes = bytes;
    g->n = n;
    g->whole = (lq_bytes){bytes, n};
    g->path = lq_strdup(name);
    lq_status status = g->path ? parse(g) : LQ_EMEM;
    if (status != LQ_OK) {
        lq_gguf_close(g);
        return lq_fail_context(status, "%s: ", name);
    }
    *out = g;
    return LQ_OK;
}

lq_status lq_gguf_open_memory(lq_gguf **out, const void *bytes, size_t n, const char *name) {
    return open_bytes(out, bytes, n, name);
}

lq_status lq_gguf_open_one(lq_gguf **out, const char *path) {
    lq_mapped map;
    LQ_TRY(lq_map_open(&map, path));
    lq_status status = open_bytes(out, map.bytes, map.n, path);
    if (status == LQ_OK) (*out)->map = map;
    else lq_map_close(&map);
    return status;
}

/* ---- several files as one -------------------------------------------------------------------- */

static lq_status copy_tensors(lq_gguf *g, const lq_gguf_assembly *a) {
    lq_free(g->tensor);
    lq_free(g->tensor_by_name);
    g->tensor_by_name = NULL;
    g->tensor = lq_alloc_array(a->n_tensors, sizeof *g->tensor);
    if (!g->tensor) return LQ_EMEM;
    g->tensor_by_name = lq_alloc_array(a->n_tensors, sizeof *g->tensor_by_name);
    if (!g->tensor_by_name) return LQ_EMEM;
    for (int64_t i = 0; i < a->n_tensors; i++) {
        lq_gguf_tensor *t = &g->tensor[i];
        *t = a->tensor[i];
        t->name = lq_strdup(a->tensor[i].name);
        if (!t->name) return LQ_EMEM;
        t->fmt = lq_format_by_ggml_id(t->ggml_type);
        g->n_tensors++;
        g->tensor_by_name[i] = (entry){t->name, i};
    }
    return sort_index(g->tensor_by_name, g->n_tensors, "tensor");
}

/* The files, and the keys where they are not a file's. */
static lq_status copy_regions(lq_gguf *g, const lq_gguf_assembly *a) {
    g->region = lq_alloc_array(a->n_regions + 1, sizeof *g->region);
    if (!g->region) return LQ_EMEM;
    for (int i = 0; i < a->n_regions; i++) g->region[i] = a->region[i];
    g->n_regions = a->n_regions;
    if (a->hash_keys) g->region[g->n_regions++] = g->whole;
    return LQ_OK;
}

lq_status lq_gguf_assemble(lq_gguf **out, const lq_gguf_assembly *a) {
    lq_gguf *g = NULL;
    lq_str keys = LQ_STR_INIT;
    lq_status status;
    LQ_GOTO(status, lq_gguf_writer_memory(a->keys, &keys));
    LQ_GOTO(status, open_bytes(&g, keys.s, keys.n, a->path));
    g->keys = keys;
    keys = (lq_str)LQ_STR_INIT;
    LQ_GOTO(status, copy_regions(g, a));
    status = copy_tensors(g, a);
    if (status != LQ_OK) LQ_GOTO(status, lq_fail_context(status, "%s: ", a->path));
    g->owner = a->owner;
    g->release = a->release;
    *out = g;
    g = NULL;
done:
    lq_gguf_close(g);
    lq_str_clear(&keys);
    return status;
}

void lq_gguf_close(lq_gguf *g) {
    if (!g) return;
    for (int64_t i = 0; g->kv && i < g->n_kv; i++) {
        lq_free(g->kv[i].key);
        if (g->kv[i].elem == LQ_GGUF_STRING) lq_free((void *)g->kv[i].data);
    }
    for (int64_t i = 0; g->tensor && i < g->n_tensors; i++) lq_free(g->tensor[i].name);
    lq_free(g->kv);
    lq_free(g->tensor);
    lq_free(g->kv_by_name);
    lq_free(g->tensor_by_name);
    lq_free(g->path);
    lq_map_close(&g->map);
    lq_str_clear(&g->keys);
    lq_free(g->region);
    if (g->release) g->release(g->owner);
    lq_free(g);
}

const char *lq_gguf_path(const lq_gguf *g) { return g->path; }

const lq_bytes *lq_gguf_regions(const lq_gguf *g, int *n) {
    *n = g->region ? g->n_regions : 1;
    return g->region ? g->region : &g->whole;
}

size_t lq_gguf_bytes(const lq_gguf *g) {
    size_t total = 0;
    int n;
    const lq_bytes *region = lq_gguf_regions(g, &n);
    for (int i = 0; i < n; i++) total += region[i].n;
    return total;
}

int64_t lq_gguf_n_kv(const lq_gguf *g) { return g->n_kv; }
const lq_gguf_kv *lq_gguf_kv_at(const lq_gguf *g, int64_t i) { return &g->kv[i]; }
int64_t lq_gguf_n_tensors(const lq_gguf *g) { return g->n_tensors; }
const lq_gguf_tensor *lq_gguf_tensor_at(const lq_gguf *g, int64_t i) { return &g->tensor[i]; }

static int64_t find(const entry *index, int64_t n, const char *name) {
    const entry key = {name, 0};
    const entry *found = bsearch(&key, index, (size_t)n, sizeof *index, compare_entries);
    return found ? found->index : -1;
}

const lq_gguf_kv *lq_gguf_find(const lq_gguf *g, const char *key) {
    const int64_t i = find(g->kv_by_name, g->n_kv, key);
    return i < 0 ? NULL : &g->kv[i];
}

const lq_gguf_tensor *lq_gguf_find_tensor(const lq_gguf *g, const char *name) {
    const int64_t i = find(g->tensor_by_name, g->n_tensors, name);
    return i < 0 ? NULL : &g->tensor[i];
}
