/* Split models: NAME-00001-of-0000N.gguf holds the keys, it and its neighbours hold the tensors.
 * Every part is validated as a file of its own, then against the first: its number, the count of
 * parts, the count of all tensors. */
#include "gguf_parts.h"

#include <stdio.h>
#include <string.h>

enum { SUFFIX_BYTES = 32 };

typedef struct parts {
    lq_gguf **part;
    int n;
} parts;

static void release(void *owner) {
    parts *p = owner;
    for (int i = 0; p->part && i < p->n; i++) lq_gguf_close(p->part[i]);
    lq_free(p->part);
    lq_free(p);
}

/* A split key: u16 for the counts of files, i32 for that of tensors. */
static lq_status get_count(const lq_gguf *g, const char *key, int64_t *out) {
    const lq_gguf_kv *kv = lq_gguf_find(g, key);
    uint16_t u16;
    int32_t i32;
    if (kv && kv->type == LQ_GGUF_U16) {
        memcpy(&u16, kv->data, sizeof u16);
        *out = u16;
    } else if (kv && kv->type == LQ_GGUF_I32) {
        memcpy(&i32, kv->data, sizeof i32);
        *out = i32;
    } else {
        return lq_fail(LQ_EFORMAT, "%s: key %s is missing or of another type", lq_gguf_path(g),
                       key);
    }
    return LQ_OK;
}

static lq_status expect(const lq_gguf *g, const char *key, int64_t want) {
    int64_t found = 0;
    LQ_TRY(get_count(g, key, &found));
    if (found == want) return LQ_OK;
    return lq_fail(LQ_EFORMAT, "%s: key %s is %lld, must be %lld", lq_gguf_path(g), key,
                   (long long)found, (long long)want);
}

/* The name without "-00001-of-0000N.gguf"; llama.cpp finds the other parts by it, too. */
static lq_status stem_of(char **out, const char *path, int n_parts) {
    char suffix[SUFFIX_BYTES];
    snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", 1, n_parts);
    const size_t n = strlen(path), k = strlen(suffix);
    if (n <= k || strcmp(path + n - k, suffix) != 0)
        return lq_fail(LQ_EVALUE, "%s: the first part of a model in %d files must be named "
                       "NAME%s", path, n_parts, suffix);
    *out = lq_strndup(path, n - k);
    return *out ? LQ_OK : LQ_EMEM;
}

static lq_status open_others(parts *p, const char *stem, int n_parts) {
    for (int i = 1; i < n_parts; i++) {
        char *path = lq_sprintf("%s-%05d-of-%05d.gguf", stem, i + 1, n_parts);
        lq_status status = path ? lq_gguf_open_one(&p->part[i], path) : LQ_EMEM;
        lq_free(path);
        LQ_TRY(status);
        p->n++;
        LQ_TRY(expect(p->part[i], "split.no", i));
        LQ_TRY(expect(p->part[i], "split.count", n_parts));
    }
    return LQ_OK;
}

static lq_status collect_tensors(lq_gguf_tensor **out, int64_t *n, const parts *p) {
    int64_t at = 0;
    *n = 0;
    for (int i = 0; i < p->n; i++) *n += lq_gguf_n_tensors(p->part[i]);
    LQ_TRY(expect(p->part[0], "split.tensors.count", *n));
    *out = lq_alloc_array(*n, sizeof **out);
    if (!*out) return LQ_EMEM;
    for (int i = 0; i < p->n; i++)
        for (int64_t t = 0; t < lq_gguf_n_tensors(p->part[i]); t++)
            (*out)[at++] = *lq_gguf_tensor_at(p->part[i], t);
    return LQ_OK;
}

static lq_status copy_keys(lq_gguf_writer **out, const lq_gguf *first) {
    LQ_TRY(lq_gguf_writer_new(out));
    LQ_TRY(lq_gguf_writer_copy_kv(*out, first));
    static const char *const split[] = {"split.no", "split.count", "split.tensors.count"};
    for (int i = 0; i < LQ_ARRAY_LEN(split); i++) lq_gguf_writer_remove(*out, split[i]);
    return LQ_OK;
}

/* On failure the first part is still its caller's, all others are p's. */
static lq_status assemble(lq_gguf **out, parts *p, int n_parts) {
    char *stem = NULL;
    lq_gguf_writer *keys = NULL;
    lq_gguf_tensor *tensor = NULL;
    int n;
    lq_gguf_assembly a = {.owner = p, .release = release, .n_regions = n_parts};
    lq_status status;
    lq_bytes *region = lq_alloc_array(n_parts, sizeof *region);
    LQ_GOTO(status, region ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, stem_of(&stem, lq_gguf_path(p->part[0]), n_parts));
    LQ_GOTO(status, open_others(p, stem, n_parts));
    LQ_GOTO(status, collect_tensors(&tensor, &a.n_tensors, p));
    LQ_GOTO(status, copy_keys(&keys, p->part[0]));
    for (int i = 0; i < n_parts; i++) region[i] = *lq_gguf_regions(p->part[i], &n);
    a.path = lq_gguf_path(p->part[0]);
    a.keys = keys;
    a.tensor = tensor;
    a.region = region;
    status = lq_gguf_assemble(out, &a);
done:
    lq_gguf_writer_free(keys);
    lq_free(tensor);
    lq_free(region);
    lq_free(stem);
    return status;
}

/* Takes `first` over unless it fails. */
static lq_status open_split(lq_gguf **out, lq_gguf *first, int n_parts) {
    parts *p = lq_alloc(sizeof *p);
    if (!p) return LQ_EMEM;
    p->part = lq_alloc_array(n_parts, sizeof(lq_gguf *));
    lq_status status = LQ_EMEM;
    if (p->part) {
        p->part[0] = first;
        p->n = 1;
        status = assemble(out, p, n_parts);
    }
    if (status == LQ_OK) return LQ_OK;
    if (p->part) p->part[0] = NULL;
    release(p);
    return status;
}

static lq_status count_parts(const lq_gguf *g, int64_t *n) {
    int64_t number = 0;
    *n = 1;
    if (!lq_gguf_find(g, "split.count")) return LQ_OK;
    LQ_TRY(get_count(g, "split.count", n));
    LQ_TRY(get_count(g, "split.no", &number));
    if (number == 0) return LQ_OK;
    return lq_fail(LQ_EVALUE, "%s: is file %lld of %lld of a split model; open the first",
                   lq_gguf_path(g), (long long)number + 1, (long long)*n);
}

lq_status lq_gguf_open(lq_gguf **out, const char *path) {
    lq_gguf *first = NULL;
    int64_t n_parts = 0;
    LQ_TRY(lq_gguf_open_one(&first, path));
    lq_status status = count_parts(first, &n_parts);
    if (status == LQ_OK && n_parts > 1) {
        status = open_split(out, first, (int)n_parts);
        if (status == LQ_OK) return LQ_OK;
    }
    if (status == LQ_OK) *out = first;
    else lq_gguf_close(first);
    return status;
}
