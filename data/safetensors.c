/* Reading one safetensors file. The header's length is checked before it is parsed, every number
 * in it before it is used; a mistake in a tensor's entry names the tensor. See safetensors.h. */
#include "safetensors_parts.h"

#include "jsonl.h"
#include "str.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, MAX_HEADER = 100 * 1000 * 1000 };

static const struct { const char *name; const lq_format *fmt; int bytes; } types[] = {
    {"F32", &lq_f32, 4}, {"F16", &lq_f16, 2}, {"BF16", &lq_bf16, 2}, {"F64", NULL, 8},
    {"I64", NULL, 8},    {"U64", NULL, 8},    {"I32", NULL, 4},      {"U32", NULL, 4},
    {"I16", NULL, 2},    {"U16", NULL, 2},    {"I8", NULL, 1},       {"U8", NULL, 1},
    {"BOOL", NULL, 1},   {"F8_E4M3", NULL, 1}, {"F8_E5M2", NULL, 1}, {"F8_E8M0", NULL, 1},
};

const char *lq_st_shape(char text[96], const lq_st_tensor *t) {
    int at = snprintf(text, 96, "(");
    for (int i = 0; i < t->ndim && at < 64; i++)
        at += snprintf(text + at, (size_t)(96 - at), "%s%lld", i ? "," : "", (long long)t->dim[i]);
    snprintf(text + at, (size_t)(96 - at), ")");
    return text;
}

/* ---- one entry of the header ----------------------------------------------------------------- */

static lq_status read_type(lq_st_tensor *t, int *bytes, const json_t *entry) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    for (int i = 0; name && i < LQ_ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) != 0) continue;
        t->dtype = types[i].name;
        t->fmt = types[i].fmt;
        *bytes = types[i].bytes;
        return LQ_OK;
    }
    return lq_fail(LQ_EFORMAT, "tensor %s: dtype is %s, must be one of the format's (F32, F16, "
                   "BF16, I64 ...)", t->name, name ? name : "not a string");
}

/* *bytes: of one element before, of the tensor after. */
static lq_status read_shape(lq_st_tensor *t, uint64_t *bytes, const json_t *entry) {
    size_t i;
    json_t *size;
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return lq_fail(LQ_EFORMAT, "tensor %s: shape is %s, must be an array", t->name,
                       lq_json_type_name(shape));
    if (json_array_size(shape) > LQ_ST_MAX_DIMS)
        return lq_fail(LQ_EFORMAT, "tensor %s: %zu dimensions, at most %d are allowed", t->name,
                       json_array_size(shape), LQ_ST_MAX_DIMS);
    t->ndim = (int)json_array_size(shape);
    json_array_foreach(shape, i, size) {
        const json_int_t n = json_is_integer(size) ? json_integer_value(size) : -1;
        if (n < 0)
            return lq_fail(LQ_EFORMAT, "tensor %s: size %zu of its shape is no whole number from 0",
                           t->name, i);
        if (n && *bytes > INT64_MAX / (uint64_t)n)
            return lq_fail(LQ_EFORMAT, "tensor %s: its size in bytes overflows", t->name);
        t->dim[i] = n;
        *bytes *= (uint64_t)n;
    }
    return LQ_OK;
}

static lq_status read_offsets(uint64_t at[2], const lq_st_tensor *t, const json_t *entry,
                              uint64_t n_data) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (json_array_size(offsets) != 2)
        return lq_fail(LQ_EFORMAT, "tensor %s: data_offsets must be two numbers", t->name);
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_array_get(offsets, i);
        const json_int_t offset = json_is_integer(value) ? json_integer_value(value) : -1;
        if (offset < 0 || (uint64_t)offset > n_data)
            return lq_fail(LQ_EFORMAT,
                           "tensor %s: its data %s at %lld, outside of the file's %llu data bytes",
                           t->name, i ? "ends" : "begins", (long long)offset,
                           (unsigned long long)n_data);
        at[i] = (uint64_t)offset;
    }
    if (at[0] > at[1])
        return lq_fail(LQ_EFORMAT, "tensor %s: data_offsets begin at %llu, end before, at %llu",
                       t->name, (unsigned long long)at[0], (unsigned long long)at[1]);
    return LQ_OK;
}

/* t->name is set. */
static lq_status read_entry(lq_st_tensor *t, const json_t *entry, const uint8_t *data,
                            uint64_t n_data) {
    char shape[96];
    uint64_t at[2];
    int element = 0;
    if (!json_is_object(entry))
        return lq_fail(LQ_EFORMAT, "tensor %s: its entry is %s, must be an object", t->name,
                       lq_json_type_name(entry));
    LQ_TRY(read_type(t, &element, entry));
    t->bytes = (uint64_t)element;
    LQ_TRY(read_shape(t, &t->bytes, entry));
    LQ_TRY(read_offsets(at, t, entry, n_data));
    if (at[1] - at[0] != t->bytes)
        return lq_fail(LQ_EFORMAT, "tensor %s: data_offsets span %llu bytes, %s %s takes %llu",
                       t->name, (unsigned long long)(at[1] - at[0]), t->dtype,
                       lq_st_shape(shape, t), (unsigned long long)t->bytes);
    t->data = data + at[0];
    return LQ_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int by_place(const void *x, const void *y) {
    const lq_st_tensor *a = x, *b = y;
    if (a->data != b->data) return (const char *)a->data < (const char *)b->data ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);   /* empty ones first */
}

/* Sorted by place, the tensors must cover the data without holes and overlaps. */
static lq_status check_tiling(const lq_st_tensor *t, int64_t n, const uint8_t *data,
                              uint64_t n_data) {
    const uint8_t *end = data;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *begin = t[i].data;
        if (begin != end)
            return lq_fail(LQ_EFORMAT, "tensor %s: its data begins at %llu, %s %llu, where the one "
                           "before it ends", t[i].name, (unsigned long long)(begin - data),
                           begin < end ? "overlapping; must be" : "leaving a hole; must be",
                           (unsigned long long)(end - data));
        end += t[i].bytes;
    }
    if (end == data + n_data) return LQ_OK;
    return lq_fail(LQ_EFORMAT, "the tensors have %llu bytes, the file has %llu for them",
                   (unsigned long long)(end - data), (unsigned long long)n_data);
}

static lq_status read_entries(lq_safetensors *s, json_t *header, const uint8_t *data,
                              uint64_t n_data) {
    const int64_t first = s->n;
    const char *key;
    json_t *entry;
    LQ_TRY(lq_reserve((void **)&s->tensor, &s->cap, s->n + (int64_t)json_object_size(header),
                      sizeof *s->tensor));
    json_object_foreach(header, key, entry) {
        if (strcmp(key, "__metadata__") == 0) continue;
        lq_st_tensor *t = &s->tensor[s->n];
        *t = (lq_st_tensor){.name = lq_strdup(key)};
        if (!t->name) return LQ_EMEM;
        s->n++;
        LQ_TRY(read_entry(t, entry, data, n_data));
    }
    qsort(s->tensor + first, (size_t)(s->n - first), sizeof *s->tensor, by_place);
    return check_tiling(s->tensor + first, s->n - first, data, n_data);
}

static lq_status parse(lq_safetensors *s, const lq_mapped *map) {
    json_error_t error;
    uint64_t n = 0;
    if (map->n < LENGTH_BYTES)
        return lq_fail(LQ_EFORMAT, "truncated: %zu bytes, a header's length takes %d", map->n,
                       LENGTH_BYTES);
    memcpy(&n, map->bytes, LENGTH_BYTES);
    if (n > MAX_HEADER)
        return lq_fail(LQ_EFORMAT, "not a safetensors file: its header has %llu bytes, at most %d "
                       "are allowed", (unsigned long long)n, MAX_HEADER);
    if (n > map->n - LENGTH_BYTES)
        return lq_fail(LQ_EFORMAT, "truncated: the header has %llu bytes, the file %zu",
                       (unsigned long long)n, map->n);
    const char *text = (const char *)map->bytes + LENGTH_BYTES;
    json_t *header = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!header) return lq_fail(LQ_EFORMAT, "the header is not JSON: %s", error.text);
    lq_status status;
    if (json_is_object(header))
        status = read_entries(s, header, map->bytes + LENGTH_BYTES + n, map->n - LENGTH_BYTES - n);
    else
        status = lq_fail(LQ_EFORMAT, "the header is %s, must be an object",
                         lq_json_type_name(header));
    json_decref(header);
    return status;
}

lq_status lq_safetensors_add_file(lq_safetensors *s, const char *path) {
    lq_mapped *maps = lq_resize(s->map, s->n_maps + 1, sizeof *maps);
    if (!maps) return LQ_EMEM;
    s->map = maps;
    LQ_TRY(lq_map_open(&maps[s->n_maps], path));
    const lq_status status = parse(s, &maps[s->n_maps++]);
    return status == LQ_OK ? LQ_OK : lq_fail_context(status, "%s: ", path);
}

static int by_name(const void *x, const void *y) {
    return strcmp(((const lq_st_tensor *)x)->name, ((const lq_st_tensor *)y)->name);
}

void lq_safetensors_sort(lq_safetensors *s) {
    if (s->n) qsort(s->tensor, (size_t)s->n, sizeof *s->tensor, by_name);
}

lq_status lq_safetensors_open(lq_safetensors **out, const char *path) {
    lq_safetensors *s = lq_alloc(sizeof *s);
    if (!s) return LQ_EMEM;
    const lq_status status = lq_safetensors_add_file(s, path);
    if (status != LQ_OK) {
        lq_safetensors_close(s);
        return status;
    }
    lq_safetensors_sort(s);
    *out = s;
    return LQ_OK;
}

void lq_safetensors_close(lq_safetensors *s) {
    if (!s) return;
    for (int64_t i = 0; i < s->n; i++) lq_free(s->tensor[i].name);
    for (int i = 0; i < s->n_maps; i++) lq_map_close(&s->map[i]);
    lq_free(s->tensor);
    lq_free(s->map);
    lq_free(s);
}

int64_t lq_safetensors_n(const lq_safetensors *s) { return s->n; }
const lq_st_tensor *lq_safetensors_at(const lq_safetensors *s, int64_t i) { return &s->tensor[i]; }
int lq_safetensors_n_files(const lq_safetensors *s) { return s->n_maps; }

const void *lq_safetensors_file(const lq_safetensors *s, int i, size_t *bytes) {
    *bytes = s->map[i].n;
    return s->map[i].bytes;
}

const lq_st_tensor *lq_safetensors_find(const lq_safetensors *s, const char *name) {
    const lq_st_tensor key = {.name = (char *)name};
    return s->n ? bsearch(&key, s->tensor, (size_t)s->n, sizeof key, by_name) : NULL;
}
