/* Writing safetensors files, whole or in shards. See safetensors.h. */
#include "atomic_file.h"
#include "safetensors.h"
#include "str.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int by_type_and_name(const void *x, const void *y) {
    const lq_st_tensor *a = *(const lq_st_tensor *const *)x, *b = *(const lq_st_tensor *const *)y;
    if (a->fmt->bytes != b->fmt->bytes) return b->fmt->bytes - a->fmt->bytes;
    return strcmp(a->name, b->name);
}

/* `text` as JSON writes a string. */
static void add_quoted(lq_str *out, const char *text) {
    json_t *string = json_string(text);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted) lq_str_puts(out, quoted);
    else out->failed = true;
    free(quoted);
    json_decref(string);
}

/* The length, the JSON, and spaces up to a multiple of 8. */
static lq_status make_header(lq_str *out, const lq_st_tensor *const *t, int64_t n) {
    uint64_t length = 0, at = 0;
    lq_str_add(out, (const char *)&length, sizeof length);
    lq_str_puts(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t i = 0; i < n; i++) {
        lq_str_putc(out, ',');
        add_quoted(out, t[i]->name);
        lq_str_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", t[i]->fmt->label);
        for (int d = 0; d < t[i]->ndim; d++)
            lq_str_printf(out, "%s%lld", d ? "," : "", (long long)t[i]->dim[d]);
        lq_str_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                      (unsigned long long)(at + t[i]->bytes));
        at += t[i]->bytes;
    }
    lq_str_putc(out, '}');
    while (!out->failed && out->n % sizeof length) lq_str_putc(out, ' ');
    LQ_TRY(lq_str_status(out));
    length = out->n - sizeof length;
    memcpy(out->s, &length, sizeof length);
    return LQ_OK;
}

static lq_status put(FILE *f, const void *data, size_t n, const char *path) {
    if (fwrite(data, 1, n, f) == n) return LQ_OK;
    return lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
}

/* In the order of t. */
static lq_status write_file(const char *path, const lq_st_tensor *const *t, int64_t n) {
    lq_atomic_file file = {NULL, NULL, NULL};
    lq_str header = LQ_STR_INIT;
    lq_status status;
    LQ_GOTO(status, make_header(&header, t, n));
    LQ_GOTO(status, lq_atomic_open(&file, path));
    LQ_GOTO(status, put(file.f, header.s, header.n, path));
    for (int64_t i = 0; i < n; i++) LQ_GOTO(status, put(file.f, t[i]->data, t[i]->bytes, path));
    status = lq_atomic_commit(&file);
done:
    lq_atomic_abort(&file);
    lq_str_clear(&header);
    return status;
}

static const lq_st_tensor **sorted(const lq_st_tensor *tensor, int64_t n) {
    const lq_st_tensor **t = lq_alloc_array(n, sizeof *t);
    if (!t) return NULL;
    for (int64_t i = 0; i < n; i++) t[i] = &tensor[i];
    if (n) qsort(t, (size_t)n, sizeof *t, by_type_and_name);
    return t;
}

lq_status lq_safetensors_write(const char *path, const lq_st_tensor *tensor, int64_t n) {
    const lq_st_tensor **t = sorted(tensor, n);
    if (!t) return LQ_EMEM;
    const lq_status status = write_file(path, t, n);
    lq_free(t);
    return status;
}

/* ---- shards ----------------------------------------------------------------------------------- */

/* The first tensor that the shard which starts at `first` has no room for. */
static int64_t shard_end(const lq_st_tensor *const *t, int64_t first, int64_t n, uint64_t room) {
    int64_t i = first + 1;
    for (uint64_t used = t[first]->bytes; i < n && t[i]->bytes <= room - used; i++)
        used += t[i]->bytes;
    return i;
}

static int count_shards(const lq_st_tensor *const *t, int64_t n, uint64_t room) {
    int count = 0;
    for (int64_t i = 0; i < n; count++) {
        const uint64_t limit = t[i]->bytes > room ? t[i]->bytes : room;
        i = shard_end(t, i, n, limit);
    }
    return count;
}

static lq_status write_index(const char *path, lq_str *map, uint64_t bytes) {
    lq_str text = LQ_STR_INIT;
    lq_str_printf(&text, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
                  (unsigned long long)bytes);
    if (map->failed) text.failed = true;
    lq_str_puts(&text, lq_str_text(map));
    lq_str_puts(&text, "\n  }\n}\n");
    lq_status status = lq_str_status(&text);
    if (status == LQ_OK) status = lq_write_file(path, text.s, text.n);
    lq_str_clear(&text);
    return status;
}

static lq_status write_shards(const char *dir, const char *stem, const lq_st_tensor *const *t,
                              int64_t n, uint64_t room, int count) {
    lq_str map = LQ_STR_INIT;
    lq_status status = LQ_OK;
    char *path = NULL;
    uint64_t bytes = 0;
    int64_t i = 0;
    for (int shard = 1; shard <= count; shard++) {
        const uint64_t limit = t[i]->bytes > room ? t[i]->bytes : room;
        const int64_t first = i, end = shard_end(t, i, n, limit);
        path = lq_sprintf("%s/%s-%05d-of-%05d.safetensors", dir, stem, shard, count);
        LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
        LQ_GOTO(status, write_file(path, t + first, end - first));
        for (; i < end; i++) {
            lq_str_puts(&map, map.n ? ",\n    " : "\n    ");
            add_quoted(&map, t[i]->name);
            lq_str_puts(&map, ": ");
            add_quoted(&map, strrchr(path, '/') + 1);
            bytes += t[i]->bytes;
        }
        lq_free(path);
        path = NULL;
    }
    path = lq_sprintf("%s/%s.safetensors.index.json", dir, stem);
    LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
    status = write_index(path, &map, bytes);
done:
    lq_free(path);
    lq_str_clear(&map);
    return status;
}

lq_status lq_safetensors_write_dir(const char *dir, const char *stem, const lq_st_tensor *tensor,
                                   int64_t n, uint64_t shard_bytes) {
    lq_status status = LQ_OK;
    char *path = lq_sprintf("%s/%s.safetensors", dir, stem);
    const lq_st_tensor **t = sorted(tensor, n);
    LQ_GOTO(status, path && t ? LQ_OK : LQ_EMEM);
    const int count = count_shards(t, n, shard_bytes);
    status = count <= 1 ? write_file(path, t, n)
                        : write_shards(dir, stem, t, n, shard_bytes, count);
done:
    lq_free(path);
    lq_free(t);
    return status;
}
