/* safetensors files: 8 bytes header length, a JSON header, the tensors' bytes. Mapped and validated
 * as strictly as the reference reader does: the tensors tile the data without holes or overlaps,
 * each has the bytes that its type and shape make. Also sets of shards with their index, and the
 * writer. */
#ifndef LOQUAT_SAFETENSORS_H
#define LOQUAT_SAFETENSORS_H

#include "format.h"

enum { LQ_ST_MAX_DIMS = 8 };

typedef struct lq_st_tensor {
    char *name;
    const char *dtype;       /* "BF16"; a literal */
    const lq_format *fmt;    /* F32, F16 or BF16; NULL: a type that Loquat does not compute with */
    int ndim;
    int64_t dim[LQ_ST_MAX_DIMS];   /* row-major; dim[ndim-1] is the row length */
    const void *data;        /* in the mapping, aligned to nothing in particular */
    uint64_t bytes;
} lq_st_tensor;

typedef struct lq_safetensors lq_safetensors;

lq_status lq_safetensors_open(lq_safetensors **out, const char *path);
/* DIR/STEM.safetensors, or the shards that DIR/STEM.safetensors.index.json names; the index and the
 * shards must have the same tensors, each in the shard that the index says. */
lq_status lq_safetensors_open_dir(lq_safetensors **out, const char *dir, const char *stem);
/* Is there a DIR/STEM.safetensors or its index? */
bool lq_safetensors_in_dir(const char *dir, const char *stem);
void lq_safetensors_close(lq_safetensors *s);

int64_t lq_safetensors_n(const lq_safetensors *s);
const lq_st_tensor *lq_safetensors_at(const lq_safetensors *s, int64_t i);   /* sorted by name */
const lq_st_tensor *lq_safetensors_find(const lq_safetensors *s, const char *name);
/* The files: n of them, each mapped whole. */
int lq_safetensors_n_files(const lq_safetensors *s);
const void *lq_safetensors_file(const lq_safetensors *s, int i, size_t *bytes);

/* "(2,64)" */
const char *lq_st_shape(char text[96], const lq_st_tensor *t);

/* ---- writing --------------------------------------------------------------------------------- */

/* Writes the tensors, sorted by type (the widest first) and name as the reference writer does, and
 * the metadata {"format": "pt"}; atomic. `dtype` is not looked at, `fmt` must be set. */
lq_status lq_safetensors_write(const char *path, const lq_st_tensor *tensor, int64_t n);
/* The same in shards of at most `shard_bytes` (a larger tensor is a shard of its own) with their
 * index; one file without an index when that suffices. */
lq_status lq_safetensors_write_dir(const char *dir, const char *stem, const lq_st_tensor *tensor,
                                   int64_t n, uint64_t shard_bytes);

#endif
