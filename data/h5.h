/* A few named arrays and strings in an HDF5 file: what checkpoints and the token cache need, no
 * more. Written under a temporary name and published by lq_h5_commit (atomic_file.h). */
#ifndef LOQUAT_H5_H
#define LOQUAT_H5_H

#include "base.h"

typedef struct lq_h5 lq_h5;
typedef enum lq_h5_type {
    LQ_H5_F32, LQ_H5_F64, LQ_H5_I32, LQ_H5_I64, LQ_H5_U64, LQ_H5_U8
} lq_h5_type;

/* LQ_EBUSY while another process writes the same path. */
lq_status lq_h5_create(lq_h5 **out, const char *path);
lq_status lq_h5_write(lq_h5 *h, const char *name, lq_h5_type type, const void *data, int64_t n);
lq_status lq_h5_write_string(lq_h5 *h, const char *name, const char *value);
/* Flush, fsync, rename, fsync of the directory; closes h in every case. */
lq_status lq_h5_commit(lq_h5 *h);

/* Read-only. Files carry a checksum of all their bytes: a damaged one is a clear LQ_EFORMAT. */
lq_status lq_h5_open(lq_h5 **out, const char *path);
/* *out is allocated (lq_free), *n its elements. Absent or of another type: LQ_EFORMAT naming it. */
lq_status lq_h5_read(lq_h5 *h, const char *name, lq_h5_type type, void **out, int64_t *n);
lq_status lq_h5_read_string(lq_h5 *h, const char *name, char **out);
/* Closes; on a file being written: drops it. NULL is fine. */
void lq_h5_close(lq_h5 *h);

#endif
