/* GGUF v3 files: map and validate everything, read by key or name, write atomically. Little-endian.
 * Format: ggml-org/ggml docs/gguf.md is the written specification; magic, bounds, types, alignment,
 * offsets (exactly the running padded sum) are checked as strictly as ggml's gguf.cpp does. */
#ifndef LOQUAT_GGUF_H
#define LOQUAT_GGUF_H

#include "format.h"
#include "hash.h"
#include "str.h"

typedef enum lq_gguf_type {
    LQ_GGUF_U8, LQ_GGUF_I8, LQ_GGUF_U16, LQ_GGUF_I16, LQ_GGUF_U32, LQ_GGUF_I32, LQ_GGUF_F32,
    LQ_GGUF_BOOL, LQ_GGUF_STRING, LQ_GGUF_ARRAY, LQ_GGUF_U64, LQ_GGUF_I64, LQ_GGUF_F64,
    LQ_GGUF_N_TYPES
} lq_gguf_type;

typedef struct lq_gguf_str { const char *s; uint64_t n; } lq_gguf_str; /* not NUL-terminated */

typedef struct lq_gguf_kv {
    char *key;               /* NUL-terminated */
    lq_gguf_type type;       /* of the value; LQ_GGUF_ARRAY: of `elem` */
    lq_gguf_type elem;       /* element type; equals type for scalars */
    uint64_t n;              /* elements; 1 for scalars */
    const void *data;        /* n packed numbers (unaligned: memcpy), or n lq_gguf_str */
} lq_gguf_kv;

typedef struct lq_gguf_tensor {
    char *name;
    int ggml_type;           /* as in the file */
    const lq_format *fmt;    /* NULL: a type that Loquat does not read */
    int ndim;                /* 0..4 */
    int64_t ne[4];           /* ne[0] is the row length; unused ones are 1 */
    uint64_t offset;         /* from the start of the data section */
    uint64_t bytes;
    const void *data;        /* in the mapping */
} lq_gguf_tensor;

typedef struct lq_gguf lq_gguf;

/* Maps `path` read-only and validates header, metadata, tensor table and bounds. The first part of
 * a split model opens all of them as one file. Messages start with the path and name what was found
 * and what was wanted. */
lq_status lq_gguf_open(lq_gguf **out, const char *path);
/* The same over memory that the caller keeps alive (tests, fuzzing). */
lq_status lq_gguf_open_memory(lq_gguf **out, const void *bytes, size_t n, const char *name);
void lq_gguf_close(lq_gguf *g);

const char *lq_gguf_path(const lq_gguf *g);
/* What was read: one file, or the parts of several, in order. */
const lq_bytes *lq_gguf_regions(const lq_gguf *g, int *n);
size_t lq_gguf_bytes(const lq_gguf *g);          /* of all regions */
int64_t lq_gguf_n_kv(const lq_gguf *g);
const lq_gguf_kv *lq_gguf_kv_at(const lq_gguf *g, int64_t i);
const lq_gguf_kv *lq_gguf_find(const lq_gguf *g, const char *key);          /* NULL if absent */
int64_t lq_gguf_n_tensors(const lq_gguf *g);
const lq_gguf_tensor *lq_gguf_tensor_at(const lq_gguf *g, int64_t i);
const lq_gguf_tensor *lq_gguf_find_tensor(const lq_gguf *g, const char *name); /* NULL if absent */

/* Typed access as llama.cpp's loader: the type must match exactly. Absent: LQ_OK and *out
 * untouched if !required, else LQ_EFORMAT naming the key. */
lq_status lq_gguf_get_u32(const lq_gguf *g, const char *key, bool required, uint32_t *out);
lq_status lq_gguf_get_f32(const lq_gguf *g, const char *key, bool required, float *out);
lq_status lq_gguf_get_bool(const lq_gguf *g, const char *key, bool required, bool *out);
/* *out is a copy, the caller's to lq_free. */
lq_status lq_gguf_get_string(const lq_gguf *g, const char *key, bool required, char **out);

/* Elements per block of a ggml type, also of unsupported ones; 0: no such type. */
int lq_gguf_type_block(int ggml_type);

/* ---- writing --------------------------------------------------------------------------------- */
typedef struct lq_gguf_writer lq_gguf_writer;

lq_status lq_gguf_writer_new(lq_gguf_writer **out);
void lq_gguf_writer_free(lq_gguf_writer *w);
/* Copies every key of g (verbatim); later set calls replace. */
lq_status lq_gguf_writer_copy_kv(lq_gguf_writer *w, const lq_gguf *g);
lq_status lq_gguf_writer_set_u32(lq_gguf_writer *w, const char *key, uint32_t v);
lq_status lq_gguf_writer_set_f32(lq_gguf_writer *w, const char *key, float v);
lq_status lq_gguf_writer_set_bool(lq_gguf_writer *w, const char *key, bool v);
/* v: one number of that type. */
lq_status lq_gguf_writer_set_number(lq_gguf_writer *w, const char *key, lq_gguf_type type,
                                    const void *v);
lq_status lq_gguf_writer_set_string(lq_gguf_writer *w, const char *key, const char *v);
lq_status lq_gguf_writer_set_strings(lq_gguf_writer *w, const char *key, const lq_gguf_str *v,
                                     uint64_t n);
/* elem: a number type; data: n packed values, copied. */
lq_status lq_gguf_writer_set_array(lq_gguf_writer *w, const char *key, lq_gguf_type elem,
                                   const void *data, uint64_t n);
void lq_gguf_writer_remove(lq_gguf_writer *w, const char *key);
/* Adds a tensor of `ndim` sizes, ne[0] the row length. `data` must stay alive until the write;
 * NULL: it comes by put.
 * The ggml type is given by id so that tensors of types Loquat does not compute with are copied
 * through. */
lq_status lq_gguf_writer_add(lq_gguf_writer *w, const char *name, int ggml_type, int ndim,
                             const int64_t *ne, const void *data, uint64_t bytes);
/* Writes path through a temporary file beside it: write, fsync, rename, fsync of the directory.
 * On any failure the old file is untouched and the temporary one removed. */
lq_status lq_gguf_writer_write(lq_gguf_writer *w, const char *path);
/* The same in steps, for data that never is in memory as a whole: begin, then the bytes of every
 * tensor in order and in any pieces, then commit. A writer freed before that leaves no file. */
lq_status lq_gguf_writer_begin(lq_gguf_writer *w, const char *path);
lq_status lq_gguf_writer_put(lq_gguf_writer *w, const void *data, size_t bytes);
lq_status lq_gguf_writer_commit(lq_gguf_writer *w);
/* The same file appended to out; only for one without tensors. */
lq_status lq_gguf_writer_memory(const lq_gguf_writer *w, lq_str *out);

/* ---- several files as one ---------------------------------------------------------------------
 * A model that is not a single GGUF file, seen as one: keys as a writer holds them, tensors
 * wherever they lie. */
typedef struct lq_gguf_assembly {
    const char *path;                 /* for messages */
    const lq_gguf_writer *keys;       /* without tensors; may go afterwards */
    const lq_gguf_tensor *tensor;     /* fmt and offset are not looked at; names are copied */
    int64_t n_tensors;
    const lq_bytes *region;           /* the files; copied */
    int n_regions;
    bool hash_keys;                   /* the keys are a region too: they are in none of the files */
    void *owner;                      /* of what the tensors' data lies in: released by close; on */
    void (*release)(void *owner);     /* failure it stays the caller's */
} lq_gguf_assembly;
lq_status lq_gguf_assemble(lq_gguf **out, const lq_gguf_assembly *a);

#endif
