/* A GGUF file in the making that remembers what was meant, so that the written file can be opened
 * again and compared key by key and byte by byte. */
#ifndef LOQUAT_EXPORT_FILE_H
#define LOQUAT_EXPORT_FILE_H

#include "gguf.h"

enum { LQ_EXPORT_MAX_KEYS = 24 };

typedef struct lq_export_key {
    char *key;
    lq_gguf_type type;       /* string, u32 or f32 */
    char *text;
    uint32_t bits;           /* of the u32 or f32 */
} lq_export_key;

typedef struct lq_export_tensor {
    char *name;
    int ggml_type, ndim;
    int64_t ne[4];
    const void *data;        /* borrowed until the file is written */
    uint64_t bytes;
} lq_export_tensor;

typedef struct lq_export {
    lq_gguf_writer *writer;
    const lq_gguf *base;     /* whose keys are copied; NULL: none */
    const char *dropped[4]; int n_dropped;   /* prefixes; literals */
    lq_export_key key[LQ_EXPORT_MAX_KEYS]; int n_keys;
    lq_export_tensor *tensor; int64_t n_tensors, capacity;
} lq_export;

/* A new file; with `base` it starts from all of base's keys but those that would no longer be true.
 */
lq_status lq_export_open(lq_export *e, const lq_gguf *base);
void lq_export_close(lq_export *e);
/* Drops the base's keys that start with `prefix` (a literal), before others of that prefix are set.
 */
void lq_export_drop(lq_export *e, const char *prefix);

lq_status lq_export_string(lq_export *e, const char *key, const char *value);
lq_status lq_export_u32(lq_export *e, const char *key, uint32_t value);
lq_status lq_export_f32(lq_export *e, const char *key, float value);
lq_status lq_export_add(lq_export *e, const char *name, int ggml_type, int ndim, const int64_t *ne,
                        const void *data, uint64_t bytes);

/* Writes `path` atomically and compares what is in it with what was meant. */
lq_status lq_export_write(lq_export *e, const char *path);

#endif
