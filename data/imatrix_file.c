/* llama.cpp's files of importance matrices. GGUF: tensors NAME.in_sum2 (columns, matrices) and
 * NAME.counts (1, matrices), F32, and keys imatrix.*. The older binary file, little-endian: i32
 * entries; per entry i32 length, name, i32 calls, i32 n, n F32 (sums of one mean per call); then
 * i32 calls and a dataset's name with its i32 length, which may be missing. */
#include "atomic_file.h"
#include "gguf.h"
#include "imatrix.h"
#include "ggml_types.h"

#include <string.h>

static const char sums[] = ".in_sum2", counts[] = ".counts";

/* ---- GGUF ------------------------------------------------------------------------------------ */

static bool ends_with(const char *name, const char *suffix) {
    const size_t n = strlen(name), tail = strlen(suffix);
    return n > tail && strcmp(name + n - tail, suffix) == 0;
}

static lq_status read_entry(lq_imatrix *im, const lq_gguf *g, const lq_gguf_tensor *s,
                            const char *name) {
    char *count_name = lq_sprintf("%s%s", name, counts);
    if (!count_name) return LQ_EMEM;
    const lq_gguf_tensor *c = lq_gguf_find_tensor(g, count_name);
    lq_free(count_name);
    if (!c || s->ggml_type != LQ_TYPE_F32 || c->ggml_type != LQ_TYPE_F32)
        return lq_fail(LQ_EFORMAT, "%s: wanted F32 tensors %s and %s of it", name, sums + 1,
                       counts + 1);
    const int64_t n = (int64_t)(s->bytes / sizeof(float));
    const int64_t n_counts = (int64_t)(c->bytes / sizeof(float));
    if (n < 1 || n_counts < 1 || n % n_counts)
        return lq_fail(LQ_EFORMAT, "%s: %lld sums and %lld counts do not go together", name,
                       (long long)n, (long long)n_counts);
    lq_imatrix_entry *e;
    LQ_TRY(lq_imatrix_add(&e, im, name, n, n_counts));
    memcpy(e->sum, s->data, s->bytes);
    memcpy(e->count, c->data, c->bytes);
    return LQ_OK;
}

static lq_status read_keys(lq_imatrix *im, const lq_gguf *g) {
    LQ_TRY(lq_gguf_get_u32(g, "imatrix.chunk_count", true, &im->n_chunks));
    LQ_TRY(lq_gguf_get_u32(g, "imatrix.chunk_size", true, &im->chunk_size));
    const lq_gguf_kv *kv = lq_gguf_find(g, "imatrix.datasets");
    if (!kv || kv->type != LQ_GGUF_ARRAY || kv->elem != LQ_GGUF_STRING)
        return lq_fail(LQ_EFORMAT, "key imatrix.datasets, a list of strings, is missing");
    if (kv->n == 0) return LQ_OK;
    const lq_gguf_str *first = kv->data;
    lq_free(im->dataset);
    im->dataset = lq_strndup(first->s, first->n);
    return im->dataset ? LQ_OK : LQ_EMEM;
}

static lq_status read_gguf(lq_imatrix *im, const lq_gguf *g) {
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        if (!ends_with(t->name, sums)) continue;
        char *name = lq_strndup(t->name, strlen(t->name) - (sizeof sums - 1));
        if (!name) return LQ_EMEM;
        const lq_status status = read_entry(im, g, t, name);
        lq_free(name);
        LQ_TRY(status);
    }
    if (im->n == 0)
        return lq_fail(LQ_EFORMAT, "is no importance matrix: found no tensor NAME%s", sums);
    return read_keys(im, g);
}

/* ---- the older file -------------------------------------------------------------------------- */

typedef struct bytes { const char *at; size_t left; } bytes;

static bool take(bytes *b, void *out, size_t n) {
    if (b->left < n) return false;
    memcpy(out, b->at, n);
    b->at += n;
    b->left -= n;
    return true;
}

/* A length that the rest of the file can hold. */
static bool take_length(bytes *b, int32_t *n, size_t each) {
    return take(b, n, sizeof *n) && *n >= 0 && (size_t)*n <= b->left / each;
}

static lq_status read_old_entry(lq_imatrix *im, bytes *b, int number) {
    int32_t length, calls = 0, n = 0;
    lq_imatrix_entry *e;
    if (!take_length(b, &length, 1) || length < 1)
        return lq_fail(LQ_EFORMAT, "the name of entry %d is cut short", number);
    char *name = lq_strndup(b->at, (size_t)length);
    if (!name) return LQ_EMEM;
    b->at += length;
    b->left -= (size_t)length;
    lq_status status;
    if (!take(b, &calls, sizeof calls) || !take_length(b, &n, sizeof(float)) || n < 1)
        LQ_GOTO(status, lq_fail(LQ_EFORMAT, "%s: its numbers are cut short", name));
    LQ_GOTO(status, lq_imatrix_add(&e, im, name, n, 1));
    e->count[0] = calls > 0 ? (float)calls : 1;
    take(b, e->sum, (size_t)n * sizeof *e->sum);
done:
    lq_free(name);
    return status;
}

static lq_status read_old(lq_imatrix *im, bytes b) {
    int32_t n, calls, length;
    if (!take(&b, &n, sizeof n) || n < 1)
        return lq_fail(LQ_EFORMAT, "is no importance matrix: neither a GGUF nor the older file");
    for (int i = 0; i < n; i++) LQ_TRY(read_old_entry(im, &b, i));
    if (!take(&b, &calls, sizeof calls)) return LQ_OK;
    im->n_chunks = calls > 0 ? (uint32_t)calls : 0;
    if (!take_length(&b, &length, 1) || length == 0) return LQ_OK;
    lq_free(im->dataset);
    im->dataset = lq_strndup(b.at, (size_t)length);
    return im->dataset ? LQ_OK : LQ_EMEM;
}

/* ---- both ------------------------------------------------------------------------------------ */

static lq_status read_either(lq_imatrix *im, const char *path) {
    char *file = NULL;
    size_t n;
    lq_gguf *g = NULL;
    lq_status status;
    LQ_GOTO(status, lq_read_file(&file, &n, path));
    if (n >= 4 && memcmp(file, "GGUF", 4) == 0) {
        LQ_GOTO(status, lq_gguf_open_memory(&g, file, n, path));
        status = read_gguf(im, g);
    } else {
        status = read_old(im, (bytes){file, n});
    }
    if (status == LQ_OK) status = lq_imatrix_finish(im);
    if (status != LQ_OK && status != LQ_EMEM) lq_fail_context(status, "%s: ", path);
done:
    lq_gguf_close(g);
    lq_free(file);
    return status;
}

lq_status lq_imatrix_read(lq_imatrix **out, const char *path) {
    LQ_TRY(lq_imatrix_new(out, "", 0));
    const lq_status status = read_either(*out, path);
    if (status == LQ_OK) (*out)->path = lq_strdup(path);
    if (status == LQ_OK && (*out)->path) return LQ_OK;
    lq_imatrix_free(*out);
    *out = NULL;
    return status == LQ_OK ? LQ_EMEM : status;
}

static lq_status add_tensor(lq_gguf_writer *w, const char *name, const char *suffix, int64_t cols,
                            int64_t rows, const float *data) {
    const int64_t ne[] = {cols, rows};
    char *full = lq_sprintf("%s%s", name, suffix);
    if (!full) return LQ_EMEM;
    const lq_status status =
        lq_gguf_writer_add(w, full, LQ_TYPE_F32, rows > 1 ? 2 : 1, ne, data,
                           (uint64_t)(cols * rows) * sizeof *data);
    lq_free(full);
    return status;
}

static lq_status fill(lq_gguf_writer *w, const lq_imatrix *im) {
    const lq_gguf_str dataset = {im->dataset, strlen(im->dataset)};
    LQ_TRY(lq_gguf_writer_set_string(w, "general.type", "imatrix"));
    LQ_TRY(lq_gguf_writer_set_strings(w, "imatrix.datasets", &dataset, dataset.n > 0));
    LQ_TRY(lq_gguf_writer_set_u32(w, "imatrix.chunk_count", im->n_chunks));
    LQ_TRY(lq_gguf_writer_set_u32(w, "imatrix.chunk_size", im->chunk_size));
    for (int64_t i = 0; i < im->n; i++) {
        const lq_imatrix_entry *e = &im->entry[i];
        LQ_TRY(add_tensor(w, e->name, sums, e->n / e->n_counts, e->n_counts, e->sum));
        LQ_TRY(add_tensor(w, e->name, counts, 1, e->n_counts, e->count));
    }
    return LQ_OK;
}

lq_status lq_imatrix_write(const lq_imatrix *im, const char *path) {
    lq_gguf_writer *w = NULL;
    LQ_TRY(lq_gguf_writer_new(&w));
    lq_status status = fill(w, im);
    if (status == LQ_OK) status = lq_gguf_writer_write(w, path);
    lq_gguf_writer_free(w);
    return status;
}
