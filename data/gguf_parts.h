/* What the reader and the writer of GGUF files share: the constants of the format. */
#ifndef LOQUAT_GGUF_PARTS_H
#define LOQUAT_GGUF_PARTS_H

#include "gguf.h"

enum {
    LQ_GGUF_VERSION = 3,
    LQ_GGUF_ALIGNMENT = 32,      /* unless general.alignment says otherwise */
    LQ_GGUF_MAX_NAME = 63,       /* bytes of a tensor's name */
    LQ_GGUF_MAX_DIMS = 4
};

/* Bytes of one number of this type; 0: a string or an array. */
size_t lq_gguf_type_bytes(lq_gguf_type type);
const char *lq_gguf_type_name(lq_gguf_type type);

/* Checks a tensor's type and sizes (no negative ones, whole blocks, no overflow) and gives its
 * bytes. Messages start with the tensor's name. */
lq_status lq_gguf_tensor_bytes(uint64_t *out, const char *name, int ggml_type, int ndim,
                               const int64_t *ne);

/* One GGUF file, be it a part of a split model. */
lq_status lq_gguf_open_one(lq_gguf **out, const char *path);

/* x rounded up to the alignment, a power of two; false: it overflows. */
bool lq_gguf_pad(uint64_t *out, uint64_t x, uint64_t alignment);
/* A power of two. */
bool lq_gguf_alignment_valid(uint32_t alignment);

#endif
